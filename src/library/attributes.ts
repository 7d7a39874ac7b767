/** Attributes of an inode, and what callers give for them. */
import { constants } from 'node:fs';
import { FsError } from '../errors.js';
import type { Filesystem, InodeStat } from '../ext4/filesystem.js';
import { S_IFDIR, S_IFMT, S_IFREG } from '../ext4/format/inode.js';
import type { Ino } from '../ext4/inode.js';
import { isAclName, modeChanged, setAcl } from '../ext4/posix-acl.js';
import { modeWithoutSuidgid } from '../ext4/setattr.js';
import type { Timestamp } from '../ext4/volume.js';
import { XATTR_CREATE, XATTR_REPLACE } from '../ext4/xattr.js';
import type { Owner } from './engine-room.js';

/** chown leaves this one as it is. */
const SAME_ID = -1;

export function changeTimes(fs: Filesystem, ino: Ino, atime: Timestamp, mtime: Timestamp): void {
  fs.setattr(ino, { atime, mtime });
}

/** The access ACL follows. */
export function changeMode(fs: Filesystem, ino: Ino, mode: number): void {
  const bits = mode & 0o7777;
  fs.setattr(ino, { mode: bits });
  modeChanged(fs, ino, bits);
}

/** -1 is no change. A file that changes hands is no longer setuid, whoever gives it away (chown_common). */
export function changeOwner(fs: Filesystem, ino: Ino, uid: number, gid: number): void {
  const { mode } = fs.stat(ino);
  const left = modeWithoutSuidgid(mode);
  fs.setattr(ino, {
    ...(uid === SAME_ID ? {} : { uid }),
    ...(gid === SAME_ID ? {} : { gid }),
    ...(left === mode ? {} : { mode: left }),
  });
}

/** Throws FsError EISDIR, EINVAL for what is no regular file. */
export function changeSize(fs: Filesystem, ino: Ino, length: number): void {
  mustBeRegular(fs, ino);
  fs.setattr(ino, { size: length, mtime: 'now', ctime: 'now' });
}

/** Type bits of the mode. */
export const typeOf = (fs: Filesystem, ino: Ino): number => fs.stat(ino).mode & S_IFMT;

/** Only regular files have data here: what a device node or a fifo leads to is not in the image. */
export function mustBeRegular(fs: Filesystem, ino: Ino): void {
  const type = typeOf(fs, ino);
  if (type === S_IFDIR) throw new FsError('EISDIR');
  if (type !== S_IFREG) throw new FsError('EINVAL', 'not a regular file');
}

/** `mode` is R_OK, W_OK, X_OK of access(2). Throws FsError EACCES, EROFS. */
export function checkAccess(fs: Filesystem, ino: Ino, mode: number, owner: Owner): void {
  const stat = fs.stat(ino);
  if ((mode & constants.W_OK) !== 0 && fs.readOnly) throw new FsError('EROFS');
  if ((mode & ~allowedTo(owner, stat)) !== 0) throw new FsError('EACCES');
}

function allowedTo({ uid, gid }: Owner, stat: InodeStat): number {
  if (uid === stat.uid && uid !== 0) return (stat.mode >> 6) & 7;
  if (uid !== 0) return (gid === stat.gid ? stat.mode >> 3 : stat.mode) & 7;
  const executable = (stat.mode & S_IFMT) === S_IFDIR || (stat.mode & 0o111) !== 0;
  return constants.R_OK | constants.W_OK | (executable ? constants.X_OK : 0);
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
  const type = typeOf(fs, ino);
  if (USER.equals(name.subarray(0, USER.length)) && type !== S_IFREG && type !== S_IFDIR) throw new FsError('EPERM');
  if (isAclName(name)) setAcl(fs, ino, name, value);
  else fs.setxattr(ino, name, value, (create ? XATTR_CREATE : 0) | (replace ? XATTR_REPLACE : 0));
}
