/** Unmapping blocks of a file and freeing the clusters that nothing of it is left in (ext4_ext_remove_space). */
import type { Handle } from '../jbd2/handle.js';
import { freeBlocks } from './block-alloc.js';
import { mappedCluster } from './cluster-map.js';
import { EXTENT_CREDITS, editLeaf, shrinkTree } from './extent-edit.js';
import { type Extent, type ExtentNode, maxExtentLength } from './extent-node.js';
import { findPath, firstBlockOf } from './extent-tree.js';
import { Inode } from './inode.js';

/** One extent: a change of its leaf, and a bitmap and a descriptor for every group it reaches into. */
export function creditsForExtent(inode: Inode): number {
  return EXTENT_CREDITS + 2 * (Math.ceil(maxExtentLength(false) / inode.vol.geometry.blocksPerGroup) + 1);
}

/** What becomes of blocks that were mapped at `lblk` on; returns how many the file is charged no more. */
export type LetGo = (handle: Handle, inode: Inode, lblk: number, pblk: number, count: number) => number;

/**
 * Frees what is mapped in [fromLblk, toLblk), from the end backwards. May restart the handle between extents: the tree
 * is whole then, but only part of the range is gone, so the inode must be on the orphan list or the range of no
 * importance. Afterwards look the inode up again.
 */
export function removeExtents(
  handle: Handle,
  inode: Inode,
  fromLblk: number,
  toLblk: number,
  letGo: LetGo = freeUnmapped,
): void {
  const credits = creditsForExtent(inode);
  let current = inode;
  for (let end = toLblk; end > fromLblk; ) {
    if (handle.ensureCredits(credits)) current = Inode.load(inode.vol, inode.ino);
    const path = findPath(current, end - 1);
    const { node: leaf, pos } = path[path.length - 1];
    if (pos < 0) {
      end = firstBlockOf(path);
      continue;
    }
    const extent = leaf.extent(pos);
    const stop = Math.min(end, extent.lblk + extent.count);
    if (stop <= fromLblk) break;
    end = Math.max(fromLblk, extent.lblk);
    removePiece(handle, current, extent, end, stop, letGo);
  }
  shrinkTree(handle, current);
}

function removePiece(handle: Handle, inode: Inode, extent: Extent, start: number, stop: number, letGo: LetGo): void {
  editLeaf(handle, inode, start, true, (leaf: ExtentNode, pos: number) => {
    const whole = leaf.extent(pos);
    const pieces: Extent[] = [];
    if (start > whole.lblk) pieces.push({ ...whole, count: start - whole.lblk });
    const after = whole.lblk + whole.count - stop;
    if (after > 0) pieces.push({ ...whole, lblk: stop, count: after, pblk: whole.pblk + (stop - whole.lblk) });
    return { from: pos, remove: 1, pieces };
  });
  inode.vol.noteRange(inode.ino, handle.transaction.tid, start, stop - start);
  const freed = letGo(handle, inode, start, extent.pblk + (start - extent.lblk), stop - start);
  if (freed > 0) inode.edit(handle).addBlocks(-freed);
}

/**
 * [lblk, lblk + count), until now at `pblk` on, is not mapped any more. A cluster at either end stays the file's as long
 * as another block of it is mapped. Returns how many blocks became free.
 */
function freeUnmapped(handle: Handle, inode: Inode, lblk: number, pblk: number, count: number): number {
  const { vol } = inode;
  const { clusterRatio } = vol.geometry;
  // Content that went through the journal must not come back from it.
  const metadata = inode.journalsData;
  if (clusterRatio === 1) return freeBlocks(handle, vol, pblk, count, { metadata });
  if (metadata) for (let i = 0; i < count; i++) handle.revoke(pblk + i);
  let from = lblk;
  let stop = lblk + count;
  const before = from % clusterRatio;
  if (before > 0 && mappedCluster(inode, from) !== 0) from += clusterRatio - before;
  const behind = stop % clusterRatio;
  if (behind > 0 && stop > from && mappedCluster(inode, stop) !== 0) stop -= behind;
  return stop > from ? freeBlocks(handle, vol, pblk + (from - lblk), stop - from, { metadata: false }) : 0;
}
