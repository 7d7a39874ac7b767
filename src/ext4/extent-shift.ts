/**
 * Moving the extents behind a place of a file towards its start or its end (ext4_ext_shift_extents), one leaf after the
 * other, each as one change that leaves a valid tree. The blocks stay where they are on the device.
 */
import { FsError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { EXTENT_CREDITS, editLeaf, joinExtents, replaceEntries, shrinkTree } from './extent-edit.js';
import { type Extent, ExtentNode } from './extent-node.js';
import { findPath, firstBlockOf, type Path } from './extent-tree.js';
import { EXT_MAX_BLOCKS, EXT4_MAX_EXTENT_DEPTH } from './format/extent.js';
import { Inode } from './inode.js';

/** One leaf, the index nodes above it, and the inode. */
const LEAF_CREDITS = EXT4_MAX_EXTENT_DEPTH + 2;

/** Enough for a shift from `lblk` on to be one atomic step, if a transaction can have so many blocks. */
export function shiftCredits(inode: Inode, lblk: number): number {
  return EXTENT_CREDITS + nodesFrom(inode, ExtentNode.root(inode), lblk, EXT_MAX_BLOCKS);
}

/** Nodes of the tree below `node` that describe blocks from `lblk` on, `node` included. Leaves are not read for it. */
function nodesFrom(inode: Inode, node: ExtentNode, lblk: number, endLblk: number): number {
  if (node.depth === 0) return 1;
  const first = Math.max(node.search(lblk), 0);
  if (node.depth === 1) return 1 + node.entries - first;
  let count = 1;
  for (let i = first; i < node.entries; i++) {
    const end = i + 1 < node.entries ? node.lblk(i + 1) : endLblk;
    count += nodesFrom(inode, node.child(inode, inode.seed, i, end), lblk, end);
  }
  return count;
}

/**
 * What is mapped from `fromLblk` on moves `by` blocks towards the start; the `by` blocks before it are a hole. May restart
 * the handle between leaves: the hole is then somewhere behind where it was. Afterwards look the inode up again.
 */
export function shiftLeft(handle: Handle, inode: Inode, fromLblk: number, by: number): void {
  inode.vol.beforeDataMoves(inode.ino);
  let current = inode;
  for (let at = fromLblk; at < EXT_MAX_BLOCKS; ) {
    if (handle.ensureCredits(LEAF_CREDITS)) current = Inode.load(inode.vol, inode.ino);
    const path = findPath(current, at);
    const { node: leaf, endLblk } = path[path.length - 1];
    const from = firstEntryFrom(leaf, at);
    if (from === leaf.entries) {
      at = endLblk;
      continue;
    }
    at = leaf.endLblk(leaf.entries - 1);
    moveEntries(handle, current, path, from, -by);
  }
  shrinkTree(handle, current);
}

/**
 * What is mapped from `fromLblk` on moves `by` blocks towards the end; an extent that reaches over `fromLblk` is split
 * there. May restart the handle between leaves, last one first: the new hole is then behind where it is going to be.
 * Afterwards look the inode up again. Throws FsError EINVAL, before anything is changed, if the last block has no room to
 * move; ENOSPC, before anything has moved.
 */
export function shiftRight(handle: Handle, inode: Inode, fromLblk: number, by: number): void {
  inode.vol.beforeDataMoves(inode.ino);
  const last = findPath(inode, EXT_MAX_BLOCKS - 1);
  const { node: lastLeaf } = last[last.length - 1];
  if (lastLeaf.entries > 0 && lastLeaf.endLblk(lastLeaf.entries - 1) + by > EXT_MAX_BLOCKS)
    throw new FsError('EINVAL', `inode ${inode.ino} has blocks too far behind to be moved`);
  splitAt(handle, inode, fromLblk);
  let current = inode;
  for (let end = EXT_MAX_BLOCKS; end > fromLblk; ) {
    if (handle.ensureCredits(LEAF_CREDITS)) current = Inode.load(inode.vol, inode.ino);
    const path = findPath(current, end - 1);
    const { node: leaf, pos } = path[path.length - 1];
    if (pos < 0) {
      end = firstBlockOf(path);
      continue;
    }
    const from = firstEntryFrom(leaf, fromLblk);
    if (from > pos) break;
    end = leaf.lblk(from);
    moveEntries(handle, current, path, from, by);
  }
}

/** Index of the first entry at or behind `lblk`. */
function firstEntryFrom(leaf: ExtentNode, lblk: number): number {
  const pos = leaf.search(lblk);
  return pos >= 0 && leaf.lblk(pos) === lblk ? pos : pos + 1;
}

/** Entries of the leaf from `from` on move by so many blocks. Those that then continue the one before join it. */
function moveEntries(handle: Handle, inode: Inode, path: Path, from: number, by: number): void {
  const { node: leaf } = path[path.length - 1];
  const first = Math.max(from - 1, 0);
  const pieces: Extent[] = [];
  for (let i = first; i < leaf.entries; i++) {
    const extent = leaf.extent(i);
    pieces.push(i < from ? extent : { ...extent, lblk: extent.lblk + by });
  }
  replaceEntries(handle, inode, path, { from: first, remove: leaf.entries - first, pieces: joinExtents(pieces) });
}

/** No extent reaches over `lblk` any more. */
function splitAt(handle: Handle, inode: Inode, lblk: number): void {
  const path = findPath(inode, lblk);
  const { node, pos: at } = path[path.length - 1];
  if (at < 0 || node.lblk(at) === lblk || node.endLblk(at) <= lblk) return;
  editLeaf(handle, inode, lblk, true, (leaf, pos) => {
    const whole = leaf.extent(pos);
    const before = lblk - whole.lblk;
    const behind = { ...whole, lblk, count: whole.count - before, pblk: whole.pblk + before };
    return { from: pos, remove: 1, pieces: [{ ...whole, count: before }, behind] };
  });
}
