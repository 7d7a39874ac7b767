/**
 * The only way to the blocks of file data (fs/iomap, ext4_iomap_ops): `begin` says where a range is and allocates
 * unwritten extents for a write, the caller moves the bytes, `ioend` marks them written and raises i_size, `end` gives
 * back what was allocated and not used. Data is on the device before the log says so: no crash shows another file's.
 *
 * Two writes under way at the same time must not share the last block of a file, nor any other block that neither
 * covers: the caller serialises them, as the kernel does with the inode's lock.
 */
import { CorruptionError, FsError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { mayUseReservedBlocks } from './block-alloc.js';
import { goalFor, type Mapping, mapBlock, maxFileBytes, removeBlocks } from './block-map.js';
import { type Placement, placeBlocks } from './cluster-map.js';
import { isEncrypted } from './encrypted-names.js';
import { zeroBeforeGrowth } from './eof-tail.js';
import { EXTENT_CREDITS } from './extent-edit.js';
import { convertUnwritten, insertExtent } from './extent-insert.js';
import { EXT_MAX_BLOCKS } from './format/extent.js';
import { EXT4_IMMUTABLE_FL } from './format/inode.js';
import { moveToBlock } from './inline-data.js';
import { type Ino, Inode } from './inode.js';
import { breakPromises, hasPromises, KEEP_CREDITS, keepPromises, promise, promisedAt } from './promised-blocks.js';
import { allowFileSize } from './superblock-io.js';
import type { Volume } from './volume.js';

/** Mapping types: the numbers of FUSE_IOMAP_TYPE_*. */
export const TYPE_HOLE = 0;
export const TYPE_MAPPED = 2;
export const TYPE_UNWRITTEN = 3;

/** Mapping flags. */
export const FLAG_NEW = 1 << 0;
export const FLAG_DIRTY = 1 << 1;

/** Operation flags. */
export const OP_WRITE = 1 << 0;
export const OP_ZERO = 1 << 1;
export const OP_REPORT = 1 << 2;
export const OP_OVERWRITE_ONLY = 1 << 6;
export const OP_UNSHARE = 1 << 7;
export const OP_WRITEBACK = 0x80000000;
const OP_ANY_WRITE = OP_WRITE | OP_ZERO | OP_UNSHARE | OP_WRITEBACK;

/** Ioend flag of this program, outside the protocol's: also set mtime and ctime to now. */
export const IOEND_UPDATE_TIMES = 1 << 16;

export interface IomapMapping {
  /** Byte range of the file, whole blocks. */
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** Where it is on the device; -1 for a hole. */
  readonly addrBytes: number;
  readonly type: typeof TYPE_HOLE | typeof TYPE_MAPPED | typeof TYPE_UNWRITTEN;
  readonly flags: number;
}

/** Writes of at least this many blocks are of a file that is going to be large (s_mb_stream_request). */
const STREAM_BLOCKS = 16;
/** Window behind a growing file: as long as the file is, within these (ext4_mb_normalize_request). */
const MIN_WINDOW_BLOCKS = 8;
const MAX_WINDOW_BYTES = 8 << 20;

/** An inode with data of its own: i_block of a device node is its number, of a short link its target. Throws FsError ENOKEY, EISDIR, EINVAL. */
export function dataInode(vol: Volume, ino: Ino): Inode {
  const inode = Inode.get(vol, ino);
  if (isEncrypted(inode)) throw new FsError('ENOKEY', `inode ${ino} is encrypted`);
  if (inode.isRegular) return inode;
  throw new FsError(inode.isDirectory ? 'EISDIR' : 'EINVAL', `inode ${ino} is not a regular file`);
}

function toIomap(vol: Volume, ino: Ino, mapping: Mapping, flags: number): IomapMapping {
  const { blockSize } = vol.geometry;
  const dirty = vol.lastChange(ino) === undefined ? 0 : FLAG_DIRTY;
  return {
    offsetBytes: mapping.lblk * blockSize,
    lengthBytes: mapping.count * blockSize,
    addrBytes: mapping.pblk === 0 ? -1 : mapping.pblk * blockSize,
    type: mapping.pblk === 0 ? TYPE_HOLE : mapping.unwritten ? TYPE_UNWRITTEN : TYPE_MAPPED,
    flags: flags | dirty,
  };
}

/**
 * Where the bytes from `posBytes` on are, for `countBytes` or more or less of them. A write over a hole gets unwritten
 * blocks, flagged NEW: when it writes only part of the first or the last of them, it fills the rest with zeroes.
 * Throws FsError (EISDIR, EINVAL, EPERM, EROFS, EFBIG, ENOSPC, EDQUOT), CorruptionError, UnsupportedError.
 */
export function begin(vol: Volume, ino: Ino, posBytes: number, countBytes: number, opflags: number): IomapMapping {
  const inode = dataInode(vol, ino);
  const { blockSize } = vol.geometry;
  if (!(posBytes >= 0) || !(countBytes > 0)) throw new FsError('EINVAL', `range ${posBytes}+${countBytes}`);
  if (posBytes >= maxFileBytes(inode)) throw new FsError('EFBIG');
  const lblk = Math.floor(posBytes / blockSize);
  const writing = (opflags & OP_ANY_WRITE) !== 0 && (opflags & OP_REPORT) === 0;
  if (writing) {
    checkWritable(inode, opflags);
    if (inode.journalsData) throw new FsError('EOPNOTSUPP', `the data of inode ${ino} goes through the log`);
    moveToBlock(vol, ino);
  } else if (inode.hasInlineData) throw new FsError('EOPNOTSUPP', `the data of inode ${ino} is in the inode`);
  const mapping = mapBlock(inode, lblk);
  if (mapping.pblk !== 0 || !writing || (opflags & (OP_ZERO | OP_OVERWRITE_ONLY)) !== 0) {
    return toIomap(vol, ino, mapping, 0);
  }
  const endLblk = Math.min(Math.ceil((posBytes + countBytes) / blockSize), EXT_MAX_BLOCKS);
  const count = Math.min(endLblk - lblk, mapping.count);
  if (!inode.usesExtents) {
    const promised = promisedAt(vol, ino, lblk) ?? promise(vol, ino, lblk, count, windowFor(vol, lblk, count, false));
    return toIomap(vol, ino, { ...promised, unwritten: true }, FLAG_NEW);
  }
  const run = allocateUnwritten(vol, ino, lblk, count);
  return toIomap(vol, ino, { lblk, count: run.count, pblk: run.start, unwritten: true }, FLAG_NEW);
}

/** Fills the start of a hole with unwritten blocks, in a handle of its own. Throws FsError ENOSPC, EDQUOT. */
export function allocateUnwritten(vol: Volume, ino: Ino, lblk: number, count: number): Placement {
  return vol.journal.run(EXTENT_CREDITS + 3, (handle) => allocateAt(handle, Inode.get(vol, ino), lblk, count), true);
}

function allocateAt(handle: Handle, inode: Inode, lblk: number, count: number): Placement {
  const { vol } = inode;
  const { goal, continues } = goalFor(inode, lblk);
  const placed = placeBlocks(handle, inode, lblk, {
    goal,
    continues,
    count,
    window: windowFor(vol, lblk, count, continues),
    ino: inode.ino,
    privileged: mayUseReservedBlocks(vol, inode.uid, inode.gid),
  });
  insertExtent(handle, inode, lblk, placed.start, placed.count, true, placed.charged);
  return placed;
}

/**
 * Blocks to keep for the file to grow into. A file that is written in one small piece gets none, so that small files
 * lie next to each other; one that comes back for more, or starts large, does.
 */
function windowFor(vol: Volume, lblk: number, count: number, continues: boolean): number {
  if (!continues && (lblk !== 0 || count < STREAM_BLOCKS)) return 0;
  const most = Math.floor(MAX_WINDOW_BYTES / vol.geometry.blockSize);
  return Math.max(MIN_WINDOW_BLOCKS, Math.min(lblk + count, most));
}

/**
 * `writtenBytes` from `posBytes` on have reached the device at `addrBytes` (-1: wherever the file has them): unwritten
 * blocks there become written, and i_size rises to cover them. With `errorErrno` nothing changes. Returns the size.
 */
export function ioend(
  vol: Volume,
  ino: Ino,
  posBytes: number,
  writtenBytes: number,
  addrBytes: number,
  flags: number,
  errorErrno: number,
): number {
  const inode = dataInode(vol, ino);
  const size = inode.sizeBytes;
  if (errorErrno !== 0 || writtenBytes <= 0) return size;
  const { blockSize } = vol.geometry;
  const end = posBytes + writtenBytes;
  if (end > maxFileBytes(inode)) throw new FsError('EFBIG');
  const lblk = Math.floor(posBytes / blockSize);
  const count = Math.ceil(end / blockSize) - lblk;
  const pblk = addrBytes < 0 ? -1 : Math.floor(addrBytes / blockSize);
  if (!inode.usesExtents) return mapWritten(inode, posBytes, writtenBytes, pblk, flags);
  const converts = hasUnwritten(inode, lblk, count);
  const times = (flags & IOEND_UPDATE_TIMES) !== 0;
  if (!converts && end <= size && !times) return size;
  const work = (handle: Handle) => {
    // Before the conversion: which blocks hold old bytes behind the end can only be told now.
    if (end > size) zeroBeforeGrowth(vol, inode, posBytes);
    if (converts) convertUnwritten(handle, inode, lblk, count, pblk);
    raiseSize(handle, Inode.load(vol, ino), end, flags);
  };
  vol.journal.run(EXTENT_CREDITS + 2, work, true);
  return Math.max(size, end);
}

/** Conversions in one handle: each asks for more room if it needs it. */
const CONVERTED_TOGETHER = 8;

/**
 * The ioend of many writes within i_size at once: `ranges` ([offset, length] in bytes, whole blocks) have data on the
 * device wherever the file has them, and become written. Nothing else of the inode changes. Throws FsError, CorruptionError.
 */
export function convert(vol: Volume, ino: Ino, ranges: readonly (readonly [number, number])[]): void {
  let failure: FsError | CorruptionError | null = null;
  for (let i = 0; i < ranges.length; i += CONVERTED_TOGETHER) {
    try {
      convertTogether(vol, ino, ranges.slice(i, i + CONVERTED_TOGETHER));
    } catch (error) {
      // The others are elsewhere in the tree.
      if (!(error instanceof FsError || error instanceof CorruptionError)) throw error;
      failure ??= error;
    }
  }
  if (failure !== null) throw failure;
}

function convertTogether(vol: Volume, ino: Ino, ranges: readonly (readonly [number, number])[]): void {
  const { blockSize } = vol.geometry;
  const work = (handle: Handle) => {
    for (const [posBytes, lengthBytes] of ranges)
      convertUnwritten(handle, dataInode(vol, ino), posBytes / blockSize, lengthBytes / blockSize, -1);
  };
  try {
    vol.journal.run(EXTENT_CREDITS + 2, work, true);
  } catch (error) {
    if (!(error instanceof FsError) || error.code !== 'ENOSPC') throw error;
    // The tree has to grow, and freed blocks may only wait for a commit.
    vol.journal.commitNow();
    vol.journal.run(EXTENT_CREDITS + 2, work, true);
  }
}

/**
 * The ioend of a block-mapped file: the blocks promised for the range become the file's, with i_size in the same
 * transaction, for a block behind the end belongs to nobody. With `pblk` below 0 wherever they are.
 */
function mapWritten(inode: Inode, posBytes: number, writtenBytes: number, pblk: number, flags: number): number {
  const { vol, ino } = inode;
  const { blockSize } = vol.geometry;
  const end = posBytes + writtenBytes;
  const stop = Math.ceil(end / blockSize);
  const first = Math.floor(posBytes / blockSize);
  for (let lblk = first; lblk < stop && hasPromises(vol, ino); ) {
    const run = promisedAt(vol, ino, lblk);
    const count = run === null ? 1 : Math.min(run.count, stop - lblk);
    const expected = run !== null && (pblk < 0 || run.pblk === pblk + (lblk - first));
    if (expected) {
      vol.journal.run(KEEP_CREDITS + 2, (handle) => {
        const reached = Math.min(end, (lblk + count) * blockSize);
        const before = Inode.get(vol, ino);
        if (reached > before.sizeBytes) zeroBeforeGrowth(vol, before, posBytes);
        keepPromises(handle, vol, ino, lblk, count);
        raiseSize(handle, Inode.get(vol, ino), reached, flags);
      });
    }
    lblk += count;
  }
  const current = Inode.get(vol, ino);
  const size = current.sizeBytes;
  if (end > size || (flags & IOEND_UPDATE_TIMES) !== 0) {
    vol.journal.run(2, (handle) => {
      if (end > size) zeroBeforeGrowth(vol, current, posBytes);
      raiseSize(handle, current, end, flags);
    });
  }
  return Math.max(size, end);
}

/**
 * Throws FsError EROFS, and EPERM for an immutable file; not for write-back, whose data was written before it became so.
 * That an append-only file is opened for appending only is for whoever opens it to see to.
 */
export function checkWritable(inode: Inode, opflags: number): void {
  if (inode.vol.readOnly) throw new FsError('EROFS');
  if ((opflags & OP_WRITEBACK) === 0 && inode.hasFlag(EXT4_IMMUTABLE_FL))
    throw new FsError('EPERM', `inode ${inode.ino} is immutable`);
}

/** i_size rises to `end` if that is more; what lies between has been zeroed. */
export function raiseSize(handle: Handle, inode: Inode, end: number, flags: number): void {
  const { vol, sizeBytes } = inode;
  const times = (flags & IOEND_UPDATE_TIMES) !== 0;
  if (end <= sizeBytes && !times) return;
  const writable = inode.edit(handle);
  if (end > sizeBytes) {
    allowFileSize(handle, vol, end);
    writable.setSizeBytes(end);
  }
  if (times) {
    const now = vol.env.now();
    writable.setMtime(now);
    writable.setCtime(now);
  }
}

function hasUnwritten(inode: Inode, lblk: number, count: number): boolean {
  for (let at = lblk; at < lblk + count; ) {
    const mapping = mapBlock(inode, at);
    if (mapping.unwritten) return true;
    at += mapping.count;
  }
  return false;
}

/**
 * The operation that `mapping` was given for is over. Blocks that `begin` allocated for it and that it did not write
 * are given back if they are still the unwritten ones of that mapping.
 */
export function end(
  vol: Volume,
  ino: Ino,
  posBytes: number,
  countBytes: number,
  writtenBytes: number,
  _opflags: number,
  mapping: IomapMapping,
): void {
  if ((mapping.flags & FLAG_NEW) === 0 || mapping.type !== TYPE_UNWRITTEN || writtenBytes >= countBytes) return;
  if (vol.readOnly) return;
  const { blockSize } = vol.geometry;
  const first = writtenBytes > 0 ? Math.ceil((posBytes + writtenBytes) / blockSize) : Math.floor(posBytes / blockSize);
  const mappingLblk = mapping.offsetBytes / blockSize;
  const mappingPblk = mapping.addrBytes / blockSize;
  const stop = Math.min(Math.ceil((posBytes + countBytes) / blockSize), mappingLblk + mapping.lengthBytes / blockSize);
  if (first >= stop) return;
  const inode = dataInode(vol, ino);
  if (!inode.usesExtents) {
    breakPromises(vol, ino, first, stop - first);
    return;
  }
  const giveBack = (handle: Handle) => {
    let current = inode;
    for (let at = first; at < stop; ) {
      const now = mapBlock(current, at);
      const count = Math.min(now.count, stop - at);
      if (now.unwritten && now.pblk === mappingPblk + (at - mappingLblk)) {
        removeBlocks(handle, current, at, at + count);
        current = Inode.load(vol, ino);
      }
      at += count;
    }
  };
  vol.journal.run(EXTENT_CREDITS * 2, giveBack, true);
}
