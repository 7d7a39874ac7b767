/**
 * `mount -o remount`: a mounted filesystem becomes read-only or writable again. The kernel does that for FUSE without a
 * word to the server, so the server is told here: read-only is frozen for it (log empty, image marked clean).
 */
import { constants } from 'node:os';
import { MOUNT_FLAGS, MS_RDONLY, MS_REMOUNT } from '../fuse/mount-flags.js';
import { EXT4D_IOC_FREEZE, EXT4D_IOC_THAW } from '../fuse/operations-ioctl.js';
import { errorOf, requireNative } from '../native.js';
import { CommandError } from './command-error.js';
import { MountExit } from './exit-codes.js';
import { checkNative } from './mount-checks.js';
import { splitWords, VFS_OPPOSITES } from './mount-options.js';
import { changes } from './mount-words.js';
import { type MountEntry, mountAt } from './mountinfo.js';
import { control } from './server-control.js';
import { serverOf, wordsOfServer } from './server-process.js';

const { EBUSY, EINVAL, EPERM, EROFS } = constants.errno;

/** What a remount can change besides ro and rw: the kernel keeps these. */
const SETS = ['nosuid', 'nodev', 'noexec', 'nosymfollow', 'sync'] as const;

export function isRemount(lists: readonly string[]): boolean {
  return lists.flatMap(splitWords).includes('remount');
}

/** Exit code 0, perhaps with a note on stderr. Throws CommandError. */
export function remount(name: string, directory: string, lists: readonly string[]): number {
  checkNative();
  const entry = mountAt(directory);
  if (entry === null) throw new CommandError(`${directory}: not mounted, so it cannot be remounted`);
  const server = serverOf(entry.mountpoint, entry.source);
  if (!/^fuse(blk)?\.ext4d$/.test(entry.type) && server === null)
    throw new CommandError(`${directory}: mounted as ${entry.type}, not by ext4d`);
  const words = lists.flatMap(splitWords);
  const readOnly = words.findLast((word) => word === 'ro' || word === 'rw') === 'ro';
  const before = flagsOf(entry.words);
  const flags = flagsAfter(before, words);
  const kept = keptAsBefore(words, [...entry.words, ...(server === null ? [] : wordsOfServer(server))]);
  if (kept.length > 0 && readOnly === entry.readOnly && flags === before)
    throw new CommandError(`${kept.join(', ')}: not changed while mounted: unmount, then mount with the new options`);
  if (readOnly) becomeReadOnly(directory, entry, flags);
  else becomeWritable(directory, entry, flags);
  if (kept.length > 0) process.stderr.write(`${name}: ${kept.join(', ')}: as it was when it was mounted\n`);
  return MountExit.OK;
}

const isFlag = (word: string): word is keyof typeof MOUNT_FLAGS => Object.hasOwn(MOUNT_FLAGS, word);
const isSet = (word: string): word is (typeof SETS)[number] => SETS.some((one) => one === word);

/** mount(2)'s flags but for read-only. */
function flagsOf(words: readonly string[]): number {
  return words.filter(isFlag).reduce((flags, word) => flags | MOUNT_FLAGS[word], 0);
}

function flagsAfter(before: number, words: readonly string[]): number {
  let flags = before;
  for (const word of words) {
    if (isSet(word)) flags |= MOUNT_FLAGS[word];
    else if (isSet(VFS_OPPOSITES[word])) flags &= ~MOUNT_FLAGS[VFS_OPPOSITES[word]];
  }
  return flags;
}

/** The words that ask for something that stays as it is, and was not asked for before. */
function keptAsBefore(words: readonly string[], before: readonly string[]): string[] {
  return changes(words).filter((word) => !Object.hasOwn(VFS_OPPOSITES, word) && !before.includes(word));
}

/** First the kernel, which refuses while files are open for writing and writes back what it holds; then the server. */
function becomeReadOnly(directory: string, entry: MountEntry, flags: number): void {
  mountAgain(directory, entry, flags | MS_RDONLY);
  if (entry.readOnly) return;
  const errno = control(entry.mountpoint, EXT4D_IOC_FREEZE);
  if (errno === 0 || errno === EBUSY) return;
  throw new CommandError(
    `${directory}: read-only, but its log is not empty: ${errorOf(-errno, 'freeze').message}; the system log tells more`,
  );
}

function becomeWritable(directory: string, entry: MountEntry, flags: number): void {
  if (entry.readOnly) {
    const errno = control(entry.mountpoint, EXT4D_IOC_THAW);
    if (errno === EROFS) {
      throw new CommandError(
        `${directory}: read-only for its server, too (mounted so, write-protected, or after an error): unmount, then mount`,
      );
    }
    // EINVAL: read-only for the kernel alone.
    if (errno !== 0 && errno !== EINVAL)
      throw new CommandError(`${directory}: ${errorOf(-errno, 'thaw').message}; the system log tells more`);
  }
  mountAgain(directory, entry, flags);
}

function mountAgain(directory: string, entry: MountEntry, flags: number): void {
  const errno = -requireNative().mount(entry.source, entry.mountpoint, entry.type, MS_REMOUNT | flags, '');
  if (errno === 0) return;
  if (errno === EBUSY)
    throw new CommandError(`${directory}: files are open for writing: fuser -vm ${directory} shows by whom`);
  if (errno === EPERM)
    throw new CommandError(`${directory}: remounting is for root, with CAP_SYS_ADMIN`, MountExit.USAGE);
  throw new CommandError(`${directory}: remounting failed: ${errorOf(-errno, 'mount(2)').message}`);
}
