/** What can be told to be wrong before anything is opened. The mount itself checks again what may change meanwhile. */
import { spawnSync } from 'node:child_process';
import {
  accessSync,
  constants,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  type Stats,
  statSync,
} from 'node:fs';
import { delimiter, join } from 'node:path';
import { loadNative, nativeFailure, reloadNative } from '../native.js';
import { addonBuild } from '../native-paths.js';
import { CommandError } from './command-error.js';
import { deviceNumberText } from './device-number.js';
import { MountExit } from './exit-codes.js';
import { inheritedFd } from './inherited-fd.js';
import { mountAt, readMountinfo } from './mountinfo.js';

function errnoOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

/** Throws {@link CommandError}, or the system's own error, if `image` cannot be mounted on `directory`. */
export function checkTargets(image: string, directory: string): void {
  checkImage(image);
  checkMountpoint(directory);
  checkFuse();
}

/** Throws if it cannot hold a filesystem; the system's own error if it is not there. */
export function checkIsImage(image: string): Stats {
  const stat = statSync(image);
  if (stat.isDirectory())
    throw new CommandError(`${image}: is a directory, not an image: name a file or a block device`);
  if (!stat.isFile() && !stat.isBlockDevice())
    throw new CommandError(`${image}: not an image file or block device: name one of them`);
  return stat;
}

function checkImage(image: string): void {
  const stat = checkIsImage(image);
  if (stat.isFile()) checkLoopDevices(image);
  else checkMountedDevice(image, stat.rdev);
}

function checkMountedDevice(image: string, rdev: number): void {
  const device = deviceNumberText(rdev);
  const entry = readMountinfo().find((candidate) => candidate.device === device);
  if (entry !== undefined)
    throw new CommandError(`${image}: already mounted: on ${entry.mountpoint} (${entry.type}): unmount it there first`);
}

/** The kernel does not lock an image that it has mounted through a loop device. */
function checkLoopDevices(image: string): void {
  const path = realpathSync(image);
  const loops = new Map<string, string>();
  for (const name of list('/sys/block')) {
    if (!name.startsWith('loop')) continue;
    try {
      const backing = readFileSync(`/sys/block/${name}/loop/backing_file`, 'utf8').trimEnd();
      if (backing === path) loops.set(readFileSync(`/sys/block/${name}/dev`, 'utf8').trim(), name);
    } catch {
      // Not attached.
    }
  }
  if (loops.size === 0) return;
  for (const { device, mountpoint, type } of readMountinfo()) {
    const loop = loops.get(device);
    if (loop !== undefined) {
      throw new CommandError(
        `${image}: already mounted: /dev/${loop} on ${mountpoint} (${type}): unmount it there first`,
      );
    }
  }
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

export function checkMountpoint(directory: string): void {
  const fd = inheritedFd(directory);
  if (fd !== null) {
    checkConnection(directory, fd);
    return;
  }
  const entry = mountAt(directory);
  let stat: Stats;
  try {
    stat = statSync(directory);
  } catch (error) {
    const code = errnoOf(error);
    if (code === 'ENOENT') throw new CommandError(`${directory}: no such mountpoint; create it: mkdir -p ${directory}`);
    if (code === 'ENOTCONN') {
      throw new CommandError(`${directory}: a dead mount is in the way; remove it: ext4d umount ${directory}`);
    }
    if (code === 'EACCES') {
      throw new CommandError(
        `${directory}: permission denied for the mountpoint: take a directory of your own`,
        MountExit.USAGE,
      );
    }
    throw new CommandError(`${directory}: unusable as a mountpoint: ${code || error}: take another directory`);
  }
  if (!stat.isDirectory()) throw new CommandError(`${directory}: not a directory; a mountpoint has to be one: mkdir`);
  // An automount point waits for exactly this mount.
  if (entry !== null && entry.type !== 'autofs') {
    throw new CommandError(
      `${directory}: busy: ${entry.source} (${entry.type}) is mounted there already: unmount that first, or take another directory`,
    );
  }
}

/** A launcher may hand over a connection that it has mounted already. Other numbers may be descriptors of this program's own. */
function checkConnection(directory: string, fd: number): void {
  let target = 'closed';
  try {
    target = readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    // It is.
  }
  if (target !== '/dev/fuse')
    throw new CommandError(
      `${directory}: not a connection to /dev/fuse (${target}): pass one that is open, and mounted`,
    );
}

/** Throws if this machine or this user cannot mount FUSE filesystems. */
export function checkFuse(): void {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch (error) {
    const next =
      errnoOf(error) === 'ENOENT'
        ? 'there is no /dev/fuse: as root: modprobe fuse; in a container: --device /dev/fuse --cap-add SYS_ADMIN'
        : '/dev/fuse may not be opened by this user: run as root, or let users in (as root): chmod 666 /dev/fuse';
    throw new CommandError(next, MountExit.SYSTEM);
  }
  if (process.geteuid?.() !== 0 && !onPath('fusermount3')) {
    throw new CommandError('fusermount3 is needed to mount without being root: apt install fuse3', MountExit.SYSTEM);
  }
}

/** Builds the addon if none loads here. Throws if that cannot be done. */
export function checkNative(): void {
  if (loadNative() !== null) return;
  const { script, directory } = addonBuild();
  process.stderr.write(`ext4d: building the native addon, once (${nativeFailure()})\n`);
  // Only its owner may write to a place that code is loaded from.
  const umask = process.umask(0o022);
  const { status } = spawnSync(process.execPath, [script, '--into', directory], { stdio: ['ignore', 2, 2] });
  process.umask(umask);
  if (status !== 0 || reloadNative() === null) {
    throw new CommandError(`there is no native addon for this machine: ${nativeFailure()}`, MountExit.SYSTEM);
  }
}

export function onPath(command: string): boolean {
  return `${process.env.PATH ?? ''}${delimiter}/usr/sbin${delimiter}/sbin`.split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
