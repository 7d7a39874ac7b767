/** Opcode to operation. An opcode without an operation is answered ENOSYS: most are then never sent again. */
import { Errno } from '../errors.js';
import type { Context, Operation } from './context.js';
import { read, write } from './data-path.js';
import { init } from './init.js';
import { OPCODE_LIMIT, Opcode, opcodeName } from './opcodes.js';
import { opendir, readdir, readdirplus, releasedir } from './operations-dir.js';
import { bmap, fallocate, fsync, lseek, open, openTruncates, release, syncfs } from './operations-file.js';
import { access, batchForget, forget, getattr, readlink, setattr, statx } from './operations-inode.js';
import { ioctl, ioctlMutates } from './operations-ioctl.js';
import {
  create,
  link,
  lookup,
  mkdir,
  mknod,
  rename,
  rename2,
  rmdir,
  symlink,
  tmpfile,
  unlink,
} from './operations-names.js';
import { statfs } from './operations-volume.js';
import { getxattr, listxattr, removexattr, setxattr } from './operations-xattr.js';
import type { Request } from './request.js';

export interface Entry {
  readonly name: string;
  readonly run: Operation;
  /** It changes the image: while the log is busy, or the filesystem frozen, it waits its turn. */
  readonly mutates: (request: Request) => boolean;
  /** It changes names in directories: with dirsync it is answered when that is durable. */
  readonly names: boolean;
  /** The kernel gives something back: that works even after a shutdown. */
  readonly lettingGo: boolean;
  /** Whoever may ask this was let in before. */
  readonly forOpenFiles: boolean;
  /** The kernel expects no answer, not even an error. */
  readonly silent: boolean;
}

const LETTING_GO: ReadonlySet<number> = new Set([
  Opcode.FORGET,
  Opcode.BATCH_FORGET,
  Opcode.INTERRUPT,
  Opcode.RELEASE,
  Opcode.RELEASEDIR,
  Opcode.DESTROY,
]);

const FOR_OPEN_FILES: ReadonlySet<number> = new Set([
  ...LETTING_GO,
  Opcode.INIT,
  Opcode.READ,
  Opcode.WRITE,
  Opcode.FSYNC,
  Opcode.FSYNCDIR,
  Opcode.READDIR,
  Opcode.READDIRPLUS,
  Opcode.NOTIFY_REPLY,
]);

const table: (Entry | undefined)[] = new Array(OPCODE_LIMIT).fill(undefined);

const always = () => true;
const never = () => false;

/** What the request does: a kind, or where its arguments tell whether it changes the image, who can say so. */
function on(opcode: number, run: Operation, kind: 'reads' | 'mutates' | 'names' | 'silent' | Entry['mutates']): void {
  table[opcode] = {
    name: opcodeName(opcode),
    run,
    mutates: typeof kind === 'function' ? kind : kind === 'mutates' || kind === 'names' ? always : never,
    names: kind === 'names',
    lettingGo: LETTING_GO.has(opcode),
    forOpenFiles: FOR_OPEN_FILES.has(opcode),
    silent: kind === 'silent',
  };
}

function refuse(errno: number): Operation {
  return (context: Context, request: Request) => {
    context.reply.status(request, errno);
  };
}

on(Opcode.LOOKUP, lookup, 'reads');
on(Opcode.FORGET, forget, 'silent');
on(Opcode.BATCH_FORGET, batchForget, 'silent');
on(Opcode.GETATTR, getattr, 'reads');
on(Opcode.STATX, statx, 'reads');
on(Opcode.SETATTR, setattr, 'mutates');
on(Opcode.READLINK, readlink, 'reads');
on(Opcode.SYMLINK, symlink, 'names');
on(Opcode.MKNOD, mknod, 'names');
on(Opcode.MKDIR, mkdir, 'names');
on(Opcode.UNLINK, unlink, 'names');
on(Opcode.RMDIR, rmdir, 'names');
on(Opcode.RENAME, rename, 'names');
on(Opcode.RENAME2, rename2, 'names');
on(Opcode.LINK, link, 'names');
on(Opcode.CREATE, create, 'names');
on(Opcode.TMPFILE, tmpfile, 'mutates');
on(Opcode.OPEN, open, openTruncates);
on(Opcode.RELEASE, release, 'reads');
on(Opcode.READ, read, 'reads');
on(Opcode.WRITE, write, 'mutates');
on(Opcode.FSYNC, fsync, 'reads');
on(Opcode.FSYNCDIR, fsync, 'reads');
on(Opcode.SYNCFS, syncfs, 'reads');
on(Opcode.FALLOCATE, fallocate, 'mutates');
on(Opcode.LSEEK, lseek, 'reads');
on(Opcode.BMAP, bmap, 'reads');
on(Opcode.OPENDIR, opendir, 'reads');
on(Opcode.READDIR, readdir, 'reads');
on(Opcode.READDIRPLUS, readdirplus, 'reads');
on(Opcode.RELEASEDIR, releasedir, 'reads');
on(Opcode.GETXATTR, getxattr, 'reads');
on(Opcode.LISTXATTR, listxattr, 'reads');
on(Opcode.SETXATTR, setxattr, 'mutates');
on(Opcode.REMOVEXATTR, removexattr, 'mutates');
on(Opcode.STATFS, statfs, 'reads');
on(Opcode.INIT, init, 'reads');
on(Opcode.DESTROY, (context, request) => context.destroyed(request), 'reads');
// Every request is answered soon enough; one that waits for the log must not be cut short.
on(Opcode.INTERRUPT, () => {}, 'silent');
on(Opcode.NOTIFY_REPLY, () => {}, 'silent');
on(Opcode.ACCESS, access, 'reads');
// There is nothing to do when a descriptor closes: told so once, the kernel stops asking.
on(Opcode.FLUSH, refuse(Errno.ENOSYS), 'reads');
on(Opcode.IOCTL, ioctl, ioctlMutates);

export function entryOf(opcode: number): Entry | undefined {
  return opcode < OPCODE_LIMIT ? table[opcode] : undefined;
}
