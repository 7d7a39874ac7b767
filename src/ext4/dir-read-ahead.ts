/**
 * A directory that is going to be read, block by block, is told to the device beforehand: a disk is then asked once for all of it. Only
 * a hint: its blocks are read, and verified, like all others.
 */
import { mapBlock } from './block-map.js';
import type { Inode } from './inode.js';
import type { Volume } from './volume.js';

/** The most of a directory that is asked for when somebody begins to list it, in bytes and in pieces. */
const DIRECTORY_BYTES = 1 << 20;
const DIRECTORY_PIECES = 16;

/** Before all of a directory is read. Leaves of an index come in the order of their hashes, which is no order on a disk. */
export function readAheadDirectory(vol: Volume, dir: Inode, blocks: number): void {
  const most = Math.min(blocks, DIRECTORY_BYTES / vol.geometry.blockSize);
  if (most < 2) return;
  let lblk = 0;
  for (let pieces = 0; lblk < most && pieces < DIRECTORY_PIECES; pieces++) {
    const { pblk, count, unwritten } = mapBlock(dir, lblk);
    // Whoever reads it says what is wrong with it.
    if (pblk === 0 || unwritten) return;
    const length = Math.min(count, most - lblk);
    vol.willRead(pblk, length);
    lblk += length;
  }
}
