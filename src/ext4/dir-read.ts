/** Directory blocks by their number inside the directory. */
import { CorruptionError, FsError } from '../errors.js';
import type { CachedBlock, WritableBlock } from '../jbd2/block-cache.js';
import type { Handle } from '../jbd2/handle.js';
import { allocateMetadataBlock, mapBlock } from './block-map.js';
import { directoryKind } from './dir-block.js';
import type { Inode } from './inode.js';
import type { Volume } from './volume.js';

/** Blocks of the directory, by its size. Throws CorruptionError for one that it cannot have: all of them are mapped. */
export function blockCount(vol: Volume, dir: Inode): number {
  const { blockSize, blocksCount } = vol.geometry;
  const { sizeBytes } = dir;
  const mostBlocks = Math.min(blocksCount, 0x1000_0000);
  if (sizeBytes % blockSize !== 0 || sizeBytes > blockSize * mostBlocks) {
    throw new CorruptionError('directory', `inode ${dir.ino}`, `its size is ${sizeBytes}`);
  }
  return sizeBytes / blockSize;
}

/** The block at `lblk`. Throws CorruptionError for a hole. */
export function readDirBlock(vol: Volume, dir: Inode, lblk: number): CachedBlock {
  const { pblk, unwritten } = mapBlock(dir, lblk);
  if (pblk === 0 || unwritten) throw new CorruptionError('directory', `inode ${dir.ino}`, `block ${lblk} is missing`);
  return vol.read(pblk, directoryKind(vol), dir.seed);
}

/** A new block at the end of the directory, zeroed; the size covers it. */
export function appendDirBlock(handle: Handle, vol: Volume, dir: Inode): { lblk: number; block: WritableBlock } {
  const lblk = blockCount(vol, dir);
  if (dir.sizeBytes >= vol.policy.maxDirectoryBytes)
    throw new FsError('ENOSPC', 'the directory has reached max_dir_size_kb');
  const pblk = allocateMetadataBlock(handle, dir, lblk);
  const block = handle.getCreateAccess(pblk, directoryKind(vol), dir.seed);
  handle.dirtyMetadata(block);
  dir.edit(handle).setSizeBytes((lblk + 1) * vol.geometry.blockSize);
  return { lblk, block };
}

export function writeAccess(handle: Handle, block: CachedBlock): WritableBlock {
  const writable = handle.getWriteAccess(block);
  handle.dirtyMetadata(writable);
  return writable;
}
