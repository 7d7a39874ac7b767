/** Directories made and removed with all that is above or below them. */
import { FsError } from '../errors.js';
import { S_IFDIR } from '../ext4/format/inode.js';
import { typeOf } from './attributes.js';
import type { EngineRoom } from './engine-room.js';
import { hasCode } from './image-error.js';
import { entriesIn } from './listing.js';
import { makeDirectory, removeDirectory, removeFile } from './names.js';
import { findInode, findPlace, joinPath, parentOf } from './paths.js';

/**
 * mkdir -p. What is there already is no error if it is a directory, or leads to one. Resolves to the first that was made.
 * Rejects as {@link EngineRoom.run}.
 */
export async function makeDirectories(
  engine: EngineRoom,
  path: Uint8Array,
  mode: number,
): Promise<Uint8Array | undefined> {
  const there = await engine.run('mkdir', path, (fs) => {
    try {
      const { ino } = findPlace(fs, path, true);
      if (ino === 0) return 'missing';
      if (typeOf(fs, ino) !== S_IFDIR) throw new FsError('EEXIST');
      return 'there';
    } catch (error) {
      if (error instanceof FsError && error.code === 'ENOENT' && path.length > 0) return 'further up';
      throw error;
    }
  });
  if (there === 'there') return undefined;
  const above = parentOf(path);
  const first = there === 'further up' && above !== null ? await makeDirectories(engine, above, mode) : undefined;
  try {
    await engine.run('mkdir', path, () => makeDirectory(engine, path, mode));
    return first ?? path;
  } catch (error) {
    // Somebody else made it meanwhile, or the path ends with "..".
    if (!hasCode(error, 'EEXIST')) throw error;
    return first;
  }
}

/** rm, with `recursive` -r and with `force` -f. Rejects as {@link EngineRoom.run}. */
export async function removeTree(
  engine: EngineRoom,
  path: Uint8Array,
  { recursive, force }: { readonly recursive: boolean; readonly force: boolean },
): Promise<void> {
  let type: number;
  try {
    type = await engine.run('lstat', path, (fs) => typeOf(fs, findInode(fs, path, false)));
  } catch (error) {
    if (force && hasCode(error, 'ENOENT')) return;
    throw error;
  }
  if (type !== S_IFDIR) {
    await engine.run('unlink', path, () => removeFile(engine, path));
    return;
  }
  if (!recursive) {
    await engine.run('rm', path, () => {
      throw new FsError('EISDIR', 'a directory: say recursive');
    });
  }
  for (const { nameBytes } of await entriesIn(engine, 'scandir', path))
    await removeTree(engine, joinPath(path, nameBytes), { recursive: true, force: true });
  await engine.run('rmdir', path, () => removeDirectory(engine, path));
}
