/** struct fuse_attr and its relatives from the engine's stat. */
import type { WriteView } from '../codec/view.js';
import type { InodeStat } from '../ext4/filesystem.js';
import type { Ino } from '../ext4/inode.js';
import { ATTR, ATTR_OUT, ENTRY_OUT, STATX, STATX_BASIC_STATS, STATX_BTIME, STATX_OUT, SX_TIME } from './abi.js';
import type { Context } from './context.js';
import { nodeidOf } from './request.js';

/**
 * Seconds the kernel may keep names and attributes. This server is the only writer and every change goes through the
 * kernel that keeps them, so nothing ever grows stale.
 */
export const CACHE_SECONDS = 86_400;

/**
 * Names in a casefolded directory are not kept at all: the kernel would tell `Name` from `name`, and keep one when the other
 * has gone.
 */
export function nameSecondsIn({ fs }: Context, directory: Ino): number {
  return fs.foldsCase(directory) ? 0 : CACHE_SECONDS;
}

export function putAttr(view: WriteView, base: number, stat: InodeStat, blockSize: number): void {
  ATTR.ino.set(view, base, stat.ino);
  ATTR.size.set(view, base, stat.size);
  ATTR.blocks.set(view, base, stat.blocks512);
  ATTR.atime.set(view, base, stat.atime.seconds);
  ATTR.mtime.set(view, base, stat.mtime.seconds);
  ATTR.ctime.set(view, base, stat.ctime.seconds);
  ATTR.atimensec.set(view, base, stat.atime.nanoseconds);
  ATTR.mtimensec.set(view, base, stat.mtime.nanoseconds);
  ATTR.ctimensec.set(view, base, stat.ctime.nanoseconds);
  ATTR.mode.set(view, base, stat.mode);
  ATTR.nlink.set(view, base, stat.nlink);
  ATTR.uid.set(view, base, stat.uid);
  ATTR.gid.set(view, base, stat.gid);
  ATTR.rdev.set(view, base, stat.rdev);
  ATTR.blksize.set(view, base, blockSize);
  ATTR.flags.set(view, base, 0);
}

export function putAttrOut(view: WriteView, base: number, stat: InodeStat, blockSize: number): number {
  ATTR_OUT.attr_valid.set(view, base, CACHE_SECONDS);
  ATTR_OUT.attr_valid_nsec.set(view, base, 0);
  ATTR_OUT.dummy.set(view, base, 0);
  putAttr(view, base + ATTR_OUT.attr.offset, stat, blockSize);
  return ATTR_OUT.SIZE;
}

/** `nameSeconds`: how long the kernel may keep that the name stands for the inode. */
export function putEntryOut(
  view: WriteView,
  base: number,
  stat: InodeStat,
  blockSize: number,
  nameSeconds: number,
): number {
  ENTRY_OUT.nodeid.set(view, base, nodeidOf(stat.ino));
  ENTRY_OUT.generation.set(view, base, stat.generation);
  ENTRY_OUT.entry_valid.set(view, base, nameSeconds);
  ENTRY_OUT.attr_valid.set(view, base, CACHE_SECONDS);
  ENTRY_OUT.entry_valid_nsec.set(view, base, 0);
  ENTRY_OUT.attr_valid_nsec.set(view, base, 0);
  putAttr(view, base + ENTRY_OUT.attr.offset, stat, blockSize);
  return ENTRY_OUT.SIZE;
}

/** An entry without an inode: in the reply to a lookup "there is no such name", in READDIRPLUS "look it up yourself". */
export function putEmptyEntry(view: WriteView, bytes: Uint8Array, base: number, validSeconds: number): number {
  bytes.fill(0, base, base + ENTRY_OUT.SIZE);
  ENTRY_OUT.entry_valid.set(view, base, validSeconds);
  return ENTRY_OUT.SIZE;
}

export function putStatxOut(
  view: WriteView,
  bytes: Uint8Array,
  base: number,
  stat: InodeStat,
  blockSize: number,
): number {
  bytes.fill(0, base, base + STATX_OUT.SIZE);
  STATX_OUT.attr_valid.set(view, base, CACHE_SECONDS);
  const sx = base + STATX_OUT.stat.offset;
  STATX.mask.set(view, sx, stat.crtime === null ? STATX_BASIC_STATS : STATX_BASIC_STATS | STATX_BTIME);
  STATX.blksize.set(view, sx, blockSize);
  STATX.nlink.set(view, sx, stat.nlink);
  STATX.uid.set(view, sx, stat.uid);
  STATX.gid.set(view, sx, stat.gid);
  STATX.mode.set(view, sx, stat.mode);
  STATX.ino.set(view, sx, stat.ino);
  STATX.size.set(view, sx, stat.size);
  STATX.blocks.set(view, sx, stat.blocks512);
  const times = [
    [STATX.atime.offset, stat.atime],
    [STATX.btime.offset, stat.crtime ?? { seconds: 0, nanoseconds: 0 }],
    [STATX.ctime.offset, stat.ctime],
    [STATX.mtime.offset, stat.mtime],
  ] as const;
  for (const [offset, time] of times) {
    SX_TIME.tv_sec.set(view, sx + offset, time.seconds);
    SX_TIME.tv_nsec.set(view, sx + offset, time.nanoseconds);
  }
  // new_encode_dev: minor in bits 0-7 and 20-31, major in bits 8-19.
  STATX.rdev_major.set(view, sx, (stat.rdev >>> 8) & 0xfff);
  STATX.rdev_minor.set(view, sx, (stat.rdev & 0xff) | ((stat.rdev >>> 12) & 0xfff00));
  return STATX_OUT.SIZE;
}
