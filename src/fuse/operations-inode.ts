/** Operations on inodes: attributes, symbolic links, references. */
import { FsError } from '../errors.js';
import type { SetattrChanges } from '../ext4/filesystem.js';
import { S_IFMT, S_IFREG } from '../ext4/format/inode.js';
import type { Timestamp } from '../ext4/volume.js';
import {
  ACCESS_IN,
  BATCH_FORGET_IN,
  FATTR_ATIME,
  FATTR_ATIME_NOW,
  FATTR_CTIME,
  FATTR_GID,
  FATTR_KILL_SUIDGID,
  FATTR_MODE,
  FATTR_MTIME,
  FATTR_MTIME_NOW,
  FATTR_SIZE,
  FATTR_UID,
  FORGET_IN,
  FORGET_ONE,
  FUSE_GETATTR_FH,
  GETATTR_IN,
  MAY_EXEC,
  SETATTR_IN,
} from './abi.js';
import { modeChanged } from './acl.js';
import { putAttrOut, putStatxOut } from './attributes.js';
import type { Context } from './context.js';
import { FH_WRITES } from './operations-file.js';
import { modeWithoutSuidgid } from './privileges.js';
import { PAYLOAD } from './reply.js';
import { ARGS, inoOf, type Request } from './request.js';

export function forget(context: Context, request: Request): void {
  if (request.length < ARGS + FORGET_IN.SIZE) return;
  context.nodes.forget(request.ino, FORGET_IN.nlookup.get(request.view, ARGS));
}

export function batchForget(context: Context, request: Request): void {
  const { view } = request;
  if (request.length < ARGS + BATCH_FORGET_IN.SIZE) return;
  const fit = Math.floor((request.length - ARGS - BATCH_FORGET_IN.SIZE) / FORGET_ONE.SIZE);
  const count = Math.min(BATCH_FORGET_IN.count.get(view, ARGS), fit);
  for (let i = 0; i < count; i++) {
    const base = ARGS + BATCH_FORGET_IN.SIZE + i * FORGET_ONE.SIZE;
    context.nodes.forget(inoOf(FORGET_ONE.nodeid.get(view, base)), FORGET_ONE.nlookup.get(view, base));
  }
}

export function getattr(context: Context, request: Request): void {
  const { reply } = context;
  if (precedesWrite(request)) {
    const lost = context.lostWrites.take(request.ino);
    if (lost !== undefined) throw lost;
  }
  reply.payload(request, putAttrOut(reply.view, PAYLOAD, context.fs.stat(request.ino), context.blockSize));
}

export function statx(context: Context, request: Request): void {
  const { reply } = context;
  const stat = context.fs.stat(request.ino);
  reply.payload(request, putStatxOut(reply.view, reply.bytes, PAYLOAD, stat, context.blockSize));
}

/**
 * access(2) where the kernel does not check permissions itself, which is where only root enters (decision 7): to root everything is
 * allowed but to execute a file that nobody may execute. Throws FsError EACCES.
 */
export function access(context: Context, request: Request): void {
  request.require(ACCESS_IN.SIZE);
  const { mode } = context.fs.stat(request.ino);
  const executes = (ACCESS_IN.mask.get(request.view, ARGS) & MAY_EXEC) !== 0;
  if (executes && (mode & S_IFMT) === S_IFREG && (mode & 0o111) === 0) {
    throw new FsError('EACCES', 'nobody may execute this file');
  }
  context.reply.status(request, 0);
}

/** The kernel asks for the attributes of an open file before it writes (fuse_cache_write_iter). */
function precedesWrite(request: Request): boolean {
  const { view } = request;
  if (request.length < ARGS + GETATTR_IN.SIZE) return false;
  return (
    (GETATTR_IN.getattr_flags.get(view, ARGS) & FUSE_GETATTR_FH) !== 0 && GETATTR_IN.fh.get(view, ARGS) === FH_WRITES
  );
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

function timeOf(request: Request, seconds: typeof SETATTR_IN.atime, nsec: typeof SETATTR_IN.atimensec): Timestamp {
  return { seconds: seconds.get(request.view, ARGS), nanoseconds: nsec.get(request.view, ARGS) };
}

export function setattr(context: Context, request: Request): void {
  const { fs, reply } = context;
  const { view, ino } = request;
  request.require(SETATTR_IN.SIZE);
  const valid = SETATTR_IN.valid.get(view, ARGS);
  const truncates = (valid & FATTR_SIZE) !== 0;
  // A truncate frees blocks that a write under way is still filling.
  if (truncates && context.data.inFlight(ino)) {
    context.retryWhenDrained(request, ino);
    return;
  }
  const changes: Mutable<SetattrChanges> = {};
  if (truncates) changes.size = SETATTR_IN.size.get(view, ARGS);
  if ((valid & FATTR_UID) !== 0) changes.uid = SETATTR_IN.uid.get(view, ARGS);
  if ((valid & FATTR_GID) !== 0) changes.gid = SETATTR_IN.gid.get(view, ARGS);
  if ((valid & FATTR_ATIME_NOW) !== 0) changes.atime = 'now';
  else if ((valid & FATTR_ATIME) !== 0) changes.atime = timeOf(request, SETATTR_IN.atime, SETATTR_IN.atimensec);
  if ((valid & FATTR_MTIME_NOW) !== 0) changes.mtime = 'now';
  else if ((valid & FATTR_MTIME) !== 0) changes.mtime = timeOf(request, SETATTR_IN.mtime, SETATTR_IN.mtimensec);
  if ((valid & FATTR_CTIME) !== 0) changes.ctime = timeOf(request, SETATTR_IN.ctime, SETATTR_IN.ctimensec);
  if ((valid & FATTR_MODE) !== 0) {
    changes.mode = SETATTR_IN.mode.get(view, ARGS);
  } else if ((valid & (FATTR_UID | FATTR_GID)) !== 0 || (valid & FATTR_KILL_SUIDGID) !== 0) {
    const { mode } = fs.stat(ino);
    const left = modeWithoutSuidgid(mode);
    if (left !== mode) changes.mode = left;
  }
  fs.setattr(ino, changes);
  if ((valid & FATTR_MODE) !== 0) modeChanged(context, ino, SETATTR_IN.mode.get(view, ARGS));
  reply.payload(request, putAttrOut(reply.view, PAYLOAD, fs.stat(ino), context.blockSize));
}

export function readlink(context: Context, request: Request): void {
  const target = context.fs.readlink(request.ino);
  context.fs.touchAtime(request.ino);
  context.reply.data(request, target);
}
