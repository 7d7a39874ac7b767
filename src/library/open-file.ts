/** Opening a file by its path. */
import { FsError } from '../errors.js';
import { S_IFDIR, S_IFLNK } from '../ext4/format/inode.js';
import { changeSize, mustBeRegular, typeOf } from './attributes.js';
import type { EngineRoom } from './engine-room.js';
import { FileHandle } from './file-handle.js';
import { createFile } from './names.js';
import type { OpenFlags } from './open-flags.js';
import { findPlace, textOf } from './paths.js';

/** `mode` is that of a file that is made. Rejects as {@link EngineRoom.run}. */
export function openFile(engine: EngineRoom, path: Uint8Array, how: OpenFlags, mode: number): Promise<FileHandle> {
  return engine.run('open', path, (fs) => {
    if (how.directoryOnly && how.creates) throw new FsError('EINVAL', 'open makes no directories');
    const place = findPlace(fs, path, !how.exclusive && !how.noFollow);
    if (how.exclusive && place.ino !== 0) throw new FsError('EEXIST');
    if (place.ino === 0 && !how.creates) throw new FsError('ENOENT');
    if (place.ino === 0 && place.directoryWanted) throw new FsError('EISDIR');
    const type = place.ino === 0 ? 0 : typeOf(fs, place.ino);
    if (type === S_IFLNK) throw new FsError('ELOOP');
    if (type === S_IFDIR && how.creates) throw new FsError('EISDIR');
    if (type !== S_IFDIR && how.directoryOnly) throw new FsError('ENOTDIR');
    const changes = how.writes || how.truncates;
    if (place.ino !== 0 && changes) mustBeRegular(fs, place.ino);
    if (changes && fs.readOnly) throw new FsError('EROFS');
    const ino = place.ino !== 0 ? place.ino : createFile(engine, place, mode);
    if (how.truncates && fs.stat(ino).size > 0) changeSize(fs, ino, 0);
    return new FileHandle(engine, ino, textOf(path), how);
  });
}
