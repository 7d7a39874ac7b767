/** What is in directories, for readdir, walk and rm. */
import { FsError } from '../errors.js';
import { S_IFDIR } from '../ext4/format/inode.js';
import type { Ino } from '../ext4/inode.js';
import { typeOf } from './attributes.js';
import type { EngineRoom } from './engine-room.js';
import { findInode, isDot, isDotDot, joinPath, textOf } from './paths.js';
import { Dirent } from './stats.js';

/** The file type of a directory entry (EXT4_FT_*) as the type bits of a mode; 0: the inode knows. */
const MODE_OF_TYPE = [0, 0o100000, S_IFDIR, 0o020000, 0o060000, 0o010000, 0o140000, 0o120000];

/** All but "." and "..", in the order of the directory. `syscall` is who asks. Rejects as {@link EngineRoom.run}. */
export function entriesIn(engine: EngineRoom, syscall: string, path: Uint8Array): Promise<Dirent[]> {
  return engine.run(syscall, path, (fs) => {
    const directory = findInode(fs, path, true);
    if (typeOf(fs, directory) !== S_IFDIR) throw new FsError('ENOTDIR');
    const found: { readonly name: Buffer; readonly ino: Ino; readonly type: number }[] = [];
    fs.readdir(directory, 0, (name, ino, type) => {
      if (!isDot(name) && !isDotDot(name)) found.push({ name: Buffer.from(name), ino, type });
      return true;
    });
    const parentPath = textOf(path);
    return found.map(
      ({ name, ino, type }) => new Dirent(name, parentPath, ino, MODE_OF_TYPE[type] || fs.stat(ino).mode),
    );
  });
}

/** Everything below, parents before what is in them, each with its path. Links are not followed. */
export async function* entriesBelow(
  engine: EngineRoom,
  path: Uint8Array,
): AsyncGenerator<[path: Buffer, entry: Dirent]> {
  for (const entry of await entriesIn(engine, 'scandir', path)) {
    const below = joinPath(path, entry.nameBytes);
    yield [below, entry];
    if (entry.isDirectory()) yield* entriesBelow(engine, below);
  }
}
