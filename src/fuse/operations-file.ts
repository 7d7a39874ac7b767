/** Open files: open, release, sync, space. Reading and writing are in data-path.ts. */
import type { WriteView } from '../codec/view.js';
import { FsError } from '../errors.js';
import { EXT4_APPEND_FL, EXT4_ENCRYPT_FL, EXT4_IMMUTABLE_FL } from '../ext4/format/inode.js';
import {
  BMAP_IN,
  BMAP_OUT,
  FALLOCATE_IN,
  FOPEN_KEEP_CACHE,
  FOPEN_PARALLEL_DIRECT_WRITES,
  FUSE_OPEN_KILL_SUIDGID,
  LSEEK_IN,
  LSEEK_OUT,
  O_ACCMODE,
  O_APPEND,
  O_TRUNC,
  OPEN_IN,
  OPEN_OUT,
  RELEASE_IN,
} from './abi.js';
import type { Context } from './context.js';
import { killSuidgid } from './privileges.js';
import { PAYLOAD } from './reply.js';
import { ARGS, type Request } from './request.js';

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** Requests are served by inode; nothing is kept per open file but whether it can write. */
export const FH_READS = 0;
export const FH_WRITES = 1;

export function putOpenOut(view: WriteView, base: number, forWriting: boolean): number {
  OPEN_OUT.fh.set(view, base, forWriting ? FH_WRITES : FH_READS);
  OPEN_OUT.open_flags.set(view, base, FOPEN_KEEP_CACHE | FOPEN_PARALLEL_DIRECT_WRITES);
  OPEN_OUT.padding.set(view, base, 0);
  return OPEN_OUT.SIZE;
}

export function openTruncates({ length, view }: Request): boolean {
  return length >= ARGS + OPEN_IN.SIZE && (OPEN_IN.flags.get(view, ARGS) & O_TRUNC) !== 0;
}

export function open(context: Context, request: Request): void {
  const { fs, reply, nodes } = context;
  const { view, ino } = request;
  request.require(OPEN_IN.SIZE);
  const flags = OPEN_IN.flags.get(view, ARGS);
  const forWriting = (flags & O_ACCMODE) !== 0;
  const truncates = openTruncates(request);
  if (truncates && context.data.inFlight(ino)) {
    context.retryWhenDrained(request, ino);
    return;
  }
  if ((fs.stat(ino).flags & EXT4_ENCRYPT_FL) !== 0) throw new FsError('ENOKEY', `inode ${ino} is encrypted`);
  if (forWriting || truncates) {
    // The kernel does not know these flags of ours (ext4_file_open leaves them to the VFS).
    const { flags: inodeFlags } = fs.stat(ino);
    if ((inodeFlags & EXT4_IMMUTABLE_FL) !== 0) throw new FsError('EPERM', `inode ${ino} is immutable`);
    if ((inodeFlags & EXT4_APPEND_FL) !== 0 && (truncates || (flags & O_APPEND) === 0))
      throw new FsError('EPERM', `inode ${ino} is append-only`);
  }
  if (truncates) {
    fs.setattr(ino, { size: 0, mtime: 'now', ctime: 'now' });
    if ((OPEN_IN.open_flags.get(view, ARGS) & FUSE_OPEN_KILL_SUIDGID) !== 0) killSuidgid(context, ino);
  }
  nodes.opened(ino, forWriting);
  if (!reply.payload(request, putOpenOut(reply.view, PAYLOAD, forWriting))) nodes.released(ino, forWriting);
}

export function release(context: Context, request: Request): void {
  request.require(RELEASE_IN.SIZE);
  const forWriting = (RELEASE_IN.flags.get(request.view, ARGS) & O_ACCMODE) !== 0;
  context.nodes.released(request.ino, forWriting);
  if (!context.nodes.hasWriters(request.ino)) context.lostWrites.take(request.ino);
  context.reply.status(request, 0);
}

/** FSYNC and FSYNCDIR: answered when everything that happened to the inode so far is durable. */
export function fsync(context: Context, request: Request): void {
  syncThenReply(context, request, request.ino);
}

/** The whole filesystem: sync(2) and syncfs(2). */
export function syncfs(context: Context, request: Request): void {
  syncThenReply(context, request, null);
}

function syncThenReply(context: Context, request: Request, ino: number | null): void {
  const lost = context.lostWrites.takeUnsynced(ino);
  if (lost !== undefined) throw lost;
  const waiting = request.stub();
  context.fs.sync(ino, (error) => {
    if (error === null) context.reply.status(waiting, 0);
    else context.fail(waiting, error);
  });
}

export function fallocate(context: Context, request: Request): void {
  const { view, ino } = request;
  request.require(FALLOCATE_IN.SIZE);
  if (context.data.inFlight(ino)) {
    context.retryWhenDrained(request, ino);
    return;
  }
  const offset = FALLOCATE_IN.offset.get(view, ARGS);
  const length = FALLOCATE_IN.length.get(view, ARGS);
  context.fs.fallocate(ino, FALLOCATE_IN.mode.get(view, ARGS), offset, length);
  if (request.cred.uid !== 0) killSuidgid(context, ino);
  context.reply.status(request, 0);
}

/**
 * FIBMAP, and swapon: where on the device a block of the file is, written or not (swap files are made with fallocate); 0
 * for a hole. The kernel asks only for filesystems on block devices.
 */
export function bmap(context: Context, request: Request): void {
  const { view, ino } = request;
  request.require(BMAP_IN.SIZE);
  const unit = BMAP_IN.blocksize.get(view, ARGS);
  const offset = BMAP_IN.block.get(view, ARGS) * unit;
  if (unit === 0) throw new FsError('EINVAL');
  if (context.retryWrittenBack(request, ino)) return;
  const { fs, reply } = context;
  if (fs.journalsData(ino)) fs.bringDataHome();
  const mapping = offset < fs.stat(ino).size ? fs.iomapBegin(ino, offset, unit, 0) : null;
  const at = mapping !== null && mapping.addrBytes >= 0 ? mapping.addrBytes + offset - mapping.offsetBytes : 0;
  BMAP_OUT.block.set(reply.view, PAYLOAD, Math.floor(context.data.deviceOffset(at) / unit));
  reply.payload(request, BMAP_OUT.SIZE);
}

/** SEEK_DATA and SEEK_HOLE. What only the page cache knows is written back first: to us it would be a hole. */
export function lseek(context: Context, request: Request): void {
  const { view, ino } = request;
  request.require(LSEEK_IN.SIZE);
  const whence = LSEEK_IN.whence.get(view, ARGS);
  if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw new FsError('EINVAL');
  if (context.retryWrittenBack(request, ino)) return;
  const kind = whence === SEEK_DATA ? 'data' : 'hole';
  LSEEK_OUT.offset.set(context.reply.view, PAYLOAD, context.fs.seek(ino, LSEEK_IN.offset.get(view, ARGS), kind));
  context.reply.payload(request, LSEEK_OUT.SIZE);
}
