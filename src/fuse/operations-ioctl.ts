/**
 * ioctl(2). FUSE lets through only what its number describes: the kernel copies so many bytes in and out as _IOW and _IOR
 * say, so commands whose argument is more than that (FIEMAP, the flags of SHUTDOWN) cannot be had.
 */
import { FsError } from '../errors.js';
import { EXT4_IMMUTABLE_FL } from '../ext4/format/inode.js';
import { IOCTL_IN, IOCTL_OUT } from './abi.js';
import type { Context } from './context.js';
import { PAYLOAD } from './reply.js';
import { ARGS, type Request } from './request.js';

const READ = 2;
const WRITE = 1;
/** _IOC(direction, type, number, size) */
const ioc = (direction: number, type: number, number: number, size: number) =>
  ((direction << 30) | (size << 16) | (type << 8) | number) >>> 0;
const letter = (text: string) => text.charCodeAt(0);

const LABEL_BYTES = 256;
const FSXATTR_BYTES = 28;
const FSTRIM_BYTES = 24;

const FS_IOC_GETFLAGS = ioc(READ, letter('f'), 1, 8);
const FS_IOC_SETFLAGS = ioc(WRITE, letter('f'), 2, 8);
const FS_IOC_GETVERSION = ioc(READ, letter('v'), 1, 8);
const FS_IOC_SETVERSION = ioc(WRITE, letter('v'), 2, 8);
const EXT4_IOC_GETVERSION = ioc(READ, letter('f'), 3, 8);
const EXT4_IOC_SETVERSION = ioc(WRITE, letter('f'), 4, 8);
const FS_IOC_FSGETXATTR = ioc(READ, letter('X'), 31, FSXATTR_BYTES);
const FS_IOC_FSSETXATTR = ioc(WRITE, letter('X'), 32, FSXATTR_BYTES);
const FS_IOC_GETFSLABEL = ioc(READ, 0x94, 49, LABEL_BYTES);
const FS_IOC_SETFSLABEL = ioc(WRITE, 0x94, 50, LABEL_BYTES);
const FITRIM = ioc(READ | WRITE, letter('X'), 121, FSTRIM_BYTES);
const FS_IOC_SHUTDOWN = ioc(READ, letter('X'), 125, 4);
/** What the kernel keeps FIFREEZE and FITHAW from being: it answers them itself, and FUSE has no freezing. */
export const EXT4D_IOC_FREEZE = ioc(0, 0xf4, 1, 0);
export const EXT4D_IOC_THAW = ioc(0, 0xf4, 2, 0);

/** fsx_xflags, and the inode flags they stand for (ext4_iflags_to_xflags). */
const XFLAGS: readonly (readonly [xflag: number, flag: number])[] = [
  [0x08, 0x10], // immutable
  [0x10, 0x20], // append
  [0x20, 0x08], // sync
  [0x40, 0x80], // noatime
  [0x80, 0x40], // nodump
  [0x200, 0x20000000], // projinherit
];
const ALL_FLAGS = XFLAGS.reduce((all, [, flag]) => all | flag, 0);

interface Call {
  readonly context: Context;
  readonly request: Request;
  /** Where its argument begins in the request. */
  readonly at: number;
}

interface Command {
  /** Bytes that the kernel must have sent. */
  readonly inBytes: number;
  readonly rootOnly?: boolean;
  readonly mutates?: boolean;
  /** Puts what it answers at PAYLOAD + IOCTL_OUT.SIZE; returns how many bytes. */
  run(call: Call): number;
}

const OUT = PAYLOAD + IOCTL_OUT.SIZE;

const getVersion: Command = {
  inBytes: 0,
  run: ({ context: { fs, reply }, request }) => {
    reply.view.setUint32(OUT, fs.stat(request.ino).generation, true);
    return 4;
  },
};

const setVersion: Command = {
  inBytes: 4,
  mutates: true,
  run: ({ context: { fs }, request, at }) => {
    fs.setGeneration(request.ino, request.view.getUint32(at, true), request.cred);
    return 0;
  },
};

const COMMANDS = new Map<number, Command>([
  [
    FS_IOC_GETFLAGS,
    {
      inBytes: 0,
      run({ context: { fs, reply }, request }) {
        reply.view.setUint32(OUT, fs.getFlags(request.ino), true);
        return 4;
      },
    },
  ],
  [
    FS_IOC_SETFLAGS,
    {
      inBytes: 4,
      mutates: true,
      run({ context: { fs }, request, at }) {
        fs.setFlags(request.ino, request.view.getUint32(at, true), request.cred);
        return 0;
      },
    },
  ],
  [FS_IOC_GETVERSION, getVersion],
  [EXT4_IOC_GETVERSION, getVersion],
  [FS_IOC_SETVERSION, setVersion],
  [EXT4_IOC_SETVERSION, setVersion],
  [
    FS_IOC_FSGETXATTR,
    {
      inBytes: 0,
      run({ context: { fs, reply }, request }) {
        const flags = fs.getFlags(request.ino);
        reply.bytes.fill(0, OUT, OUT + FSXATTR_BYTES);
        const xflags = XFLAGS.reduce((found, [xflag, flag]) => found | ((flags & flag) !== 0 ? xflag : 0), 0);
        reply.view.setUint32(OUT, xflags, true);
        reply.view.setUint32(OUT + 12, fs.getProject(request.ino), true);
        return FSXATTR_BYTES;
      },
    },
  ],
  [
    FS_IOC_FSSETXATTR,
    {
      inBytes: FSXATTR_BYTES,
      mutates: true,
      run({ context: { fs }, request, at }) {
        const xflags = request.view.getUint32(at, true);
        // Those that stand for no flag of ours are passed over, as fileattr_fill_xflags does.
        const wanted = XFLAGS.reduce((found, [xflag, flag]) => found | ((xflags & xflag) !== 0 ? flag : 0), 0);
        const { ino, cred } = request;
        const before = fs.getFlags(ino);
        const project = request.view.getUint32(at + 12, true);
        // ext4_ioctl_check_immutable
        if ((before & wanted & EXT4_IMMUTABLE_FL) !== 0 && project !== fs.getProject(ino)) throw new FsError('EPERM');
        fs.setFlags(ino, (before & ~ALL_FLAGS) | wanted, cred);
        fs.setProject(ino, project, cred);
        return 0;
      },
    },
  ],
  [
    FS_IOC_GETFSLABEL,
    {
      inBytes: 0,
      run({ context: { fs, reply } }) {
        reply.bytes.fill(0, OUT, OUT + LABEL_BYTES);
        reply.bytes.set(fs.getLabel(), OUT);
        return LABEL_BYTES;
      },
    },
  ],
  [
    FS_IOC_SETFSLABEL,
    {
      inBytes: LABEL_BYTES,
      rootOnly: true,
      mutates: true,
      run({ context: { fs }, request, at }) {
        const label = request.bytes.subarray(at, at + LABEL_BYTES);
        const end = label.indexOf(0);
        fs.setLabel(label.subarray(0, end < 0 ? LABEL_BYTES : end));
        return 0;
      },
    },
  ],
  [
    FITRIM,
    {
      inBytes: FSTRIM_BYTES,
      rootOnly: true,
      mutates: true,
      run({ context: { fs, reply }, request, at }) {
        const number64 = (offset: number) =>
          request.view.getUint32(at + offset, true) + request.view.getUint32(at + offset + 4, true) * 2 ** 32;
        const [start, length, minimum] = [number64(0), number64(8), number64(16)];
        const trimmed = fs.trim(start, length, minimum);
        reply.bytes.set(request.bytes.subarray(at, at + FSTRIM_BYTES), OUT);
        reply.view.setUint32(OUT + 8, trimmed >>> 0, true);
        reply.view.setUint32(OUT + 12, Math.floor(trimmed / 2 ** 32), true);
        return FSTRIM_BYTES;
      },
    },
  ],
  [
    FS_IOC_SHUTDOWN,
    {
      inBytes: 0,
      rootOnly: true,
      run({ context }) {
        context.shutDown();
        return 0;
      },
    },
  ],
]);

export function ioctlMutates({ length, view }: Request): boolean {
  return length >= ARGS + IOCTL_IN.SIZE && COMMANDS.get(IOCTL_IN.cmd.get(view, ARGS))?.mutates === true;
}

export function ioctl(context: Context, request: Request): void {
  const { view, ino, cred } = request;
  request.require(IOCTL_IN.SIZE);
  const cmd = IOCTL_IN.cmd.get(view, ARGS);
  if (cmd === EXT4D_IOC_FREEZE || cmd === EXT4D_IOC_THAW) {
    freezeOrThaw(context, request, cmd === EXT4D_IOC_FREEZE);
    return;
  }
  const command = COMMANDS.get(cmd);
  if (command === undefined) throw new FsError('ENOTTY');
  const inBytes = IOCTL_IN.in_size.get(view, ARGS);
  request.require(IOCTL_IN.SIZE + inBytes);
  if (inBytes < command.inBytes) throw new FsError('EINVAL', 'the argument is too short');
  // With fakeroot whoever may enter acts as root, and may not end the server's work for all.
  const actsAsRoot = cred.uid === 0 || (!context.settings.permissionsChecked && cmd !== FS_IOC_SHUTDOWN);
  if (command.rootOnly === true && !actsAsRoot) throw new FsError('EPERM');
  if (context.data.inFlight(ino)) {
    context.retryWhenDrained(request, ino);
    return;
  }
  const outBytes = command.run({ context, request, at: ARGS + IOCTL_IN.SIZE });
  const { reply } = context;
  reply.bytes.fill(0, PAYLOAD, OUT);
  const room = IOCTL_IN.out_size.get(view, ARGS);
  reply.payload(request, IOCTL_OUT.SIZE + Math.min(outBytes, room));
}

/** For root, and for whom the server works. Answered when the image is clean; EBUSY, EINVAL: it is frozen, it is not; EROFS: nor could it be. */
function freezeOrThaw(context: Context, request: Request, freeze: boolean): void {
  const { uid } = request.cred;
  if (uid !== 0 && uid !== process.geteuid?.()) throw new FsError('EPERM');
  const waiting = request.stub();
  const answer = (error: FsError | null) => {
    if (error === null) replyEmpty(context, waiting);
    else context.fail(waiting, error);
  };
  if (freeze) context.freeze(answer);
  else if (context.thaw()) answer(null);
  else if (context.fs.readOnly) answer(new FsError('EROFS', 'the filesystem is read-only'));
  else answer(new FsError('EINVAL', 'the filesystem is not frozen'));
}

function replyEmpty({ reply }: Context, request: Request): void {
  reply.bytes.fill(0, PAYLOAD, OUT);
  reply.payload(request, IOCTL_OUT.SIZE);
}
