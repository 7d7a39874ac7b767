/** From paths to inodes, inside the image: symbolic links are followed there, and `..` ends at its root. */
import { FsError } from '../errors.js';
import type { Filesystem } from '../ext4/filesystem.js';
import { EXT4_ROOT_INO } from '../ext4/format/inode.js';
import type { Ino } from '../ext4/inode.js';

/** A string is UTF-8; bytes are what the directory has. */
export type PathLike = string | Uint8Array;

const MAX_SYMLINKS = 40;
const S_IFMT = 0o170000;
const S_IFLNK = 0o120000;
const S_IFDIR = 0o040000;
const SLASH = 0x2f;

export function bytesOf(path: PathLike): Uint8Array {
  const bytes = typeof path === 'string' ? Buffer.from(path, 'utf8') : path;
  if (bytes.length === 0) throw new FsError('ENOENT', 'the path is empty');
  if (bytes.includes(0)) throw new FsError('EINVAL', 'a path has no NUL');
  return bytes;
}

export const textOf = (path: PathLike): string =>
  typeof path === 'string' ? path : Buffer.from(path).toString('utf8');

/** The names between the slashes; empty ones and "." say nothing. */
function namesOf(path: Uint8Array): Uint8Array[] {
  const names: Uint8Array[] = [];
  for (let from = 0; from <= path.length; ) {
    let to = path.indexOf(SLASH, from);
    if (to < 0) to = path.length;
    const name = path.subarray(from, to);
    if (name.length > 0 && !(name.length === 1 && name[0] === 0x2e)) names.push(name);
    from = to + 1;
  }
  return names;
}

const isDotDot = (name: Uint8Array) => name.length === 2 && name[0] === 0x2e && name[1] === 0x2e;

/** Where a path ends: the directory, the last name in it, and what that is. */
export interface Place {
  readonly parent: Ino;
  /** Empty for the root, and for a path that ends in `..`. */
  readonly name: Uint8Array;
  /** 0: there is no such name. */
  readonly ino: Ino | 0;
}

/**
 * Walks the path. With `follow` a symbolic link at its end is followed as well. Throws FsError ENOENT, ENOTDIR, ELOOP,
 * ENAMETOOLONG; that the last name is missing is no error.
 */
export function findPlace(fs: Filesystem, path: PathLike, follow: boolean): Place {
  const bytes = bytesOf(path);
  const mustBeDirectory = bytes[bytes.length - 1] === SLASH;
  let left = namesOf(bytes);
  let trail: Ino[] = [EXT4_ROOT_INO];
  let links = 0;
  let place: Place = { parent: EXT4_ROOT_INO, name: new Uint8Array(), ino: EXT4_ROOT_INO };
  while (left.length > 0) {
    const [name, ...rest] = left;
    left = rest;
    const parent = trail[trail.length - 1];
    if ((fs.stat(parent).mode & S_IFMT) !== S_IFDIR) throw new FsError('ENOTDIR');
    if (isDotDot(name)) {
      if (trail.length > 1) trail.pop();
      place = { parent: trail[trail.length - 1], name: new Uint8Array(), ino: trail[trail.length - 1] };
      continue;
    }
    const ino = fs.lookup(parent, name);
    place = { parent, name, ino };
    if (ino === 0) {
      if (left.length > 0) throw new FsError('ENOENT');
      return place;
    }
    const isLast = left.length === 0;
    if ((fs.stat(ino).mode & S_IFMT) !== S_IFLNK || (isLast && !follow && !mustBeDirectory)) {
      trail.push(ino);
      continue;
    }
    if (++links > MAX_SYMLINKS) throw new FsError('ELOOP');
    const target = fs.readlink(ino);
    if (target[0] === SLASH) trail = [EXT4_ROOT_INO];
    left = [...namesOf(target), ...left];
    if (left.length === 0) place = { parent: EXT4_ROOT_INO, name: new Uint8Array(), ino: trail[trail.length - 1] };
  }
  if (mustBeDirectory && place.ino !== 0 && (fs.stat(place.ino).mode & S_IFMT) !== S_IFDIR)
    throw new FsError('ENOTDIR');
  return place;
}

/** The inode at the end of the path. Throws FsError ENOENT as well. */
export function findInode(fs: Filesystem, path: PathLike, follow: boolean): Ino {
  const { ino } = findPlace(fs, path, follow);
  if (ino === 0) throw new FsError('ENOENT');
  return ino;
}

/** A name that can be made or taken away. Throws FsError EBUSY for the root, EINVAL for "..". */
export function findName(fs: Filesystem, path: PathLike): Place {
  const place = findPlace(fs, path, false);
  if (place.name.length === 0) throw new FsError(place.ino === EXT4_ROOT_INO ? 'EBUSY' : 'EINVAL');
  return place;
}
