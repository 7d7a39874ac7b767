/** Mounting: as root with mount(2), otherwise with the setuid helper fusermount3. */
import { spawn } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { Errno } from '../errors.js';
import { errorOf, requireNative } from '../native.js';
import { MOUNT_FLAGS, MS_RDONLY } from './mount-flags.js';

export interface MountOptions {
  readonly ro?: boolean;
  readonly nosuid?: boolean;
  readonly nodev?: boolean;
  readonly noexec?: boolean;
  /** For root only. */
  readonly nosymfollow?: boolean;
  readonly noatime?: boolean;
  /** The kernel follows every write with an fsync. */
  readonly sync?: boolean;
  /**
   * Let other users in. Then, and for anyone but root, the kernel checks permissions. Root alone would pass every check,
   * and each check after a change of a directory costs a request.
   */
  readonly allowOther?: boolean;
  /** The kernel checks no permissions: whoever may enter acts as root. */
  readonly unchecked?: boolean;
  /** Shown as the type, `fuse.SUBTYPE`, or plain `fuse` if empty. Default ext4d. */
  readonly subtype?: string;
  /** Shown as the source. Default: the source's path. */
  readonly fsname?: string;
  /** Words for the kernel's security module, "context=...". */
  readonly labels?: readonly string[];
}

export interface MountRequest {
  /** Image or block device. */
  readonly source: string;
  readonly mountpoint: string;
  /** Mount as fuseblk: sync(2) reaches the server, and unmount waits until the image is clean. Root only. */
  readonly blkdev: boolean;
  /** Block size in bytes, for fuseblk. */
  readonly blksize: number;
  readonly options?: MountOptions;
}

const S_IFMT = 0o170000;

/** A mount that did not come about; the message is one line and says what to do next. */
export class MountError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'MountError';
  }
}

const isRoot = () => process.geteuid?.() === 0;

/** Whether the kernel will check permissions on a mount with these options. */
export const permissionsAreChecked = (options: MountOptions) =>
  options.unchecked !== true && (!isRoot() || options.allowOther === true);

/**
 * Mounts and returns the connection, non-blocking, for `Session`. Throws {@link MountError}. For a block device the
 * caller gives up its claim first (`FileDevice.releaseClaim`): fuseblk takes it over.
 */
export function mountFuse(request: MountRequest): number {
  const mountpoint = resolve(request.mountpoint);
  const rootmode = checkMountpoint(mountpoint);
  return isRoot() ? mountAsRoot(request, mountpoint, rootmode) : mountWithHelper(request, mountpoint);
}

function checkMountpoint(mountpoint: string): number {
  try {
    const stat = statSync(mountpoint);
    if (!stat.isDirectory()) throw new MountError(`${mountpoint} is not a directory: choose one to mount on`);
    return stat.mode & S_IFMT;
  } catch (error) {
    if (error instanceof MountError) throw error;
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') throw new MountError(`${mountpoint} does not exist: create it with mkdir -p ${mountpoint}`);
    if (code === 'ENOTCONN')
      throw new MountError(`${mountpoint} holds a mount whose server is gone: umount -l ${mountpoint}`);
    throw new MountError(`${mountpoint} cannot be used: ${code ?? String(error)}`);
  }
}

/** Options are separated by commas; the helper and libmount take `\,` inside a value. */
const escaped = (value: string) => value.replace(/[\\,]/g, '\\$&');

function mountAsRoot(request: MountRequest, mountpoint: string, rootmode: number): number {
  const native = requireNative();
  const options = request.options ?? {};
  const fd = native.openFuse();
  if (fd < 0) throw new MountError(explainOpenFuse(-fd));
  const subtype = options.subtype ?? 'ext4d';
  const type = `${request.blkdev ? 'fuseblk' : 'fuse'}${subtype === '' ? '' : `.${subtype}`}`;
  const data = [`fd=${fd}`, `rootmode=${rootmode.toString(8)}`, 'user_id=0', 'group_id=0'];
  if (options.allowOther) data.push('allow_other');
  if (permissionsAreChecked(options)) data.push('default_permissions');
  data.push(...(options.labels ?? []));
  // The kernel's block layer works in pages at most.
  if (request.blkdev) data.push(`blksize=${Math.min(request.blksize, 4096)}`);
  let flags = options.ro ? MS_RDONLY : 0;
  for (const word of ['nosuid', 'nodev', 'noexec', 'nosymfollow', 'noatime', 'sync'] as const)
    if (options[word]) flags |= MOUNT_FLAGS[word];
  const source = request.blkdev ? resolve(request.source) : (options.fsname ?? request.source);
  const result = native.mount(source, mountpoint, type, flags, data.join(','));
  if (result < 0) {
    native.closeFile(fd);
    throw new MountError(explainMount(-result, request, mountpoint));
  }
  return fd;
}

function explainOpenFuse(errno: number): string {
  if (errno === Errno.ENOENT || errno === Errno.ENODEV || errno === Errno.ENXIO)
    return 'there is no /dev/fuse: load the module with modprobe fuse, or give the container the device /dev/fuse';
  if (errno === Errno.EACCES || errno === Errno.EPERM)
    return '/dev/fuse may not be opened: run as root, or give the container access to the device /dev/fuse';
  return `/dev/fuse: ${errorOf(-errno, 'open').message}`;
}

function explainMount(errno: number, request: MountRequest, mountpoint: string): string {
  switch (errno) {
    case Errno.EPERM:
    case Errno.EACCES:
      return `mounting on ${mountpoint} is not permitted: root needs CAP_SYS_ADMIN (in a container: --cap-add SYS_ADMIN)`;
    case Errno.EBUSY:
      return `${request.source} or ${mountpoint} is in use: unmount it first (findmnt shows by what)`;
    case Errno.ENODEV:
      return 'this kernel has no FUSE: load the module with modprobe fuse';
    default:
      return `mounting ${request.source} on ${mountpoint} failed: ${errorOf(-errno, 'mount(2)').message}`;
  }
}

function mountWithHelper(request: MountRequest, mountpoint: string): number {
  const options = request.options ?? {};
  if (options.nosymfollow) throw new MountError('nosymfollow is for root to set: leave it out');
  const [label] = options.labels ?? [];
  if (label !== undefined) throw new MountError(`${label}: labels are for root to set: leave it out`);
  const list = [
    ...(permissionsAreChecked(options) ? ['default_permissions'] : []),
    `fsname=${escaped(options.fsname ?? request.source)}`,
    options.ro ? 'ro' : 'rw',
    // The helper adds nosuid and nodev in any case.
  ];
  const subtype = options.subtype ?? 'ext4d';
  if (subtype !== '') list.push(`subtype=${escaped(subtype)}`);
  if (options.noexec) list.push('noexec');
  if (options.noatime) list.push('noatime');
  if (options.sync) list.push('sync');
  if (options.allowOther) list.push('allow_other');
  const [result, said] = requireNative().mountWithHelper('fusermount3', list.join(','), mountpoint);
  if (result >= 0) return result;
  if (result === -Errno.ENOENT)
    throw new MountError('fusermount3 is not installed: apt install fuse3 (or: dnf install fuse3), or run as root');
  const reason = said.trim().split('\n').pop() ?? '';
  if (reason.includes('user_allow_other'))
    throw new MountError('allow_other needs the line user_allow_other in /etc/fuse.conf: add it, or mount without');
  throw new MountError(reason === '' ? `fusermount3 failed: errno ${-result}` : reason);
}

/**
 * Asks for an unmount and does not wait in this process: unmounting writes back what the kernel holds, and this process
 * serves it. The callback gets the exit code of umount or fusermount3 and what it said.
 */
export function requestUnmount(
  mountpoint: string,
  lazy: boolean,
  whenDone: (code: number, said: string) => void,
): void {
  const target = resolve(mountpoint);
  const [command, args] = isRoot()
    ? ['umount', lazy ? ['-l', target] : [target]]
    : ['fusermount3', lazy ? ['-u', '-z', target] : ['-u', target]];
  const child = spawn(command as string, args as string[], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (chunk) => {
    said += chunk;
  });
  child.on('error', (error) => whenDone(127, error.message));
  child.on('close', (code) => whenDone(code ?? -1, said.trim()));
}

/** The octal escapes of /proc/self/mountinfo. */
const unescaped = (field: string) =>
  field.replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(Number.parseInt(digits, 8)));

/**
 * Lets the kernel read ahead and gather writes for this mount as it does for a disk. Needs root; without it, or without
 * sysfs, the mount works with FUSE's careful defaults (128 KiB of read-ahead, 1 % of memory dirty).
 */
export function tuneBackingDevice(mountpoint: string, readAheadKiB = 1024): boolean {
  // Not with stat(2): that would ask the very server that is calling.
  const target = resolve(mountpoint);
  try {
    const lines = readFileSync('/proc/self/mountinfo', 'utf8').trimEnd().split('\n');
    const line = lines.reverse().find((candidate) => unescaped(candidate.split(' ')[4]) === target);
    if (line === undefined) return false;
    const directory = `/sys/class/bdi/${line.split(' ')[2]}`;
    const blkdev = `${directory}-fuseblk`;
    for (const bdi of [blkdev, directory]) {
      try {
        writeFileSync(`${bdi}/read_ahead_kb`, String(readAheadKiB));
        writeFileSync(`${bdi}/max_ratio`, '40');
        return true;
      } catch {
        // The other name, or none.
      }
    }
  } catch {
    // No /proc here.
  }
  return false;
}
