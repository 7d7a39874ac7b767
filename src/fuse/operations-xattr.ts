/** Extended attributes. A request for 0 bytes asks how many there are. */
import { Errno, FsError } from '../errors.js';
import { startsWith } from '../ext4/xattr.js';
import { FUSE_SETXATTR_ACL_KILL_SGID, GETXATTR_IN, GETXATTR_OUT, SETXATTR_IN, SETXATTR_IN_COMPAT_SIZE } from './abi.js';
import { isAclName, removeAcl, setAcl } from './acl.js';
import type { Context } from './context.js';
import { PAYLOAD } from './reply.js';
import { ARGS, type Request } from './request.js';

const S_ISGID = 0o2000;
const USER = new TextEncoder().encode('user.');
const TRUSTED = new TextEncoder().encode('trusted.');

function replyValue(context: Context, request: Request, value: Uint8Array): void {
  const { reply } = context;
  const room = GETXATTR_IN.size.get(request.view, ARGS);
  if (room === 0) {
    GETXATTR_OUT.size.set(reply.view, PAYLOAD, value.length);
    GETXATTR_OUT.padding.set(reply.view, PAYLOAD, 0);
    reply.payload(request, GETXATTR_OUT.SIZE);
    return;
  }
  if (value.length > room) throw new FsError('ERANGE');
  reply.data(request, value);
}

/** False for names that this mount does without. */
function exists(context: Context, name: Uint8Array): boolean {
  if (!context.negotiated.acl && isAclName(name)) return false;
  return context.settings.userXattr || !startsWith(name, USER);
}

/** Throws FsError EOPNOTSUPP for names that this mount does without. */
function checkName(context: Context, name: Uint8Array): void {
  if (!exists(context, name)) throw new FsError('EOPNOTSUPP');
}

export function getxattr(context: Context, request: Request): void {
  request.require(GETXATTR_IN.SIZE);
  const name = request.name(ARGS + GETXATTR_IN.SIZE);
  checkName(context, name);
  const value = context.fs.getxattr(request.ino, name);
  if (value === null) context.reply.status(request, Errno.ENODATA);
  else replyValue(context, request, value);
}

export function listxattr(context: Context, request: Request): void {
  request.require(GETXATTR_IN.SIZE);
  const all = context.fs.listxattr(request.ino);
  const shown: number[] = [];
  for (let at = 0, end = 0; at < all.length; at = end) {
    end = all.indexOf(0, at) + 1;
    const name = all.subarray(at, end - 1);
    // The kernel shows trusted.* to CAP_SYS_ADMIN only, and tells FUSE of users, not of capabilities.
    if (!exists(context, name) || (request.cred.uid !== 0 && startsWith(name, TRUSTED))) continue;
    shown.push(...all.subarray(at, end));
  }
  replyValue(context, request, Uint8Array.from(shown));
}

export function setxattr(context: Context, request: Request): void {
  const { view, ino } = request;
  const head = context.negotiated.setxattrExt ? SETXATTR_IN.SIZE : SETXATTR_IN_COMPAT_SIZE;
  request.require(head);
  const name = request.name(ARGS + head);
  const size = SETXATTR_IN.size.get(view, ARGS);
  const valueAt = ARGS + head + name.length + 1;
  if (valueAt + size > request.length) throw new FsError('EINVAL', 'the request is too short');
  const value = request.bytes.subarray(valueAt, valueAt + size);
  checkName(context, name);
  if (isAclName(name)) {
    setAcl(context, ino, name, value);
    // Where it checks no permissions the kernel was not told of ACLs (FUSE_POSIX_ACL), and does not expect this to set the mode.
    if (!context.settings.permissionsChecked) context.invalidateAttributes(ino);
  } else {
    context.fs.setxattr(ino, name, value, SETXATTR_IN.flags.get(view, ARGS));
  }
  const killSgid =
    context.negotiated.setxattrExt && (SETXATTR_IN.setxattr_flags.get(view, ARGS) & FUSE_SETXATTR_ACL_KILL_SGID) !== 0;
  if (killSgid) {
    const { mode } = context.fs.stat(ino);
    if ((mode & S_ISGID) !== 0) context.fs.setattr(ino, { mode: mode & ~S_ISGID });
  }
  context.reply.status(request, 0);
}

export function removexattr(context: Context, request: Request): void {
  const name = request.name(ARGS);
  checkName(context, name);
  if (isAclName(name)) removeAcl(context, request.ino, name);
  else context.fs.removexattr(request.ino, name);
  context.reply.status(request, 0);
}
