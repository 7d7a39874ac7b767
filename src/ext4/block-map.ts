/** The blocks of a file, however its inode maps them: an extent tree, or the block map of ext2 and ext3. */
import { CorruptionError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { allocateBlocks, mayUseReservedBlocks, type Run } from './block-alloc.js';
import { dataGoal } from './block-goal.js';
import { placeBlocks } from './cluster-map.js';
import { initExtentRoot, insertExtent } from './extent-insert.js';
import { creditsForExtent, removeExtents } from './extent-remove.js';
import { findPath, type Mapping, mapExtent } from './extent-tree.js';
import { INCOMPAT } from './features.js';
import { EXT_MAX_BLOCKS } from './format/extent.js';
import { I_BLOCK_BYTES } from './format/inode.js';
import { makeTable, mappedGoal, removeMapped, setPointers } from './indirect-edit.js';
import { mapIndirect, maxMappedBytes } from './indirect-map.js';
import type { Inode, WritableInode } from './inode.js';

export type { Mapping };

/** The mapping that covers `lblk`. Throws CorruptionError. */
export function mapBlock(inode: Inode, lblk: number): Mapping {
  if (inode.hasInlineData) throw new CorruptionError('block map', `inode ${inode.ino}`, 'its data is inline');
  if (inode.usesExtents) return mapExtent(inode, lblk);
  if (inode.vol.geometry.clusterRatio > 1) refuseClusters(inode);
  return mapIndirect(inode, lblk);
}

/** Block maps do not go with bigalloc: they know nothing of the blocks next to each other in a cluster. */
function refuseClusters(inode: Inode): never {
  throw new CorruptionError(
    'inode',
    `inode ${inode.ino}`,
    'its blocks are mapped without extents, in spite of bigalloc',
  );
}

/** An empty map of the kind that new files of this filesystem get. */
export function initBlockMap(inode: WritableInode): void {
  if ((inode.vol.geometry.incompat & INCOMPAT.extent) !== 0) initExtentRoot(inode);
  else inode.block.bytes.fill(0, inode.iBlockBase, inode.iBlockBase + I_BLOCK_BYTES);
}

/** s_maxbytes: what 32 bits of logical block number, or a block map, can address. */
export function maxFileBytes(inode: Inode): number {
  const { geometry } = inode.vol;
  return inode.usesExtents ? EXT_MAX_BLOCKS * geometry.blockSize : maxMappedBytes(geometry);
}

/** What {@link removeBlocks} asks for at a time. */
export function removalCredits(inode: Inode): number {
  return creditsForExtent(inode);
}

/**
 * Frees what is mapped in [fromLblk, toLblk). May restart the handle: what the inode says is whole then, but only part of
 * the range is gone, so the inode must be on the orphan list or the range of no importance. Afterwards look the inode up
 * again.
 */
export function removeBlocks(handle: Handle, inode: Inode, fromLblk: number, toLblk: number): void {
  inode.vol.beforeDataMoves(inode.ino);
  if (inode.usesExtents) removeExtents(handle, inode, fromLblk, toLblk);
  else if (inode.vol.geometry.clusterRatio > 1) refuseClusters(inode);
  else removeMapped(handle, inode, fromLblk, toLblk);
}

/**
 * Allocates and maps the start of the hole [lblk, lblk + count), as written: the caller fills the blocks in this handle.
 * `metadata` keeps them out of the file's window. Throws FsError ENOSPC, EDQUOT, EFBIG.
 */
export function allocateMapped(handle: Handle, inode: Inode, lblk: number, count: number, metadata: boolean): Run {
  const { vol } = inode;
  const allowed = inode.usesExtents ? count : (vol.quotas?.roomFor(inode, count) ?? count);
  if (!inode.usesExtents) makeTable(handle, inode, lblk);
  const request = {
    ...goalFor(inode, lblk),
    count: inode.usesExtents ? count : Math.min(allowed, mapIndirect(inode, lblk).count),
    ino: inode.ino,
    metadata,
    privileged: mayUseReservedBlocks(vol, inode.uid, inode.gid),
  };
  if (!inode.usesExtents) {
    const run = allocateBlocks(handle, vol, request);
    setPointers(handle, inode, lblk, run.start, run.count);
    return run;
  }
  const placed = placeBlocks(handle, inode, lblk, request);
  insertExtent(handle, inode, lblk, placed.start, placed.count, false, placed.charged);
  return placed;
}

/**
 * Allocates one block of metadata for a directory, a symlink or another file whose content is journaled, and maps it at
 * `lblk`. Returns its number; i_size is the caller's. Throws FsError ENOSPC, EDQUOT.
 */
export function allocateMetadataBlock(handle: Handle, inode: Inode, lblk: number): number {
  return allocateMapped(handle, inode, lblk, 1, true).start;
}

/** Where a block for `lblk` would best be, and whether it would continue what is there. */
export function goalFor(inode: Inode, lblk: number): { goal: number; continues: boolean } {
  if (!inode.usesExtents) return mappedGoal(inode, lblk);
  const path = findPath(inode, lblk);
  const { node: leaf, pos } = path[path.length - 1];
  return dataGoal(inode, leaf, pos, lblk);
}
