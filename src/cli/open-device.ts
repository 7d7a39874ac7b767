/** From the words of a mount to the device that is served: image, partition, side file, external journal. */
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, ftruncateSync, openSync } from 'node:fs';
import type { BlockDevice } from '../block/device.js';
import { FileDevice } from '../block/file-device.js';
import { SideFileDevice } from '../block/side-file.js';
import { CorruptionError, FsError } from '../errors.js';
import { withBackupSuperblock } from '../ext4/backup-superblock.js';
import { SUPERBLOCK_OFFSET } from '../ext4/format/superblock.js';
import { attachJournal } from './attach-journal.js';
import { CommandError } from './command-error.js';
import { blockDevicePath } from './device-number.js';
import type { MountOptions } from './mount-options.js';
import { findPartition, type Part } from './partitions.js';

export interface OpenedDevice {
  readonly device: BlockDevice;
  /** The image, if file data goes straight to it. */
  readonly image: FileDevice | null;
}

/** How much of an image tells it from others. */
const IDENTITY_BYTES = 64 << 10;

/** Throws CommandError, UnsupportedError, FsError, CorruptionError. `tell` says what was decided on the way. */
export function openDevice(image: string, options: MountOptions, tell: (line: string) => void): OpenedDevice {
  const part = options.part === undefined ? options : findPartition(image, options.part);
  if (options.overlayFile !== undefined) {
    const below = FileDevice.open(image, { readOnly: true, ...pick(part) });
    try {
      return { device: withSideFile(below, options.overlayFile), image: null };
    } catch (error) {
      below.close();
      throw error;
    }
  }
  if (options.superblockAt !== undefined) return { device: byCopy(image, part, options, tell), image: null };
  const file = openImage(image, part, options, tell);
  try {
    const journals = [...options.journalPaths, ...options.journalDevices.map((number) => blockDevicePath(number))];
    return { device: attachJournal(file, journals, file.readOnly), image: file };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** What has lost its first superblock is only read. */
function byCopy(image: string, part: Part, options: MountOptions, tell: (line: string) => void): BlockDevice {
  if (options.readWrite)
    throw new CommandError(`${image}: with sb= it can only be read; repair it with e2fsck -b, or mount with ro`);
  const file = FileDevice.open(image, { readOnly: true, ...pick(part) });
  try {
    tell(`read by the copy of the superblock at byte ${options.superblockAt}, read-only`);
    return withBackupSuperblock(file, options.superblockAt ?? SUPERBLOCK_OFFSET);
  } catch (error) {
    file.close();
    throw error;
  }
}

const pick = ({ offsetBytes, sizeLimitBytes }: Part) => ({ offsetBytes, sizeLimitBytes });

/** What may not be written is opened for reading, unless `rw` was asked for. */
function openImage(image: string, part: Part, options: MountOptions, tell: (line: string) => void): FileDevice {
  if (!options.readOnly) {
    try {
      return FileDevice.open(image, pick(part));
    } catch (error) {
      const code = error instanceof FsError ? error.code : '';
      if (options.readWrite || !['EACCES', 'EPERM', 'EROFS'].includes(code)) throw error;
    }
  }
  const device = FileDevice.open(image, { readOnly: true, ...pick(part) });
  if (!options.readOnly) tell('write-protected, mounting read-only');
  return device;
}

function withSideFile(below: FileDevice, path: string): BlockDevice {
  const bytes = SideFileDevice.fileBytes(below.sizeBytes);
  const fd = openSync(path, 'a+');
  try {
    const stat = fstatSync(fd);
    // What someone else has in that file stays as it is.
    if (!stat.isFile() || (stat.size !== 0 && stat.size !== bytes))
      throw new CorruptionError('overlay file', path, 'it is no overlay file, or belongs to another image');
    // Sparse: it takes the space of what is written, and has its length from the start.
    if (stat.size === 0) ftruncateSync(fd, bytes);
  } finally {
    closeSync(fd);
  }
  const side = FileDevice.open(path);
  try {
    const start = new Uint8Array(Math.min(IDENTITY_BYTES, below.sizeBytes));
    below.read(0, start);
    return SideFileDevice.open(below, side, createHash('sha256').update(start).digest());
  } catch (error) {
    side.close();
    throw error;
  }
}
