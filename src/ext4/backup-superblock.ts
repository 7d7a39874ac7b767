/** Reading a filesystem whose first superblock is lost by one of its copies (mount -o sb=). */
import type { BlockDevice } from '../block/device.js';
import { OverlayDevice } from '../block/overlay-device.js';
import { readView } from '../codec/view.js';
import { CorruptionError } from '../errors.js';
import { SUPERBLOCK, SUPERBLOCK_OFFSET } from './format/superblock.js';
import { Geometry } from './volume.js';

/**
 * The device with the copy at `offsetBytes`, and the group descriptors behind it, in the place of the first ones; the
 * device itself is not changed. Throws CorruptionError if there is no superblock. For reading only: the counts of a copy
 * are old.
 */
export function withBackupSuperblock(device: BlockDevice, offsetBytes: number): BlockDevice {
  const bytes = new Uint8Array(SUPERBLOCK.SIZE);
  if (offsetBytes + bytes.length > device.sizeBytes)
    throw new CorruptionError('superblock', `byte ${offsetBytes}`, 'the device ends before it');
  device.read(offsetBytes, bytes);
  const geometry = new Geometry(readView(bytes), bytes, device.sizeBytes);
  const { blockSize } = geometry;
  const overlay = new OverlayDevice(device);
  const descriptors = new Uint8Array(geometry.gdtBlocks * blockSize);
  device.read((Math.floor(offsetBytes / blockSize) + 1) * blockSize, descriptors);
  overlay.write(SUPERBLOCK_OFFSET, bytes);
  overlay.write((geometry.superblockBlock + 1) * blockSize, descriptors);
  return overlay;
}
