/**
 * A device that ext4d has mounted is mounted once more: as with the kernel's own filesystems both places show the same
 * one, with the options of the first. FUSE takes a device once, so the second place is a bind mount.
 */
import { statSync } from 'node:fs';
import { errorOf, requireNative } from '../native.js';
import { CommandError } from './command-error.js';
import { deviceNumberText } from './device-number.js';
import { checkMountpoint, checkNative } from './mount-checks.js';
import { FLAGS, MS_BIND, MS_RDONLY, MS_REMOUNT } from './mount-flags.js';
import type { MountOptions } from './mount-options.js';
import { type MountEntry, mountAt, readMountinfo } from './mountinfo.js';
import { commandLine, serverOf } from './server-process.js';

/** What makes another filesystem, or another state of it, of the same device. */
const OTHER_FILESYSTEM = /(^|,)(part|offset|sizelimit|image_offset|image_sizelimit|sb|overlay)=/;

/** Where ext4d shows the filesystem of a device already, if a mount with these options would be of the same. */
export function mountedAlready(image: string, words: readonly string[]): MountEntry | null {
  const stat = statSync(image, { throwIfNoEntry: false });
  if (stat?.isBlockDevice() !== true || words.some((list) => OTHER_FILESYSTEM.test(list))) return null;
  const device = deviceNumberText(stat.rdev);
  const shows = (entry: MountEntry) =>
    entry.device === device && entry.root === '/' && mountAt(entry.mountpoint)?.device === device;
  const entry = readMountinfo().find((candidate) => candidate.type === 'fuseblk.ext4d' && shows(candidate));
  const server = entry === undefined ? null : serverOf(entry.mountpoint, entry.source);
  if (entry === undefined || server === null) return null;
  return commandLine(server.pid).some((word) => OTHER_FILESYSTEM.test(word)) ? null : entry;
}

/** Shows it on `directory` as well. Throws CommandError. */
export function mountAgainOn(entry: MountEntry, image: string, directory: string, options: MountOptions): void {
  checkMountpoint(directory);
  if ((options.readOnly || options.readWrite) && options.readOnly !== entry.readOnly) {
    const [is, asked] = entry.readOnly ? ['read-only', 'rw'] : ['read-write', 'ro'];
    throw new CommandError(
      `${image}: already mounted ${is} on ${entry.mountpoint}, and cannot be ${asked} elsewhere: mount -o remount,${asked} ${entry.mountpoint}`,
    );
  }
  checkNative();
  const native = requireNative();
  let flags = entry.readOnly ? MS_RDONLY : 0;
  for (const word of options.vfs) flags |= FLAGS[word] ?? 0;
  const errno =
    native.mount(entry.mountpoint, directory, '', MS_BIND, '') ||
    native.mount('', directory, '', MS_BIND | MS_REMOUNT | flags, '');
  if (errno !== 0)
    throw new CommandError(`${directory}: mounting ${image} once more failed: ${errorOf(errno, 'mount(2)').message}`);
}
