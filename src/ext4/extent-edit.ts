/**
 * Changing an extent tree: entries of one leaf are replaced by others, and the nodes above follow. A node that is too
 * full is split one level at a time, each step leaving a valid tree (ext4_ext_split, ext4_ext_grow_indepth).
 */
import { FsError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { allocateBlocks, freeBlocks, mayUseReservedBlocks } from './block-alloc.js';
import { dataGoal } from './block-goal.js';
import {
  type Extent,
  ExtentNode,
  extentBlockKind,
  maxExtentLength,
  ROOT_CAPACITY,
  WritableExtentNode,
} from './extent-node.js';
import { findPath, type Path } from './extent-tree.js';
import { EXT4_MAX_EXTENT_DEPTH, extentCapacity } from './format/extent.js';
import type { Inode } from './inode.js';

/** What one change of a leaf may touch: each level's node and a new one, with bitmap and descriptor, and the inode. */
export const EXTENT_CREDITS = 24;

/** Entries [from, from + remove) of the leaf become `pieces`, in order and without overlap. */
export interface LeafChange {
  readonly from: number;
  readonly remove: number;
  readonly pieces: readonly Extent[];
}

/**
 * Applies `plan` to the leaf responsible for `lblk`; it is asked again after every split. `mustNotFail`: new tree blocks
 * may come from the pool reserved for that.
 */
export function editLeaf(
  handle: Handle,
  inode: Inode,
  lblk: number,
  mustNotFail: boolean,
  plan: (leaf: ExtentNode, pos: number, endLblk: number) => LeafChange,
): void {
  // Every split halves a node or adds a level: two changes a level are enough for any plan.
  for (let tries = 0; tries <= 3 * EXT4_MAX_EXTENT_DEPTH; tries++) {
    const path = findPath(inode, lblk);
    const { node: leaf, pos, endLblk } = path[path.length - 1];
    const change = plan(leaf, pos, endLblk);
    if (leaf.entries + change.pieces.length - change.remove <= leaf.max) {
      replaceEntries(handle, inode, path, change);
      return;
    }
    splitForRoom(handle, inode, path, mustNotFail);
  }
  throw new Error(`no room in the extent tree of inode ${inode.ino} for block ${lblk}`);
}

/** Joins neighbours that continue each other; what exceeds the longest extent stays with the one behind. */
export function joinExtents(pieces: Extent[]): Extent[] {
  let kept = 0;
  for (let i = 1; i < pieces.length; i++) {
    const before = pieces[kept];
    const piece = pieces[i];
    if (
      before.unwritten === piece.unwritten &&
      before.lblk + before.count === piece.lblk &&
      before.pblk + before.count === piece.pblk
    ) {
      const moved = Math.min(piece.count, maxExtentLength(before.unwritten) - before.count);
      before.count += moved;
      if (moved === piece.count) continue;
      piece.lblk += moved;
      piece.pblk += moved;
      piece.count -= moved;
    }
    pieces[++kept] = piece;
  }
  pieces.length = Math.min(pieces.length, kept + 1);
  return pieces;
}

/** Applies the change to the leaf at the end of `path`, which has room for it. Changes the leaf and the nodes above it. */
export function replaceEntries(handle: Handle, inode: Inode, path: Path, { from, remove, pieces }: LeafChange): void {
  const depth = path.length - 1;
  const leaf = path[depth].node;
  const before = leaf.entries;
  const writable = leaf.edit(handle, inode);
  writable.moveEntries(from + remove, from + pieces.length, before);
  for (let i = 0; i < pieces.length; i++) writable.setExtent(from + i, pieces[i]);
  const after = before - remove + pieces.length;
  writable.setEntries(after);
  if (depth === 0) return;
  if (after === 0) dropLeaf(handle, inode, path);
  else if (from === 0) correctKeys(handle, inode, path, depth, leaf.lblk(0));
}

/** ext4_ext_correct_indexes: the first block of the node at `level` changed; its parents' keys say the same. */
function correctKeys(handle: Handle, inode: Inode, path: Path, level: number, key: number): void {
  for (let above = level - 1; above >= 0; above--) {
    const { node, pos } = path[above];
    if (node.lblk(pos) === key) return;
    node.edit(handle, inode).setLblk(pos, key);
    if (pos !== 0) return;
  }
}

/** ext4_ext_rm_idx: an empty leaf goes, and every index node that it leaves empty. */
function dropLeaf(handle: Handle, inode: Inode, path: Path): void {
  for (let level = path.length - 1; level > 0; level--) {
    freeTreeBlock(handle, inode, path[level].node.block.nr);
    const { node: parent, pos } = path[level - 1];
    const writable = parent.edit(handle, inode);
    const left = parent.entries - 1;
    writable.moveEntries(pos + 1, pos, left + 1);
    writable.setEntries(left);
    if (left > 0) {
      if (pos === 0) correctKeys(handle, inode, path, level - 1, parent.lblk(0));
      return;
    }
    if (level === 1) writable.setHeader(0, ROOT_CAPACITY, 0);
  }
}

/** Makes one step towards a leaf with room: splits the lowest node whose parent has room, or adds a level at the root. */
function splitForRoom(handle: Handle, inode: Inode, path: Path, mustNotFail: boolean): void {
  let level = path.length - 1;
  while (level > 0 && path[level - 1].node.full) level--;
  if (level === 0) grow(handle, inode, path, mustNotFail);
  else split(handle, inode, path, level, mustNotFail);
}

function split(handle: Handle, inode: Inode, path: Path, level: number, mustNotFail: boolean): void {
  const { node } = path[level];
  const parent = path[level - 1];
  const entries = node.entries;
  // A file that grows at its end leaves full nodes behind.
  const atEnd = path.every((step, i) => i > level || step.pos === step.node.entries - 1);
  const keep = atEnd ? entries - 1 : entries >>> 1;
  const { nr, writable } = createTreeBlock(handle, inode, path, mustNotFail);
  writable.setHeader(entries - keep, extentCapacity(inode.vol.geometry.blockSize), node.depth);
  writable.copyEntries(node, keep, entries);
  const key = node.lblk(keep);
  node.edit(handle, inode).setEntries(keep);
  const above = parent.node.edit(handle, inode);
  const parentEntries = parent.node.entries;
  above.moveEntries(parent.pos + 1, parent.pos + 2, parentEntries);
  above.setChild(parent.pos + 1, key, nr);
  above.setEntries(parentEntries + 1);
}

function grow(handle: Handle, inode: Inode, path: Path, mustNotFail: boolean): void {
  const root = path[0].node;
  if (root.depth >= EXT4_MAX_EXTENT_DEPTH)
    throw new FsError('EFBIG', `the extent tree of inode ${inode.ino} is too deep`);
  const { nr, writable } = createTreeBlock(handle, inode, path, mustNotFail);
  const { entries, depth } = root;
  writable.setHeader(entries, extentCapacity(inode.vol.geometry.blockSize), depth);
  writable.copyEntries(root, 0, entries);
  const top = root.edit(handle, inode);
  top.setHeader(1, ROOT_CAPACITY, depth + 1);
  top.setChild(0, root.lblk(0), nr);
}

/** ext4_ext_try_to_merge_up: a single leaf that fits into the inode moves there. */
export function shrinkTree(handle: Handle, inode: Inode): void {
  const root = ExtentNode.root(inode);
  if (root.depth !== 1 || root.entries !== 1) return;
  const [, { node: leaf }] = findPath(inode, 0);
  if (leaf.entries > ROOT_CAPACITY) return;
  const top = root.edit(handle, inode);
  top.setHeader(leaf.entries, ROOT_CAPACITY, 0);
  top.copyEntries(leaf, 0, leaf.entries);
  freeTreeBlock(handle, inode, leaf.block.nr);
}

function createTreeBlock(
  handle: Handle,
  inode: Inode,
  path: Path,
  mustNotFail: boolean,
): { nr: number; writable: WritableExtentNode } {
  const { vol } = inode;
  const { node: leaf, pos } = path[path.length - 1];
  const { start: nr, count } = allocateBlocks(handle, vol, {
    goal: dataGoal(inode, leaf, pos, pos >= 0 ? leaf.endLblk(pos) : 0).goal,
    count: 1,
    ino: inode.ino,
    metadata: true,
    privileged: mayUseReservedBlocks(vol, inode.uid, inode.gid),
    mustNotFail,
  });
  inode.edit(handle).addBlocks(count);
  const block = handle.getCreateAccess(nr, extentBlockKind(vol), inode.seed);
  handle.dirtyMetadata(block);
  return { nr, writable: new WritableExtentNode(block.view, block.bytes, 0) };
}

function freeTreeBlock(handle: Handle, inode: Inode, nr: number): void {
  const freed = freeBlocks(handle, inode.vol, nr, 1, { metadata: true });
  inode.edit(handle).addBlocks(-freed);
}
