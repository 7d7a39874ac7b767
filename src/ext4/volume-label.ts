/** The name of the filesystem (s_volume_name, ext4_ioctl_setlabel). */
import { FsError } from '../errors.js';
import { SUPERBLOCK } from './format/superblock.js';
import type { Volume } from './volume.js';

const LABEL_BYTES = 16;

/** Without the padding. */
export function getLabel(vol: Volume): Uint8Array {
  const { bytes } = vol.superblock();
  const label = SUPERBLOCK.s_volume_name.of(bytes, vol.geometry.superblockOffset) as Uint8Array;
  const end = label.indexOf(0);
  return label.slice(0, end < 0 ? LABEL_BYTES : end);
}

/** The backup superblocks keep the old one, until e2fsck or tune2fs writes them. Throws FsError EINVAL if it is too long. */
export function setLabel(vol: Volume, label: Uint8Array): void {
  if (label.length > LABEL_BYTES) throw new FsError('EINVAL', `a label has at most ${LABEL_BYTES} bytes`);
  vol.journal.run(1, (handle) => {
    const block = handle.getWriteAccess(vol.superblock());
    const at = vol.geometry.superblockOffset + SUPERBLOCK.s_volume_name.offset;
    block.bytes.fill(0, at, at + LABEL_BYTES);
    block.bytes.set(label, at);
    handle.dirtyMetadata(block);
  });
}
