/** An error of a mount or unmount, told in one line: what is wrong, with what, and what to do next. */
import { resolve } from 'node:path';
import { CorruptionError, FsError, UnsupportedError } from '../errors.js';
import { UsageError } from './args.js';
import { CommandError } from './command-error.js';
import { MountExit } from './exit-codes.js';
import { readMountinfo } from './mountinfo.js';
import { adviceOnNoFilesystem } from './partitions.js';
import { commandName, lockHolders } from './server-process.js';

export interface Failure {
  readonly line: string;
  readonly exitCode: number;
}

/** `image` is what the user typed. Null for a bug of this program. */
export function explain(error: unknown, image: string): Failure | null {
  if (error instanceof UsageError) return { line: error.message, exitCode: MountExit.USAGE };
  if (error instanceof CommandError) return { line: error.message, exitCode: error.exitCode };
  if (error instanceof UnsupportedError) {
    const next = error.features.length > 0 ? `; the kernel's ext4 may mount it; see: ext4d info ${image}` : '';
    return failure(`${image}: ${error.message}${next}`);
  }
  if (error instanceof CorruptionError) return failure(`${image}: ${error.message}${adviceOnCorruption(error, image)}`);
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (error instanceof FsError || (error instanceof Error && 'syscall' in error)) {
    const path = 'path' in error && typeof error.path === 'string' ? error.path : '';
    return explainErrno(code, error.message, path === '' ? image : path);
  }
  return null;
}

const failure = (line: string): Failure => ({ line, exitCode: MountExit.FAILURE });

function adviceOnCorruption(error: CorruptionError, image: string): string {
  if (/not an ext4 filesystem/.test(error.finding)) return `; ${adviceOnNoFilesystem(image)}`;
  if (/truncated/.test(error.finding)) return '; copy it again, or shrink it: resize2fs';
  switch (error.structure) {
    case 'partition table':
      return '; nothing was changed; say where the filesystem is with -o offset=BYTES, or repair the table: gdisk';
    case 'overlay file':
      return '; nothing was changed; name another file, or remove this one';
    case 'external journal':
      return '; nothing was changed; name the device that tune2fs or mke2fs was told: -o journal_path=, --journal';
    default:
      return `; nothing was changed; repair: e2fsck -f ${image}`;
  }
}

function explainErrno(code: string, message: string, path: string): Failure {
  switch (code) {
    case 'ENOENT':
      return failure(`${path}: no such file or device: check the path`);
    case 'EISDIR':
      return failure(`${path}: is a directory, not an image: name a file or a block device`);
    case 'EACCES':
    case 'EPERM':
      return {
        line: `${path}: permission denied; nothing was changed: check its owner and mode (ls -l)`,
        exitCode: MountExit.USAGE,
      };
    case 'EROFS':
      return failure(`${path}: cannot be written: mount it read-only (-o ro), or with -o overlay=FILE`);
    case 'EBUSY':
    case 'ETXTBSY':
      return failure(`${path}: already in use${holderText(path)}: ${adviceOnUse(path)}`);
    case 'ENOSPC':
    case 'EDQUOT':
      return failure(`${path}: no space left where it is stored: make room, then try again`);
    case 'EIO':
      return failure(`${path}: cannot be read or written: ${message}; the kernel's log (dmesg) may tell why`);
    default:
      return failure(`${path}: ${message.replace(/^EINVAL: /, '')}`);
  }
}

function adviceOnUse(image: string): string {
  const source = resolve(image);
  const entry = readMountinfo().find(({ source: mounted, type }) => mounted === source && /^fuse/.test(type));
  return entry === undefined ? 'end that first' : `it is mounted: ext4d umount ${entry.mountpoint}`;
}

/** " by ext4d (pid 12)": who has the image locked. */
export function holderText(image: string): string {
  let holders: number[] = [];
  try {
    holders = lockHolders(image);
  } catch {
    // It has just gone.
  }
  if (holders.length === 0) return '';
  return ` by ${holders.map((pid) => `${commandName(pid)} (pid ${pid})`).join(', ')}`;
}

/** Prints `error` for the program `name` and returns the exit code. Bugs keep their stack. */
export function report(name: string, error: unknown, image = ''): number {
  const told = explain(error, image);
  if (told === null) {
    process.stderr.write(`${name}: internal error: ${error instanceof Error ? error.stack : String(error)}\n`);
    return MountExit.BUG;
  }
  process.stderr.write(`${name}: ${told.line.replaceAll('\n', ' ')}\n`);
  return told.exitCode;
}
