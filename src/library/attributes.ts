/** Attributes of an inode, and what callers give for them. */
import { FsError } from '../errors.js';
import type { Filesystem } from '../ext4/filesystem.js';
import { S_IFDIR, S_IFMT, S_IFREG } from '../ext4/format/inode.js';
import type { Ino } from '../ext4/inode.js';
import { isAclName, modeChanged, setAcl } from '../ext4/posix-acl.js';
import { modeWithoutSuidgid } from '../ext4/setattr.js';
import type { Timestamp } from '../ext4/volume.js';
import { XATTR_CREATE, XATTR_REPLACE } from '../ext4/xattr.js';

/** Seconds since 1970 as a number, a Date, or seconds and nanoseconds, which lose nothing. */
export type Time = number | Date | Timestamp;

const NANOSECONDS = 1_000_000_000;
const MAX_ID = 0xffffffff;
/** chown leaves this one as it is. */
const SAME_ID = -1;

/** Throws FsError EINVAL unless `value` is an integer from `least` to `most`. */
export function integer(value: number, what: string, least = 0, most: number = Number.MAX_SAFE_INTEGER): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new FsError('EINVAL', `${what} is ${String(value)}`);
}

/** Throws FsError EINVAL. */
export function timestampOf(time: Time): Timestamp {
  if (typeof time === 'object' && !(time instanceof Date)) {
    integer(time.seconds, 'seconds', Number.MIN_SAFE_INTEGER);
    integer(time.nanoseconds, 'nanoseconds', 0, NANOSECONDS - 1);
    return time;
  }
  const ms = typeof time === 'number' ? time * 1000 : time.getTime();
  if (!Number.isFinite(ms)) throw new FsError('EINVAL', `time ${String(time)}`);
  const seconds = Math.floor(ms / 1000);
  // A double holds about a microsecond of today's seconds.
  const nanoseconds = Math.round((ms - seconds * 1000) * 1000) * 1000;
  return nanoseconds === NANOSECONDS ? { seconds: seconds + 1, nanoseconds: 0 } : { seconds, nanoseconds };
}

export function changeTimes(fs: Filesystem, ino: Ino, atime: Time, mtime: Time): void {
  fs.setattr(ino, { atime: timestampOf(atime), mtime: timestampOf(mtime) });
}

/** The access ACL follows. */
export function changeMode(fs: Filesystem, ino: Ino, mode: number): void {
  const bits = integer(mode, 'mode', 0, 0o177777) & 0o7777;
  fs.setattr(ino, { mode: bits });
  modeChanged(fs, ino, bits);
}

/** -1 is no change. A file that changes hands is no longer setuid, whoever gives it away (chown_common). */
export function changeOwner(fs: Filesystem, ino: Ino, uid: number, gid: number): void {
  integer(uid, 'uid', SAME_ID, MAX_ID);
  integer(gid, 'gid', SAME_ID, MAX_ID);
  const { mode } = fs.stat(ino);
  const left = modeWithoutSuidgid(mode);
  fs.setattr(ino, {
    ...(uid === SAME_ID ? {} : { uid }),
    ...(gid === SAME_ID ? {} : { gid }),
    ...(left === mode ? {} : { mode: left }),
  });
}

export function changeSize(fs: Filesystem, ino: Ino, length: number): void {
  fs.setattr(ino, { size: integer(length, 'length'), mtime: 'now', ctime: 'now' });
}

export interface SetXattrOptions {
  /** EEXIST if the attribute is there already. */
  readonly create?: boolean;
  /** ENODATA if it is not. */
  readonly replace?: boolean;
}

const USER = Buffer.from('user.');

/** The kernel keeps user attributes to files and directories (xattr_permission), and lists in step with the mode. */
export function setAttribute(
  fs: Filesystem,
  ino: Ino,
  name: Uint8Array,
  value: Uint8Array,
  { create = false, replace = false }: SetXattrOptions,
): void {
  const type = fs.stat(ino).mode & S_IFMT;
  if (USER.equals(name.subarray(0, USER.length)) && type !== S_IFREG && type !== S_IFDIR) throw new FsError('EPERM');
  if (isAclName(name)) setAcl(fs, ino, name, value);
  else fs.setxattr(ino, name, value, (create ? XATTR_CREATE : 0) | (replace ? XATTR_REPLACE : 0));
}
