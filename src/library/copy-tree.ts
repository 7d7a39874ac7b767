/** Copies of files, links and directories with what is in them, as fs.cp makes them. */
import { posix } from 'node:path';
import type { InodeStat } from '../ext4/filesystem.js';
import { EXT4_ROOT_INO, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } from '../ext4/format/inode.js';
import { changeMode, changeTimes } from './attributes.js';
import { copyFile } from './copy-file.js';
import type { EngineRoom } from './engine-room.js';
import { hasCode } from './image-error.js';
import type { CpOptions } from './image-options.js';
import { entriesIn } from './listing.js';
import { makeDirectory, makeSymlink, removeFile } from './names.js';
import { findInode, findPlace, joinPath, joinReal, parentOf, textOf } from './paths.js';
import { makeDirectories } from './trees.js';

/** Rejects as {@link EngineRoom.run}, and with codes ERR_FS_CP_* and ERR_FS_EISDIR. */
export async function copyTree(
  engine: EngineRoom,
  source: Uint8Array,
  target: Uint8Array,
  options: Required<CpOptions>,
): Promise<void> {
  if (!(await options.filter(textOf(source), textOf(target)))) return;
  await mustBeApart(engine, source, target, options.dereference);
  const above = parentOf(target);
  if (above !== null) await makeDirectories(engine, above, 0o777);
  await copyEntry(engine, source, target, options);
}

/** Nothing is copied onto itself, and no directory into itself. */
async function mustBeApart(engine: EngineRoom, source: Uint8Array, target: Uint8Array, follow: boolean): Promise<void> {
  const from = await statOf(engine, source, follow);
  const isDirectory = (from.mode & S_IFMT) === S_IFDIR;
  const why = await engine.run('cp', [source, target], (fs) => {
    const there = placeOf(() => findPlace(fs, target, follow));
    if (there !== null && there.ino === from.ino) return 'they are the same';
    let found = there?.ino ? there : null;
    // The root is always there.
    for (let above = parentOf(target); isDirectory && found === null && above !== null; above = parentOf(above)) {
      const path = above;
      const place = placeOf(() => findPlace(fs, path, true));
      if (place?.ino) found = place;
    }
    const names = found?.real ?? [];
    const above = names.map((_, i) => findInode(fs, joinReal(names.slice(0, i + 1)), false));
    const inside = isDirectory && [EXT4_ROOT_INO, ...above].includes(from.ino);
    return inside ? 'a directory cannot hold a copy of itself' : null;
  });
  if (why !== null) throw refused('ERR_FS_CP_EINVAL', 'EINVAL', source, target, why);
}

function placeOf<T>(find: () => T): T | null {
  try {
    return find();
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) return null;
    throw error;
  }
}

const statOf = (engine: EngineRoom, path: Uint8Array, follow: boolean): Promise<InodeStat> =>
  engine.run(follow ? 'stat' : 'lstat', path, (fs) => fs.stat(findInode(fs, path, follow)));

async function statIfThere(engine: EngineRoom, path: Uint8Array, follow: boolean): Promise<InodeStat | null> {
  try {
    return await statOf(engine, path, follow);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return null;
    throw error;
  }
}

async function copyEntry(
  engine: EngineRoom,
  source: Uint8Array,
  target: Uint8Array,
  options: Required<CpOptions>,
): Promise<void> {
  const from = await statOf(engine, source, options.dereference);
  const to = await statIfThere(engine, target, options.dereference);
  const type = from.mode & S_IFMT;
  const isDirectory = to !== null && (to.mode & S_IFMT) === S_IFDIR;
  if (type === S_IFDIR) {
    if (!options.recursive) throw refused('ERR_FS_EISDIR', 'EISDIR', source, target, 'a directory: say recursive');
    if (to !== null && !isDirectory)
      throw refused('ERR_FS_CP_DIR_TO_NON_DIR', 'EISDIR', source, target, 'a directory replaces no file');
    await copyDirectory(engine, source, target, from, to === null, options);
    return;
  }
  if (isDirectory) throw refused('ERR_FS_CP_NON_DIR_TO_DIR', 'ENOTDIR', source, target, 'a file replaces no directory');
  if (type === S_IFSOCK) throw refused('ERR_FS_CP_SOCKET', 'EINVAL', source, target, 'a socket');
  if (type === S_IFIFO) throw refused('ERR_FS_CP_FIFO_PIPE', 'EINVAL', source, target, 'a fifo');
  if (type !== S_IFREG && type !== S_IFLNK) throw refused('ERR_FS_CP_UNKNOWN', 'EINVAL', source, target, 'a device');
  if (to !== null && type === S_IFREG) {
    if (!options.force && options.errorOnExist)
      throw refused('ERR_FS_CP_EEXIST', 'EEXIST', source, target, 'it is there already');
    if (!options.force) return;
    // A copy of its own, also where it was a link of another.
    await engine.run('unlink', target, () => removeFile(engine, target));
  }
  if (type === S_IFLNK) {
    await copyLink(engine, source, target, to !== null, options.verbatimSymlinks);
    return;
  }
  await copyFile(engine, source, target, options.mode);
  await finish(engine, target, from, options.preserveTimestamps);
}

async function copyDirectory(
  engine: EngineRoom,
  source: Uint8Array,
  target: Uint8Array,
  from: InodeStat,
  isNew: boolean,
  options: Required<CpOptions>,
): Promise<void> {
  if (isNew) await engine.run('mkdir', target, () => makeDirectory(engine, target, 0o777));
  for (const { nameBytes } of await entriesIn(engine, 'scandir', source)) {
    const [below, copy] = [joinPath(source, nameBytes), joinPath(target, nameBytes)];
    if (await options.filter(textOf(below), textOf(copy))) await copyEntry(engine, below, copy, options);
  }
  if (isNew) await finish(engine, target, from, options.preserveTimestamps);
}

async function copyLink(
  engine: EngineRoom,
  source: Uint8Array,
  target: Uint8Array,
  replaces: boolean,
  verbatim: boolean,
): Promise<void> {
  const words = await engine.run('readlink', source, (fs) => fs.readlink(findInode(fs, source, false)));
  const leads = verbatim ? words : fromRoot(parentOf(source), words);
  if (replaces) await engine.run('unlink', target, () => removeFile(engine, target));
  await engine.run('symlink', [leads, target], () => makeSymlink(engine, leads, target));
}

/** The path that `words` are, seen from a directory. Every byte is a character meanwhile, as names need not be UTF-8. */
function fromRoot(directory: Uint8Array | null, words: Uint8Array): Buffer {
  const [above, way] = [directory ?? Buffer.alloc(0), words].map((bytes) => Buffer.from(bytes).toString('latin1'));
  return Buffer.from(posix.resolve('/', above, way), 'latin1');
}

async function finish(engine: EngineRoom, path: Uint8Array, { mode, atime, mtime }: InodeStat, times: boolean) {
  await engine.run('chmod', path, (fs) => changeMode(fs, findInode(fs, path, true), mode));
  if (times) await engine.run('utime', path, (fs) => changeTimes(fs, findInode(fs, path, true), atime, mtime));
}

function refused(code: string, errno: string, source: Uint8Array, target: Uint8Array, why: string): Error {
  const [path, dest] = [textOf(source), textOf(target)];
  const message = `${why}: cp returned ${errno}, '${path}' -> '${dest}'`;
  return Object.assign(new Error(message), { code, syscall: 'cp', path, dest });
}
