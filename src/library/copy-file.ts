/** One file copied: data is copied, holes stay holes. */
import { constants } from 'node:fs';
import { FsError } from '../errors.js';
import { changeSize, mustBeRegular } from './attributes.js';
import type { EngineRoom } from './engine-room.js';
import { readBytes, writeBytes } from './file-bytes.js';
import type { FileHandle } from './file-handle.js';
import { openFile } from './open-file.js';
import { openFlags } from './open-flags.js';
import { findPlace } from './paths.js';

const PIECE_BYTES = 1 << 20;

/** `mode` is COPYFILE_*. A copy onto itself, or a link of it, changes nothing. Rejects as {@link EngineRoom.run}. */
export async function copyFile(
  engine: EngineRoom,
  source: Uint8Array,
  target: Uint8Array,
  mode: number,
): Promise<void> {
  const both = [source, target] as const;
  const copied = await engine.run('copyfile', both, (fs) => {
    if ((mode & constants.COPYFILE_FICLONE_FORCE) !== 0) throw new FsError('EOPNOTSUPP', 'blocks are never shared');
    const { ino } = findPlace(fs, source, true);
    if (ino === 0) throw new FsError('ENOENT');
    mustBeRegular(fs, ino);
    const there = findPlace(fs, target, true);
    if (there.ino !== 0 && (mode & constants.COPYFILE_EXCL) !== 0) throw new FsError('EEXIST');
    if (there.ino !== 0) mustBeRegular(fs, there.ino);
    if (there.ino === 0 && there.directoryWanted) throw new FsError('ENOTDIR');
    return ino === there.ino ? null : fs.stat(ino);
  });
  if (copied === null) return;
  const from = await openFile(engine, source, openFlags('r'), 0);
  try {
    const how = openFlags((mode & constants.COPYFILE_EXCL) !== 0 ? 'wx' : 'w');
    const to = await openFile(engine, target, how, copied.mode & 0o777);
    try {
      await copyContent(engine, from, to);
    } finally {
      await to.close();
    }
  } finally {
    await from.close();
  }
}

async function copyContent(engine: EngineRoom, from: FileHandle, to: FileHandle): Promise<void> {
  const buffer = Buffer.alloc(PIECE_BYTES);
  let end = 0;
  for (;;) {
    const start = await engine.run('copyfile', from.path, (fs) => nextData(() => fs.seek(from.ino, end, 'data')));
    if (start === null) break;
    const stop = await engine.run('copyfile', from.path, (fs) => fs.seek(from.ino, start, 'hole'));
    for (end = start; end < stop; ) {
      const at = end;
      const piece = buffer.subarray(0, Math.min(PIECE_BYTES, stop - at));
      const got = await engine.run('copyfile', from.path, (fs) => readBytes(fs, from.ino, at, piece));
      if (got === 0) break;
      await engine.run('copyfile', to.path, (fs) => writeBytes(fs, to.ino, at, piece.subarray(0, got)));
      end = at + got;
    }
    if (end < stop) break;
  }
  await engine.run('copyfile', to.path, (fs) => {
    const { size } = fs.stat(from.ino);
    if (fs.stat(to.ino).size !== size) changeSize(fs, to.ino, size);
  });
}

/** Null: from there on there is none. */
function nextData(seek: () => number): number | null {
  try {
    return seek();
  } catch (error) {
    if (error instanceof FsError && error.code === 'ENXIO') return null;
    throw error;
  }
}
