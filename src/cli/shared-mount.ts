/**
 * A device that ext4d has mounted is mounted once more: as with the kernel's own filesystems both places show the same
 * one, with the options of the first. FUSE takes a device once, so the second place is a clone of the first mount.
 */
import { statSync } from 'node:fs';
import { errorOf, requireNative } from '../native.js';
import { CommandError } from './command-error.js';
import { deviceNumberText } from './device-number.js';
import { checkMountpoint, checkNative } from './mount-checks.js';
import { type MountOptions, splitWords } from './mount-options.js';
import { changes } from './mount-words.js';
import { type MountEntry, mountAt, readMountinfo } from './mountinfo.js';
import { serverOf, wordsOfServer } from './server-process.js';

/** What makes another filesystem, or another state of it, of the same device. */
const OTHER_FILESYSTEM = /^(part|offset|sizelimit|image_offset|image_sizelimit|sb|overlay)=/;
const isOther = (word: string) => OTHER_FILESYSTEM.test(word);

/** MOUNT_ATTR_* of mount_setattr(2). */
const ATTRIBUTES: Readonly<Record<string, number>> = { nosuid: 2, nodev: 4, noexec: 8, nosymfollow: 0x200000 };

/** A mount, and the options that its server was given. */
export interface EarlierMount {
  readonly entry: MountEntry;
  readonly words: readonly string[];
}

/** Where ext4d shows the filesystem of a device already, if a mount with these options would be of the same. */
export function mountedAlready(image: string, lists: readonly string[]): EarlierMount | null {
  const stat = statSync(image, { throwIfNoEntry: false });
  if (stat?.isBlockDevice() !== true || lists.flatMap(splitWords).some(isOther)) return null;
  const device = deviceNumberText(stat.rdev);
  const shows = (entry: MountEntry) =>
    entry.device === device && entry.root === '/' && mountAt(entry.mountpoint)?.device === device;
  const entry = readMountinfo().find((candidate) => candidate.type === 'fuseblk.ext4d' && shows(candidate));
  const server = entry === undefined ? null : serverOf(entry.mountpoint, entry.source);
  if (entry === undefined || server === null) return null;
  const words = wordsOfServer(server);
  return words.some(isOther) ? null : { entry, words };
}

/** Shows it on `directory` as well, and says on stderr which options are not those of this mount. Throws CommandError. */
export function mountAgainOn(
  { entry, words }: EarlierMount,
  image: string,
  directory: string,
  asked: { readonly options: MountOptions; readonly words: readonly string[] },
): void {
  checkMountpoint(directory);
  const { readOnly, readWrite, vfs } = asked.options;
  if ((readOnly || readWrite) && readOnly !== entry.readOnly) {
    const [is, wanted] = entry.readOnly ? ['read-only', 'rw'] : ['read-write', 'ro'];
    throw new CommandError(
      `${image}: already mounted ${is} on ${entry.mountpoint}, and cannot be ${wanted} elsewhere: mount -o remount,${wanted} ${entry.mountpoint}`,
    );
  }
  checkNative();
  let attributes = 0;
  for (const word of vfs) attributes |= ATTRIBUTES[word] ?? 0;
  const errno = requireNative().cloneMount(entry.mountpoint, directory, attributes);
  if (errno !== 0)
    throw new CommandError(
      `${directory}: mounting ${image} once more failed: ${errorOf(errno, 'open_tree(2)').message}: try mount --bind`,
    );
  const known = [...entry.words, ...words, ...Object.keys(ATTRIBUTES)];
  const other = changes(asked.words.flatMap(splitWords)).filter((word) => !known.includes(word));
  if (other.length > 0) process.stderr.write(`${image}: ${other.join(', ')}: as on ${entry.mountpoint}\n`);
}
