/** Mapping blocks of a file, and turning unwritten ones into written ones. */
import { CorruptionError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { EXTENT_CREDITS, editLeaf, joinExtents, shrinkTree } from './extent-edit.js';
import { type Extent, type ExtentNode, maxExtentLength, ROOT_CAPACITY, WritableExtentNode } from './extent-node.js';
import { mapExtent } from './extent-tree.js';
import { EXT4_EXTENTS_FL, I_BLOCK_BYTES } from './format/inode.js';
import { Inode, type WritableInode } from './inode.js';

/** ext4_ext_tree_init: an empty tree, and the flag that says so. */
export function initExtentRoot(inode: WritableInode): void {
  const { block, iBlockBase } = inode;
  block.bytes.fill(0, iBlockBase, iBlockBase + I_BLOCK_BYTES);
  new WritableExtentNode(block.view, block.bytes, iBlockBase).setHeader(0, ROOT_CAPACITY, 0);
  inode.setFlags(inode.flags | EXT4_EXTENTS_FL);
}

/**
 * Maps the hole [lblk, lblk + count) to the blocks from `pblk` on and counts them in i_blocks, or `charged` if some of
 * their clusters are counted already; tree blocks as well.
 * Changes up to EXTENT_CREDITS blocks. Throws FsError ENOSPC or EFBIG.
 */
export function insertExtent(
  handle: Handle,
  inode: Inode,
  lblk: number,
  pblk: number,
  count: number,
  unwritten: boolean,
  charged = count,
  mustNotFail = false,
): void {
  const longest = maxExtentLength(unwritten);
  for (let done = 0; done < count; done += longest) {
    const piece = { lblk: lblk + done, count: Math.min(count - done, longest), pblk: pblk + done, unwritten };
    editLeaf(handle, inode, piece.lblk, mustNotFail, (leaf, pos, endLblk) =>
      insertPiece(inode, leaf, pos, endLblk, piece),
    );
  }
  inode.vol.noteRange(inode.ino, handle.transaction.tid, lblk, count);
  if (charged > 0) inode.edit(handle).addBlocks(charged);
}

function insertPiece(inode: Inode, leaf: ExtentNode, pos: number, endLblk: number, piece: Extent) {
  const hasRight = pos + 1 < leaf.entries;
  const next = hasRight ? leaf.lblk(pos + 1) : endLblk;
  if (piece.lblk + piece.count > next || (pos >= 0 && leaf.endLblk(pos) > piece.lblk)) {
    // A directory with blocks behind its end (ext4_append: "Logical block already allocated").
    const finding = `blocks ${piece.lblk}+${piece.count} are mapped already`;
    throw new CorruptionError('extent tree', `inode ${inode.ino}`, finding);
  }
  const pieces: Extent[] = [];
  if (pos >= 0) pieces.push(leaf.extent(pos));
  pieces.push({ ...piece });
  if (hasRight) pieces.push(leaf.extent(pos + 1));
  return { from: Math.max(pos, 0), remove: pieces.length - 1, pieces: joinExtents(pieces) };
}

/**
 * Marks [lblk, lblk + count) written where it is unwritten and still mapped to pblk + (x - lblk); a negative `pblk`
 * stands for wherever it is mapped. Holes and other places are skipped: the file may have changed since the data was
 * written (ext4_convert_unwritten_extents). May restart the handle between extents.
 */
export function convertUnwritten(handle: Handle, inode: Inode, lblk: number, count: number, pblk: number): void {
  convertRange(handle, inode, lblk, count, pblk, false);
}

/** Marks what is mapped in [lblk, lblk + count) unwritten: it reads as zeroes. May restart the handle between extents. */
export function convertWritten(handle: Handle, inode: Inode, lblk: number, count: number): void {
  convertRange(handle, inode, lblk, count, -1, true);
}

function convertRange(
  handle: Handle,
  inode: Inode,
  lblk: number,
  count: number,
  pblk: number,
  unwritten: boolean,
): void {
  const end = lblk + count;
  const longest = maxExtentLength(unwritten);
  let current = inode;
  let changed = false;
  for (let at = lblk; at < end; ) {
    const mapping = mapExtent(current, at);
    const length = Math.min(mapping.count, end - at, longest);
    if (mapping.pblk !== 0 && mapping.unwritten !== unwritten && (pblk < 0 || mapping.pblk === pblk + (at - lblk))) {
      if (handle.ensureCredits(EXTENT_CREDITS)) current = Inode.load(inode.vol, inode.ino);
      const from = at;
      editLeaf(handle, current, from, true, (leaf, pos) => convertPiece(leaf, pos, from, length));
      inode.vol.noteRange(inode.ino, handle.transaction.tid, from, length);
      changed = true;
    }
    at += length;
  }
  if (changed) shrinkTree(handle, current);
}

/** The extent at `pos` changes state in [lblk, lblk + count); neighbours join if they can. */
function convertPiece(leaf: ExtentNode, pos: number, lblk: number, count: number) {
  const whole = leaf.extent(pos);
  const skipped = lblk - whole.lblk;
  const after = whole.count - skipped - count;
  const pieces: Extent[] = [];
  const from = Math.max(pos - 1, 0);
  const to = Math.min(pos + 1, leaf.entries - 1);
  if (from < pos) pieces.push(leaf.extent(from));
  if (skipped > 0) pieces.push({ ...whole, count: skipped });
  pieces.push({ lblk, count, pblk: whole.pblk + skipped, unwritten: !whole.unwritten });
  if (after > 0) {
    pieces.push({ ...whole, lblk: lblk + count, count: after, pblk: whole.pblk + skipped + count });
  }
  if (to > pos) pieces.push(leaf.extent(to));
  return { from, remove: to - from + 1, pieces: joinExtents(pieces) };
}
