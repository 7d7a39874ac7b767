/** Unmapping blocks of a file and freeing them (ext4_ext_remove_space). */
import type { Handle } from '../jbd2/handle.js';
import { freeBlocks } from './block-alloc.js';
import { EXTENT_CREDITS, editLeaf, shrinkTree } from './extent-edit.js';
import { type Extent, type ExtentNode, maxExtentLength } from './extent-node.js';
import { findPath, type Path } from './extent-tree.js';
import { Inode } from './inode.js';

/** One extent: a change of its leaf, and a bitmap and a descriptor for every group it reaches into. */
export function creditsForExtent(inode: Inode): number {
  return EXTENT_CREDITS + 2 * (Math.ceil(maxExtentLength(false) / inode.vol.geometry.blocksPerGroup) + 1);
}

/** What becomes of blocks that were mapped. */
export type LetGo = (handle: Handle, inode: Inode, pblk: number, count: number) => void;

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
  letGo: LetGo = freeContent,
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

/** Nothing of the leaf lies before the block looked for: the search goes on before its whole range. */
function firstBlockOf(path: Path): number {
  for (let level = path.length - 2; level >= 0; level--) {
    const { node, pos } = path[level];
    if (pos > 0) return node.lblk(pos);
  }
  return 0;
}

export function freeContent(handle: Handle, inode: Inode, pblk: number, count: number): void {
  // Content that went through the journal must not come back from it.
  freeBlocks(handle, inode.vol, pblk, count, { metadata: inode.journalsData });
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
  letGo(handle, inode, extent.pblk + (start - extent.lblk), stop - start);
  inode.edit(handle).addBlocks(start - stop);
}
