/** Block maps of ext2 and ext3 (Documentation/filesystems/ext4/blockmap.rst): 12 direct blocks, then trees of 1 to 3 levels. */
import { CorruptionError } from '../errors.js';
import type { BlockKind } from '../jbd2/block-cache.js';
import { blocksMayBeUsed } from './block-validity.js';
import type { Mapping } from './extent-tree.js';
import { RO_COMPAT } from './features.js';
import type { Inode } from './inode.js';
import type { Geometry } from './volume.js';

export const EXT4_NDIR_BLOCKS = 12;
export const INDIRECT_LEVELS = 3;

/** Carries no checksum. */
export const indirectBlock: BlockKind = { name: 'indirect block' };

/** Where a pointer lies: in the inode (`nr` 0) or in an indirect block. */
export interface Slot {
  readonly nr: number;
  readonly index: number;
}

export function pointersPerBlock({ blockSize }: Geometry): number {
  return blockSize / 4;
}

/** Logical blocks that a map can hold. */
export function maxMappedBlocks(geometry: Geometry): number {
  const pointers = pointersPerBlock(geometry);
  return Math.min(EXT4_NDIR_BLOCKS + pointers + pointers ** 2 + pointers ** 3, 0xffffffff);
}

/** ext4_block_to_path: the index into i_block, then one into each indirect block; null behind the end of the map. */
export function indexPath(geometry: Geometry, lblk: number): number[] | null {
  if (lblk < EXT4_NDIR_BLOCKS) return [lblk];
  const pointers = pointersPerBlock(geometry);
  let rest = lblk - EXT4_NDIR_BLOCKS;
  let level = 1;
  while (level <= INDIRECT_LEVELS && rest >= pointers ** level) rest -= pointers ** level++;
  if (level > INDIRECT_LEVELS) return null;
  const path = [EXT4_NDIR_BLOCKS + level - 1];
  for (let below = level - 1; below >= 0; below--) {
    path.push(Math.floor(rest / pointers ** below));
    rest %= pointers ** below;
  }
  return path;
}

/** The pointer in a slot, 0 for none. Throws CorruptionError if it leads to fixed metadata or out of the filesystem. */
export function readPointer(inode: Inode, { nr, index }: Slot): number {
  const pblk = rawPointer(inode, nr, index);
  return pblk === 0 ? 0 : checked(inode, pblk, 1);
}

function rawPointer(inode: Inode, nr: number, index: number): number {
  if (nr === 0) return inode.block.view.getUint32(inode.iBlockBase + index * 4, true);
  return inode.vol.read(nr, indirectBlock).view.getUint32(index * 4, true);
}

/** The slot of `lblk` and how many more of its table follow; `covered` blocks of hole instead if the way there ends. */
export function findSlot(inode: Inode, lblk: number): { slot: Slot | null; covered: number } {
  const { geometry } = inode.vol;
  const path = indexPath(geometry, lblk);
  if (path === null) return { slot: null, covered: Math.max(1, 0xffffffff - lblk) };
  if (path.length === 1) return { slot: { nr: 0, index: lblk }, covered: EXT4_NDIR_BLOCKS - lblk };
  const pointers = pointersPerBlock(geometry);
  let nr = 0;
  for (let step = 0; step < path.length - 1; step++) {
    nr = readPointer(inode, { nr, index: path[step] });
    if (nr !== 0) continue;
    // The whole subtree is missing: what of it lies before `lblk` does not count.
    let before = 0;
    for (let k = step + 1; k < path.length; k++) before = before * pointers + path[k];
    return { slot: null, covered: pointers ** (path.length - 1 - step) - before };
  }
  const index = path[path.length - 1];
  return { slot: { nr, index }, covered: pointers - index };
}

/** The run of like blocks from `lblk` on, as far as one table shows it. Throws CorruptionError. */
export function mapIndirect(inode: Inode, lblk: number): Mapping {
  const { slot, covered } = findSlot(inode, lblk);
  if (slot === null) return { lblk, count: covered, pblk: 0, unwritten: false };
  const pblk = rawPointer(inode, slot.nr, slot.index);
  let count = 1;
  while (count < covered && rawPointer(inode, slot.nr, slot.index + count) === (pblk === 0 ? 0 : pblk + count)) count++;
  if (pblk !== 0) checked(inode, pblk, count);
  return { lblk, count, pblk, unwritten: false };
}

function checked(inode: Inode, nr: number, count: number): number {
  if (blocksMayBeUsed(inode.vol, nr, count)) return nr;
  throw new CorruptionError('block map', `inode ${inode.ino}`, `it leads to blocks ${nr}+${count}`);
}

export function usesDirectBlocksOnly(inode: Inode): boolean {
  for (let level = 0; level < INDIRECT_LEVELS; level++)
    if (rawPointer(inode, 0, EXT4_NDIR_BLOCKS + level) !== 0) return false;
  return true;
}

/** Bytes that a block-mapped file can have: what the map holds, and what i_blocks counts without huge_file. */
export function maxMappedBytes(geometry: Geometry): number {
  const bytes = maxMappedBlocks(geometry) * geometry.blockSize;
  return (geometry.roCompat & RO_COMPAT.huge_file) !== 0 ? bytes : Math.min(bytes, 0xffffffff * 512);
}
