/** From paths to inodes, inside the image: symbolic links are followed there, and `..` ends at its root. */
import { FsError } from '../errors.js';
import type { Filesystem } from '../ext4/filesystem.js';
import { EXT4_ROOT_INO, S_IFDIR, S_IFLNK, S_IFMT } from '../ext4/format/inode.js';
import type { Ino } from '../ext4/inode.js';

const MAX_SYMLINKS = 40;
const SLASH = 0x2f;
const DOT = 0x2e;

export const textOf = (path: Uint8Array | string): string =>
  typeof path === 'string' ? path : Buffer.from(path).toString();

/** Where a path ends: the directory, the last name in it, and what that is. */
export interface Place {
  readonly parent: Ino;
  /** Empty where `last` says so. */
  readonly name: Uint8Array;
  /** Only names can be made and removed. */
  readonly last: 'name' | 'root' | 'dot' | 'dotdot';
  /** 0: there is no such name. */
  readonly ino: Ino | 0;
  /** A slash at the end: only a directory will do. */
  readonly directoryWanted: boolean;
  /** The names that lead here from the root, without links, "." and "..". */
  readonly real: readonly Uint8Array[];
}

/** The names between the slashes. Throws FsError ENOENT for an empty path, EINVAL for a NUL. */
function namesOf(path: Uint8Array): Uint8Array[] {
  if (path.length === 0) throw new FsError('ENOENT', 'the path is empty');
  if (path.includes(0)) throw new FsError('EINVAL', 'a path has no NUL');
  const names: Uint8Array[] = [];
  for (let from = 0; from < path.length; ) {
    const found = path.indexOf(SLASH, from);
    const to = found < 0 ? path.length : found;
    if (to > from) names.push(path.subarray(from, to));
    from = to + 1;
  }
  return names;
}

export const isDot = (name: Uint8Array) => name.length === 1 && name[0] === DOT;
export const isDotDot = (name: Uint8Array) => name.length === 2 && name[0] === DOT && name[1] === DOT;

/**
 * Walks the path. With `follow` a symbolic link at its end is followed as well. Throws FsError ENOENT, ENOTDIR, ELOOP,
 * ENAMETOOLONG; that the last name is missing is no error.
 */
export function findPlace(fs: Filesystem, bytes: Uint8Array, follow: boolean): Place {
  const trail: { readonly ino: Ino; readonly name: Uint8Array }[] = [];
  /** Names still to go, the next one last. */
  const ahead = namesOf(bytes).reverse();
  let directoryWanted = bytes[bytes.length - 1] === SLASH;
  let last: Place['last'] = 'root';
  let links = 0;
  while (ahead.length > 0) {
    const name = ahead.pop() as Uint8Array;
    if (isDot(name) || isDotDot(name)) {
      if (isDotDot(name)) trail.pop();
      last = isDot(name) ? 'dot' : 'dotdot';
      continue;
    }
    const parent = trail[trail.length - 1]?.ino ?? EXT4_ROOT_INO;
    const ino = fs.lookup(parent, name);
    const isLast = ahead.length === 0;
    const found = (): Place => {
      return { parent, name, last: 'name', ino, directoryWanted, real: [...trail.map((step) => step.name), name] };
    };
    if (ino === 0) {
      if (!isLast) throw new FsError('ENOENT');
      return found();
    }
    const type = fs.stat(ino).mode & S_IFMT;
    if (type === S_IFLNK && (!isLast || follow || directoryWanted)) {
      if (++links > MAX_SYMLINKS) throw new FsError('ELOOP');
      const target = fs.readlink(ino);
      if (isLast && target[target.length - 1] === SLASH) directoryWanted = true;
      if (target[0] === SLASH) trail.length = 0;
      ahead.push(...namesOf(target).reverse());
      continue;
    }
    if ((!isLast || directoryWanted) && type !== S_IFDIR) throw new FsError('ENOTDIR');
    if (isLast) return found();
    trail.push({ ino, name });
  }
  return {
    parent: trail[trail.length - 2]?.ino ?? EXT4_ROOT_INO,
    name: new Uint8Array(0),
    last,
    ino: trail[trail.length - 1]?.ino ?? EXT4_ROOT_INO,
    directoryWanted: true,
    real: trail.map((step) => step.name),
  };
}

/** The inode at the end of the path. Throws FsError ENOENT as well. */
export function findInode(fs: Filesystem, path: Uint8Array, follow: boolean): Ino {
  const { ino } = findPlace(fs, path, follow);
  if (ino === 0) throw new FsError('ENOENT');
  return ino;
}

/** As {@link findPlace} for a name to be made or removed: a link is not followed, with or without a slash behind it. */
export function findName(fs: Filesystem, bytes: Uint8Array): Place {
  const bare = withoutSlashes(bytes);
  return { ...findPlace(fs, bare, false), directoryWanted: bare.length < bytes.length };
}

function withoutSlashes(path: Uint8Array): Uint8Array {
  let end = path.length;
  while (end > 1 && path[end - 1] === SLASH) end--;
  return path.subarray(0, end);
}

/** The directory that a path names something in; null for one name alone, and for the root. */
export function parentOf(path: Uint8Array): Uint8Array | null {
  if (isSlash(path)) return null;
  const slash = withoutSlashes(path).lastIndexOf(SLASH);
  return slash < 0 ? null : withoutSlashes(path.subarray(0, slash + 1));
}

/** The path of a name in a directory. */
export function joinPath(directory: Uint8Array, name: Uint8Array): Buffer {
  return Buffer.concat([withoutSlashes(directory), Buffer.from(isSlash(directory) ? '' : '/'), name]);
}

const isSlash = (path: Uint8Array) => path.every((byte) => byte === SLASH);

/** "/a/b"; "/" for the root. */
export function joinReal(names: readonly Uint8Array[]): Buffer {
  return names.reduce<Buffer>((path, name) => joinPath(path, name), Buffer.from('/'));
}
