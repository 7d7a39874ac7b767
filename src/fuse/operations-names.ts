/** Operations on names in directories. */
import { FsError } from '../errors.js';
import type { Ino } from '../ext4/inode.js';
import {
  CREATE_IN,
  ENTRY_OUT,
  FUSE_OPEN_KILL_SUIDGID,
  LINK_IN,
  MKDIR_IN,
  MKNOD_IN,
  O_ACCMODE,
  O_TRUNC,
  OPEN_OUT,
  RENAME_IN,
  RENAME2_IN,
} from './abi.js';
import { creating } from './acl.js';
import { nameSecondsIn, putEmptyEntry, putEntryOut } from './attributes.js';
import type { Context } from './context.js';
import { putOpenOut } from './operations-file.js';
import { killSuidgid } from './privileges.js';
import { PAYLOAD } from './reply.js';
import { ARGS, inoOf, type Request } from './request.js';

const S_IFMT = 0o170000;
const S_IFREG = 0o100000;

/** Replies with the inode; the kernel then holds one more reference to it. */
function replyEntry(context: Context, request: Request, ino: Ino): void {
  const { reply, nodes } = context;
  const seconds = nameSecondsIn(context, request.ino);
  const length = putEntryOut(reply.view, PAYLOAD, context.fs.stat(ino), context.blockSize, seconds);
  nodes.remember(ino);
  if (!reply.payload(request, length)) nodes.forget(ino, 1);
}

const DOT = 0x2e;

export function lookup(context: Context, request: Request): void {
  const name = request.name(ARGS);
  // open_by_handle_at(2) and an NFS server: an inode that the kernel knows only by its number.
  const byHandle = name.length === 1 && name[0] === DOT;
  const ino = byHandle ? context.fs.byHandle(request.ino) : context.fs.lookup(request.ino, name);
  if (ino !== 0) {
    replyEntry(context, request, ino);
    return;
  }
  const { reply } = context;
  reply.payload(request, putEmptyEntry(reply.view, reply.bytes, PAYLOAD, nameSecondsIn(context, request.ino)));
}

export function mknod(context: Context, request: Request): void {
  const { fs } = context;
  const { view, cred } = request;
  request.require(MKNOD_IN.SIZE);
  const name = request.name(ARGS + MKNOD_IN.SIZE);
  const rdev = MKNOD_IN.rdev.get(view, ARGS);
  const asked = MKNOD_IN.mode.get(view, ARGS);
  const ino = creating(context, request.ino, asked, MKNOD_IN.umask.get(view, ARGS), (mode) =>
    (mode & S_IFMT) === S_IFREG
      ? fs.create(request.ino, name, mode, cred)
      : fs.mknod(request.ino, name, mode, rdev, cred),
  );
  replyEntry(context, request, ino);
}

export function mkdir(context: Context, request: Request): void {
  const { view } = request;
  request.require(MKDIR_IN.SIZE);
  const name = request.name(ARGS + MKDIR_IN.SIZE);
  const asked = MKDIR_IN.mode.get(view, ARGS);
  const ino = creating(context, request.ino, asked, MKDIR_IN.umask.get(view, ARGS), (mode) =>
    context.fs.mkdir(request.ino, name, mode, request.cred),
  );
  replyEntry(context, request, ino);
}

export function symlink(context: Context, request: Request): void {
  const name = request.name(ARGS);
  const target = request.name(ARGS + name.length + 1);
  replyEntry(context, request, context.fs.symlink(request.ino, name, target, request.cred));
}

export function link(context: Context, request: Request): void {
  request.require(LINK_IN.SIZE);
  const ino = inoOf(LINK_IN.oldnodeid.get(request.view, ARGS));
  context.fs.link(ino, request.ino, request.name(ARGS + LINK_IN.SIZE));
  context.nodes.gotName(ino);
  replyEntry(context, request, ino);
}

function lostName(context: Context, ino: Ino): void {
  if (context.fs.isUnlinked(ino)) context.nodes.lostLastName(ino);
}

export function unlink(context: Context, request: Request): void {
  lostName(context, context.fs.unlink(request.ino, request.name(ARGS)));
  context.reply.status(request, 0);
}

export function rmdir(context: Context, request: Request): void {
  lostName(context, context.fs.rmdir(request.ino, request.name(ARGS)));
  context.reply.status(request, 0);
}

function renameNames(context: Context, request: Request, newParent: Ino, namesAt: number, flags: number): void {
  const { fs, nodes, settings } = context;
  const parent = request.ino;
  const name = request.name(namesAt);
  const newName = request.name(namesAt + name.length + 1);
  // auto_da_alloc: programs that replace a file without fsync shall find the old content or the new after a crash.
  if (settings.flushesReplacing && flags === 0 && nodes.anyWriters && fs.lookup(newParent, newName) !== 0) {
    const ino = fs.lookup(parent, name);
    if (ino !== 0 && context.retryWrittenBack(request, ino)) return;
  }
  const { replaced } = fs.rename(parent, name, newParent, newName, flags, request.cred);
  if (replaced !== 0) lostName(context, replaced);
  context.reply.status(request, 0);
}

export function rename(context: Context, request: Request): void {
  request.require(RENAME_IN.SIZE);
  renameNames(context, request, inoOf(RENAME_IN.newdir.get(request.view, ARGS)), ARGS + RENAME_IN.SIZE, 0);
}

export function rename2(context: Context, request: Request): void {
  const { view } = request;
  request.require(RENAME2_IN.SIZE);
  const newParent = inoOf(RENAME2_IN.newdir.get(view, ARGS));
  renameNames(context, request, newParent, ARGS + RENAME2_IN.SIZE, RENAME2_IN.flags.get(view, ARGS));
}

/** An entry and an open file in one reply. */
function replyCreated(context: Context, request: Request, ino: Ino, forWriting: boolean): void {
  const { reply, nodes } = context;
  const seconds = nameSecondsIn(context, request.ino);
  putEntryOut(reply.view, PAYLOAD, context.fs.stat(ino), context.blockSize, seconds);
  putOpenOut(reply.view, PAYLOAD + ENTRY_OUT.SIZE, forWriting);
  nodes.remember(ino);
  nodes.opened(ino, forWriting);
  if (!reply.payload(request, ENTRY_OUT.SIZE + OPEN_OUT.SIZE)) {
    nodes.forget(ino, 1);
    nodes.released(ino, forWriting);
  }
}

/**
 * Create and open. The kernel has just looked the name up: that it is there after all is rare, and no error unless O_EXCL,
 * which the kernel checks.
 */
export function create(context: Context, request: Request): void {
  const { fs } = context;
  const { view } = request;
  request.require(CREATE_IN.SIZE);
  const name = request.name(ARGS + CREATE_IN.SIZE);
  const flags = CREATE_IN.flags.get(view, ARGS);
  const asked = CREATE_IN.mode.get(view, ARGS);
  let ino: Ino;
  try {
    ino = creating(context, request.ino, asked, CREATE_IN.umask.get(view, ARGS), (mode) =>
      fs.create(request.ino, name, mode, request.cred),
    );
  } catch (error) {
    if (!(error instanceof FsError && error.code === 'EEXIST')) throw error;
    ino = fs.lookup(request.ino, name);
    if ((flags & O_TRUNC) !== 0) {
      fs.setattr(ino, { size: 0, mtime: 'now', ctime: 'now' });
      if ((CREATE_IN.open_flags.get(view, ARGS) & FUSE_OPEN_KILL_SUIDGID) !== 0) killSuidgid(context, ino);
    }
  }
  replyCreated(context, request, ino, (flags & O_ACCMODE) !== 0);
}

export function tmpfile(context: Context, request: Request): void {
  const { view } = request;
  request.require(CREATE_IN.SIZE);
  const asked = CREATE_IN.mode.get(view, ARGS);
  const ino = creating(context, request.ino, asked, CREATE_IN.umask.get(view, ARGS), (mode) =>
    context.fs.tmpfile(request.ino, mode, request.cred),
  );
  replyCreated(context, request, ino, true);
  context.nodes.lostLastName(ino);
}
