/** Making and removing names, as Linux does: each one operation for {@link EngineRoom.run}. */
import { FsError } from '../errors.js';
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK } from '../ext4/format/inode.js';
import type { Ino } from '../ext4/inode.js';
import { createInheriting } from '../ext4/posix-acl.js';
import { typeOf } from './attributes.js';
import type { EngineRoom } from './engine-room.js';
import { findInode, findName, type Place } from './paths.js';

/** A place without a file, for one that is not to be a directory. Throws FsError EEXIST, ENOENT. */
function freePlace({ fs }: EngineRoom, path: Uint8Array): Place {
  const place = findName(fs, path);
  if (place.ino !== 0) throw new FsError('EEXIST');
  if (place.directoryWanted) throw new FsError('ENOENT');
  return place;
}

/** The umask, or a default ACL of the directory, limits the mode of a new file. */
function make({ fs, settings }: EngineRoom, parent: Ino, mode: number, create: (mode: number) => Ino): Ino {
  return createInheriting(fs, parent, mode, settings.umask, create);
}

/** Returns the new file. */
export function createFile(engine: EngineRoom, { parent, name }: Place, mode: number): Ino {
  const { fs, settings } = engine;
  return make(engine, parent, S_IFREG | mode, (limited) => fs.create(parent, name, limited, settings.owner));
}

export function makeDirectory(engine: EngineRoom, path: Uint8Array, mode: number): void {
  const { fs, settings } = engine;
  const { parent, name, ino } = findName(fs, path);
  if (ino !== 0) throw new FsError('EEXIST');
  make(engine, parent, S_IFDIR | mode, (limited) => fs.mkdir(parent, name, limited, settings.owner));
}

const NODE_TYPES: ReadonlySet<number> = new Set([S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK]);

/** `mode` with its type bits; none means a regular file. Throws FsError EINVAL for other types than mknod(2) makes. */
export function makeNode(engine: EngineRoom, path: Uint8Array, mode: number, rdev: number): void {
  const { fs, settings } = engine;
  const type = (mode & S_IFMT) === 0 ? S_IFREG : mode & S_IFMT;
  if (!NODE_TYPES.has(type)) throw new FsError('EINVAL', `mode ${mode.toString(8)}`);
  const place = freePlace(engine, path);
  const { parent, name } = place;
  if (type === S_IFREG) createFile(engine, place, mode & ~S_IFMT);
  else make(engine, parent, mode, (limited) => fs.mknod(parent, name, limited, rdev, settings.owner));
}

export function makeSymlink(engine: EngineRoom, target: Uint8Array, path: Uint8Array): void {
  if (target.length === 0) throw new FsError('ENOENT', 'a symbolic link has a target');
  if (target.includes(0)) throw new FsError('EINVAL', 'a path has no NUL');
  const { parent, name } = freePlace(engine, path);
  engine.fs.symlink(parent, name, target, engine.settings.owner);
}

export function makeLink(engine: EngineRoom, existing: Uint8Array, path: Uint8Array): void {
  const ino = findInode(engine.fs, existing, false);
  const { parent, name } = freePlace(engine, path);
  engine.fs.link(ino, parent, name);
}

export function removeFile(engine: EngineRoom, path: Uint8Array): void {
  const { fs } = engine;
  const { parent, name, last, ino, directoryWanted } = findName(fs, path);
  if (ino === 0) throw new FsError('ENOENT');
  if (last !== 'name' || typeOf(fs, ino) === S_IFDIR) throw new FsError('EISDIR');
  if (directoryWanted) throw new FsError('ENOTDIR');
  engine.endIfUnused(fs.unlink(parent, name));
}

/** Why rmdir(2) leaves these where they are. */
const NOT_REMOVED = { root: 'EBUSY', dot: 'EINVAL', dotdot: 'ENOTEMPTY' } as const;

export function removeDirectory(engine: EngineRoom, path: Uint8Array): void {
  const { fs } = engine;
  const { parent, name, last, ino } = findName(fs, path);
  if (last !== 'name') throw new FsError(NOT_REMOVED[last]);
  if (ino === 0) throw new FsError('ENOENT');
  engine.endIfUnused(fs.rmdir(parent, name));
}

/** `flags` are those of renameat2(2). */
export function renamePath(engine: EngineRoom, from: Uint8Array, to: Uint8Array, flags: number): void {
  const { fs, settings } = engine;
  const old = findName(fs, from);
  const place = findName(fs, to);
  if (old.last !== 'name' || place.last !== 'name') throw new FsError('EBUSY');
  if (old.ino === 0) throw new FsError('ENOENT');
  const slash = old.directoryWanted || place.directoryWanted;
  if (slash && typeOf(fs, old.ino) !== S_IFDIR) throw new FsError('ENOTDIR');
  const { replaced } = fs.rename(old.parent, old.name, place.parent, place.name, flags, settings.owner);
  engine.endIfUnused(replaced);
}
