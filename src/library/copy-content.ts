/** The content of one file for another that is empty: data is copied, holes stay holes. */
import { FsError } from '../errors.js';
import { changeSize } from './attributes.js';
import type { EngineRoom } from './engine-room.js';
import { readBytes, writeBytes } from './file-bytes.js';
import type { FileHandle } from './file-handle.js';

const PIECE_BYTES = 1 << 20;

export async function copyContent(engine: EngineRoom, from: FileHandle, to: FileHandle): Promise<void> {
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
