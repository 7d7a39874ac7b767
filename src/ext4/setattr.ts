/** Attributes of an inode but for its size (ext4_setattr), and the access time. */
import { FsError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import {
  EXT4_APPEND_FL,
  EXT4_IMMUTABLE_FL,
  EXT4_NOATIME_FL,
  S_IFDIR,
  S_IFMT,
  S_ISGID,
  S_ISUID,
} from './format/inode.js';
import { type Ino, Inode } from './inode.js';
import type { Timestamp, Volume } from './volume.js';

export interface AttributeChanges {
  /** Permission bits; the type stays. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly atime?: Timestamp | 'now';
  readonly mtime?: Timestamp | 'now';
  readonly ctime?: Timestamp | 'now';
}

export type AtimePolicy = 'noatime' | 'nodiratime' | 'relatime' | 'strictatime';

/**
 * ctime becomes now unless it is given. Throws FsError EPERM for an immutable inode, and for an append-only one unless
 * its times become now (may_setattr); EDQUOT.
 */
export function setattr(vol: Volume, ino: Ino, changes: AttributeChanges): void {
  const { mode, uid, gid, atime, mtime, ctime } = changes;
  const inode = Inode.get(vol, ino);
  if (mode === undefined && uid === undefined && gid === undefined && atime === undefined) {
    if (mtime === undefined && ctime === undefined) return;
    // The kernel sends the time of its unlink. Nobody sees it any more; a name given later brings its own.
    if (inode.linksCount === 0 && mtime !== undefined && same(mtime, inode.mtime)) return;
  }
  const change = (handle: Handle) => {
    const fixed = inode.hasFlag(EXT4_IMMUTABLE_FL) ? atime !== undefined : typeof atime === 'object';
    const owned = (mode ?? uid ?? gid) !== undefined;
    // mtime by itself is the kernel's, for what was written before.
    if ((inode.flags & (EXT4_IMMUTABLE_FL | EXT4_APPEND_FL)) !== 0 && (owned || fixed))
      throw new FsError('EPERM', `inode ${ino} may not be changed`);
    const now = vol.env.now();
    const at = (time: Timestamp | 'now') => (time === 'now' ? now : time);
    vol.quotas?.transfer(handle, inode, { user: uid, group: gid });
    const writable = inode.edit(handle);
    if (mode !== undefined) writable.setMode((inode.mode & S_IFMT) | (mode & 0o7777));
    if (uid !== undefined) writable.setUid(uid);
    if (gid !== undefined) writable.setGid(gid);
    if (atime !== undefined) writable.setAtime(at(atime));
    if (mtime !== undefined) writable.setMtime(at(mtime));
    writable.setCtime(at(ctime ?? 'now'));
  };
  // Fast commits say nothing of a directory but its names.
  vol.journal.run(1, change, !inode.isDirectory);
}

const same = (a: Timestamp | 'now', b: Timestamp) =>
  a !== 'now' && a.seconds === b.seconds && a.nanoseconds === b.nanoseconds;

const later = (a: Timestamp, b: Timestamp) =>
  a.seconds > b.seconds || (a.seconds === b.seconds && a.nanoseconds >= b.nanoseconds);

const DAY_SECONDS = 86_400;

/** The inode was read: its access time moves as the policy says (relatime_need_update). */
export function touchAtime(vol: Volume, ino: Ino, policy: AtimePolicy): void {
  if (policy === 'noatime') return;
  const inode = Inode.get(vol, ino);
  if (inode.hasFlag(EXT4_NOATIME_FL) || (policy === 'nodiratime' && inode.isDirectory)) return;
  const now = vol.env.now();
  if (policy !== 'strictatime') {
    const { atime } = inode;
    const stale = later(inode.mtime, atime) || later(inode.ctime, atime);
    if (!stale && now.seconds - atime.seconds < DAY_SECONDS) return;
  }
  // Of a directory nobody is promised it.
  vol.journal.run(1, (handle) => inode.edit(handle).setAtime(now), true);
}

/** The second up to which {@link touchAtime} has nothing to do unless the inode changes; 0 if it always has. */
export function atimeSettledUntil(vol: Volume, ino: Ino, policy: AtimePolicy): number {
  if (vol.readOnly || policy === 'noatime') return Number.POSITIVE_INFINITY;
  const inode = Inode.get(vol, ino);
  if (inode.hasFlag(EXT4_NOATIME_FL)) return Number.POSITIVE_INFINITY;
  const { atime } = inode;
  const stale = policy === 'strictatime' || later(inode.mtime, atime) || later(inode.ctime, atime);
  return stale ? 0 : Math.max(0, atime.seconds + DAY_SECONDS);
}

const S_IXGRP = 0o010;

/** The mode of a file whose content or owner changes, without what it was trusted with (setattr_should_drop_suidgid). */
export function modeWithoutSuidgid(mode: number): number {
  if ((mode & S_IFMT) === S_IFDIR) return mode;
  let left = mode & ~S_ISUID;
  if ((mode & (S_ISGID | S_IXGRP)) === (S_ISGID | S_IXGRP)) left &= ~S_ISGID;
  return left;
}
