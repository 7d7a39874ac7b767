/** Listing directories. The engine's cursors are stable, so nothing is kept per open directory. */
import { Errno } from '../errors.js';
import type { Ino } from '../ext4/inode.js';
import { DIRENT, ENTRY_OUT, READ_IN } from './abi.js';
import { nameSecondsIn, putEmptyEntry, putEntryOut } from './attributes.js';
import type { Context } from './context.js';
import { putOpenOut } from './operations-file.js';
import { PAYLOAD } from './reply.js';
import { ARGS, type Request } from './request.js';

/** DT_* by ext4's file type (EXT4_FT_*). */
const DT = [0, 8, 4, 2, 6, 1, 12, 10];

/** ENOSYS, to a kernel that understands it so, means: directories need not be opened or released, and may be cached. */
export function opendir(context: Context, request: Request): void {
  const { reply } = context;
  if (context.negotiated.noOpendir) reply.status(request, Errno.ENOSYS);
  else reply.payload(request, putOpenOut(reply.view, PAYLOAD, false));
}

export function releasedir(context: Context, request: Request): void {
  context.reply.status(request, 0);
}

function isDotOrDotDot(name: Uint8Array): boolean {
  return name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
}

/** The inodes that the READDIRPLUS reply being built hands out. */
const handedOut: Ino[] = [];

function list(context: Context, request: Request, plus: boolean): void {
  const { reply, fs, nodes } = context;
  const { view: out, bytes } = reply;
  request.require(READ_IN.SIZE);
  const cursor = READ_IN.offset.get(request.view, ARGS);
  const limit = Math.min(PAYLOAD + READ_IN.size.get(request.view, ARGS), bytes.length);
  const entryBytes = plus ? ENTRY_OUT.SIZE : 0;
  const nameSeconds = nameSecondsIn(context, request.ino);
  let at = PAYLOAD;
  handedOut.length = 0;
  fs.readdir(request.ino, cursor, (name, ino, fileType, nextCursor) => {
    const length = (entryBytes + DIRENT.SIZE + name.length + 7) & ~7;
    if (at + length > limit) return false;
    if (plus) {
      if (!isDotOrDotDot(name) && putEntry(context, at, ino, nameSeconds)) handedOut.push(ino);
      else putEmptyEntry(out, bytes, at, 0);
    }
    const dirent = at + entryBytes;
    DIRENT.ino.set(out, dirent, ino);
    DIRENT.off.set(out, dirent, nextCursor);
    DIRENT.namelen.set(out, dirent, name.length);
    DIRENT.type.set(out, dirent, DT[fileType] ?? 0);
    bytes.set(name, dirent + DIRENT.SIZE);
    bytes.fill(0, dirent + DIRENT.SIZE + name.length, at + length);
    at += length;
    return true;
  });
  if (cursor === 0) fs.touchAtime(request.ino);
  for (const ino of handedOut) nodes.remember(ino);
  if (!reply.payload(request, at - PAYLOAD)) for (const ino of handedOut) nodes.forget(ino, 1);
}

/** One bad inode must not hide the names around it: whoever looks it up gets the error. */
function putEntry(context: Context, at: number, ino: Ino, nameSeconds: number): boolean {
  try {
    putEntryOut(context.reply.view, at, context.fs.stat(ino), context.blockSize, nameSeconds);
    return true;
  } catch {
    return false;
  }
}

export function readdir(context: Context, request: Request): void {
  list(context, request, false);
}

export function readdirplus(context: Context, request: Request): void {
  list(context, request, true);
}
