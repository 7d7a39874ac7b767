/** FUSE_INIT: the version and the features that both sides know. */
import { Errno } from '../errors.js';
import { requireNative } from '../native.js';
import {
  FUSE_ASYNC_DIO,
  FUSE_ASYNC_READ,
  FUSE_ATOMIC_O_TRUNC,
  FUSE_BIG_WRITES,
  FUSE_CACHE_SYMLINKS,
  FUSE_DIRECT_IO_ALLOW_MMAP,
  FUSE_DO_READDIRPLUS,
  FUSE_DONT_MASK,
  FUSE_EXPORT_SUPPORT,
  FUSE_HANDLE_KILLPRIV_V2,
  FUSE_HAS_IOCTL_DIR,
  FUSE_INIT_EXT,
  FUSE_KERNEL_MINOR_VERSION,
  FUSE_KERNEL_VERSION,
  FUSE_MAX_PAGES,
  FUSE_MINOR_REQUIRED,
  FUSE_NO_OPENDIR_SUPPORT,
  FUSE_OVER_IO_URING,
  FUSE_PARALLEL_DIROPS,
  FUSE_POSIX_ACL,
  FUSE_READDIRPLUS_AUTO,
  FUSE_SETXATTR_EXT,
  FUSE_WRITEBACK_CACHE,
  INIT_IN,
  INIT_IN_COMPAT_SIZE,
  INIT_OUT,
  WRITE_IN,
} from './abi.js';
import type { Context, SessionSettings } from './context.js';
import { PAYLOAD } from './reply.js';
import { ARGS, type Request } from './request.js';

/**
 * Largest WRITE, and largest READ. With its header it fits into a pipe of the size that everyone may have
 * (fs.pipe-max-size), in which data passes without being copied into the process.
 */
export const MAX_WRITE = 1 << 19;
/** Requests the kernel may have under way in the background: write-back and read-ahead. */
const MAX_BACKGROUND = 64;
const CONGESTION_THRESHOLD = 48;
/** What a request buffer must hold: a header, its structure, and the data. */
export const REQUEST_BYTES = ARGS + WRITE_IN.SIZE + MAX_WRITE + 4096;

export interface Negotiated {
  readonly minor: number;
  readonly writeback: boolean;
  readonly acl: boolean;
  readonly setxattrExt: boolean;
  readonly noOpendir: boolean;
}

export const NOTHING_NEGOTIATED: Negotiated = {
  minor: 0,
  writeback: false,
  acl: false,
  setxattrExt: false,
  noOpendir: false,
};

function wantedFlags(settings: SessionSettings): number {
  let flags =
    FUSE_ASYNC_READ |
    FUSE_ATOMIC_O_TRUNC |
    FUSE_EXPORT_SUPPORT |
    FUSE_BIG_WRITES |
    FUSE_DO_READDIRPLUS |
    FUSE_READDIRPLUS_AUTO |
    FUSE_ASYNC_DIO |
    FUSE_PARALLEL_DIROPS |
    FUSE_MAX_PAGES |
    FUSE_CACHE_SYMLINKS |
    // Otherwise the kernel asks for security.capability before every single write.
    FUSE_HANDLE_KILLPRIV_V2 |
    FUSE_SETXATTR_EXT |
    FUSE_HAS_IOCTL_DIR |
    FUSE_INIT_EXT;
  if (settings.writeback) flags |= FUSE_WRITEBACK_CACHE;
  // Default ACLs replace the umask: it must reach us unapplied.
  if (settings.acl) flags |= FUSE_DONT_MASK;
  // This would make the kernel check permissions in any case.
  if (settings.acl && settings.permissionsChecked) flags |= FUSE_POSIX_ACL;
  return flags;
}

export function init(context: Context, request: Request): void {
  const { view } = request;
  request.require(INIT_IN_COMPAT_SIZE);
  const major = INIT_IN.major.get(view, ARGS);
  const minor = INIT_IN.minor.get(view, ARGS);
  const out = context.reply.view;
  context.reply.bytes.fill(0, PAYLOAD, PAYLOAD + INIT_OUT.SIZE);
  INIT_OUT.major.set(out, PAYLOAD, FUSE_KERNEL_VERSION);
  INIT_OUT.minor.set(out, PAYLOAD, Math.min(minor, FUSE_KERNEL_MINOR_VERSION));
  if (major > FUSE_KERNEL_VERSION) {
    // The kernel asks again with the version it is told here.
    context.reply.payload(request, INIT_OUT.SIZE);
    return;
  }
  if (major < FUSE_KERNEL_VERSION || minor < FUSE_MINOR_REQUIRED) {
    context.reply.status(request, Errno.EPROTO);
    return;
  }
  const offered = INIT_IN.flags.get(view, ARGS);
  const extended = (offered & FUSE_INIT_EXT) !== 0 && request.length >= ARGS + INIT_IN.flags2.offset + 4;
  const offered2 = extended ? INIT_IN.flags2.get(view, ARGS) : 0;
  const flags = offered & wantedFlags(context.settings);

  INIT_OUT.max_readahead.set(out, PAYLOAD, INIT_IN.max_readahead.get(view, ARGS));
  INIT_OUT.flags.set(out, PAYLOAD, flags >>> 0);
  INIT_OUT.max_background.set(out, PAYLOAD, MAX_BACKGROUND);
  INIT_OUT.congestion_threshold.set(out, PAYLOAD, CONGESTION_THRESHOLD);
  INIT_OUT.max_write.set(out, PAYLOAD, MAX_WRITE);
  INIT_OUT.time_gran.set(out, PAYLOAD, context.settings.secondsOnly ? 1_000_000_000 : 1);
  // In pages of this machine: a larger READ would be answered short, which the kernel takes for the end or for a hole.
  INIT_OUT.max_pages.set(out, PAYLOAD, MAX_WRITE / requireNative().pageBytes());
  let flags2 = offered2 & FUSE_DIRECT_IO_ALLOW_MMAP;
  if (context.settings.ioUring && context.openRing((offered2 & FUSE_OVER_IO_URING) !== 0)) flags2 |= FUSE_OVER_IO_URING;
  INIT_OUT.flags2.set(out, PAYLOAD, flags2);
  context.negotiated = {
    minor: Math.min(minor, FUSE_KERNEL_MINOR_VERSION),
    writeback: (flags & FUSE_WRITEBACK_CACHE) !== 0,
    acl: context.settings.acl,
    setxattrExt: (flags & FUSE_SETXATTR_EXT) !== 0,
    noOpendir: (offered & FUSE_NO_OPENDIR_SUPPORT) !== 0,
  };
  context.reply.payload(request, INIT_OUT.SIZE);
  context.began();
}
