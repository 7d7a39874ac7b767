/** Space and holes by request: fallocate(2) and lseek(2) with SEEK_DATA and SEEK_HOLE. */
import { FsError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { mapBlock, maxFileBytes, removalCredits, removeBlocks } from './block-map.js';
import { zeroBeforeGrowth, zeroWritten } from './eof-tail.js';
import { EXTENT_CREDITS } from './extent-edit.js';
import { convertWritten } from './extent-insert.js';
import { collapseRange, insertRange } from './fallocate-shift.js';
import { EXT4_APPEND_FL, EXT4_IMMUTABLE_FL } from './format/inode.js';
import { moveToBlock } from './inline-data.js';
import { type Ino, Inode } from './inode.js';
import { allocateUnwritten, dataInode } from './iomap.js';
import { allowFileSize } from './superblock-io.js';
import type { Volume } from './volume.js';

/** Modes of fallocate(2). */
export const FALLOC_FL_KEEP_SIZE = 0x01;
export const FALLOC_FL_PUNCH_HOLE = 0x02;
export const FALLOC_FL_COLLAPSE_RANGE = 0x08;
export const FALLOC_FL_ZERO_RANGE = 0x10;
export const FALLOC_FL_INSERT_RANGE = 0x20;

const MODES: ReadonlySet<number> = new Set([
  0,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_ZERO_RANGE,
  FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
]);

/**
 * The modes that ext4 has: 0 and ZERO_RANGE, each with or without KEEP_SIZE, PUNCH_HOLE with it, COLLAPSE_RANGE and
 * INSERT_RANGE without; there is nothing to unshare. What is allocated when space runs out stays allocated, as in the
 * kernel. No data I/O of the file may be under way. Throws FsError (EOPNOTSUPP, EINVAL, EISDIR, ENODEV, EPERM,
 * EFBIG, ENOSPC), UnsupportedError, CorruptionError.
 */
export function fallocate(vol: Volume, ino: Ino, mode: number, offsetBytes: number, lengthBytes: number): void {
  const inode = Inode.get(vol, ino);
  const kind = mode & ~FALLOC_FL_KEEP_SIZE;
  // In the order of vfs_fallocate.
  if (!(offsetBytes >= 0) || !(lengthBytes > 0)) throw new FsError('EINVAL');
  if (!MODES.has(mode)) throw new FsError('EOPNOTSUPP', `fallocate mode ${mode}`);
  if (kind !== 0 && inode.hasFlag(EXT4_APPEND_FL)) throw new FsError('EPERM', `inode ${ino} is append-only`);
  if (inode.hasFlag(EXT4_IMMUTABLE_FL)) throw new FsError('EPERM', `inode ${ino} is immutable`);
  if (!inode.isRegular) throw new FsError(inode.isDirectory ? 'EISDIR' : 'ENODEV');
  const end = offsetBytes + lengthBytes;
  if (end > maxFileBytes(inode)) throw new FsError('EFBIG');
  moveToBlock(vol, ino);
  if (!inode.usesExtents && kind !== FALLOC_FL_PUNCH_HOLE)
    throw new FsError('EOPNOTSUPP', 'a block-mapped file has no unwritten blocks, and none that can be moved');

  switch (kind) {
    case FALLOC_FL_PUNCH_HOLE:
      punchHole(vol, inode, offsetBytes, end);
      break;
    case FALLOC_FL_COLLAPSE_RANGE:
      collapseRange(vol, ino, offsetBytes, lengthBytes);
      break;
    case FALLOC_FL_INSERT_RANGE:
      insertRange(vol, ino, offsetBytes, lengthBytes);
      break;
    default:
      if (kind === FALLOC_FL_ZERO_RANGE) zeroRange(vol, inode, offsetBytes, end);
      allocateRange(vol, ino, offsetBytes, end);
      finish(vol, ino, (mode & FALLOC_FL_KEEP_SIZE) !== 0 ? 0 : end);
  }
}

/** Holes in the blocks of [offset, end) get unwritten extents. */
function allocateRange(vol: Volume, ino: Ino, offset: number, end: number): void {
  const { blockSize } = vol.geometry;
  const stop = Math.ceil(end / blockSize);
  for (let lblk = Math.floor(offset / blockSize); lblk < stop; ) {
    const mapping = mapBlock(Inode.get(vol, ino), lblk);
    const count = Math.min(mapping.count, stop - lblk);
    lblk += mapping.pblk === 0 ? allocateUnwritten(vol, ino, lblk, count).count : count;
  }
}

/** Whole blocks inside [offset, end). */
function wholeBlocks(vol: Volume, offset: number, end: number): { first: number; stop: number } {
  const { blockSize } = vol.geometry;
  const first = Math.ceil(offset / blockSize);
  return { first, stop: Math.max(first, Math.floor(end / blockSize)) };
}

/** Parts of blocks at the edges of [offset, end) are zeroed on the device at once. */
function zeroEdges(vol: Volume, inode: Inode, offset: number, end: number): void {
  const { blockSize } = vol.geometry;
  const { first, stop } = wholeBlocks(vol, offset, end);
  zeroWritten(vol, inode, offset, Math.min(end, first * blockSize));
  if (end > first * blockSize) zeroWritten(vol, inode, stop * blockSize, end);
}

function punchHole(vol: Volume, inode: Inode, offset: number, end: number): void {
  zeroEdges(vol, inode, offset, end);
  const { first, stop } = wholeBlocks(vol, offset, end);
  // Half of a hole is a hole: no orphan record is needed if this takes several transactions.
  const remove = (handle: Handle) => removeBlocks(handle, inode, first, stop);
  if (stop > first) vol.journal.run(removalCredits(inode), remove, true);
  finish(vol, inode.ino, 0);
}

function zeroRange(vol: Volume, inode: Inode, offset: number, end: number): void {
  zeroEdges(vol, inode, offset, end);
  const { first, stop } = wholeBlocks(vol, offset, end);
  if (stop === first) return;
  vol.beforeDataMoves(inode.ino);
  vol.journal.run(EXTENT_CREDITS, (handle) => convertWritten(handle, inode, first, stop - first), true);
}

/** Times, and the size if it is to reach `end`. */
function finish(vol: Volume, ino: Ino, end: number): void {
  const change = (handle: Handle) => {
    const inode = Inode.get(vol, ino);
    const grows = end > inode.sizeBytes;
    if (grows) zeroBeforeGrowth(vol, inode, end);
    const writable = inode.edit(handle);
    if (grows) {
      allowFileSize(handle, vol, end);
      writable.setSizeBytes(end);
    }
    const now = vol.env.now();
    writable.setMtime(now);
    writable.setCtime(now);
  };
  vol.journal.run(2, change, true);
}

/**
 * The first byte of data, or of a hole, at or after `offsetBytes`. Unwritten extents are holes; the end of the file is
 * one, too. Throws FsError ENXIO at or behind the end, and for `data` if there is none; EISDIR, EINVAL.
 */
export function seekDataHole(vol: Volume, ino: Ino, offsetBytes: number, whence: 'data' | 'hole'): number {
  const inode = dataInode(vol, ino);
  const size = inode.sizeBytes;
  if (!(offsetBytes >= 0) || offsetBytes >= size) throw new FsError('ENXIO');
  if (inode.hasInlineData) return whence === 'data' ? offsetBytes : size;
  const { blockSize } = vol.geometry;
  for (let pos = offsetBytes; pos < size; ) {
    const lblk = Math.floor(pos / blockSize);
    const mapping = mapBlock(inode, lblk);
    const isData = mapping.pblk !== 0 && !mapping.unwritten;
    if (isData === (whence === 'data')) return pos;
    pos = (lblk + mapping.count) * blockSize;
  }
  if (whence === 'data') throw new FsError('ENXIO');
  return size;
}
