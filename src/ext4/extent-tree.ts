/** Looking up where a file's blocks are (ext4_ext_map_blocks without create). */
import { CorruptionError } from '../errors.js';
import { blocksMayBeUsed } from './block-validity.js';
import { ExtentNode } from './extent-node.js';
import { EXT_MAX_BLOCKS } from './format/extent.js';
import type { Inode } from './inode.js';

export interface Mapping {
  /** What was asked for. */
  lblk: number;
  /** Blocks from there on that are mapped alike; for a hole up to the next extent, or to the end of what can be mapped. */
  count: number;
  /** 0 for a hole. */
  pblk: number;
  unwritten: boolean;
}

/** One node of a path: `pos` is the entry at or before the block looked for; -1 in a leaf if all are behind it. */
export interface PathStep {
  readonly node: ExtentNode;
  readonly pos: number;
  /** The node describes blocks before this one. */
  readonly endLblk: number;
}

/** Root first, leaf last. */
export type Path = PathStep[];

/** ext4_find_extent. Throws CorruptionError; the levels are bounded by the root's depth. */
export function findPath(inode: Inode, lblk: number): Path {
  const path: Path = [];
  let node = ExtentNode.root(inode);
  let endLblk = EXT_MAX_BLOCKS;
  const seed = node.depth > 0 ? inode.seed : 0;
  for (;;) {
    let pos = node.search(lblk);
    if (node.depth === 0) {
      path.push({ node, pos, endLblk });
      return path;
    }
    pos = Math.max(pos, 0);
    path.push({ node, pos, endLblk });
    if (pos + 1 < node.entries) endLblk = node.lblk(pos + 1);
    node = node.child(inode, seed, pos, endLblk);
  }
}

/**
 * First block of the range that the leaf at the end of `path` is for; 0 for the first leaf. Where nothing of a leaf lies
 * before the block looked for, a search backwards goes on from here.
 */
export function firstBlockOf(path: Path): number {
  for (let level = path.length - 2; level >= 0; level--) {
    const { node, pos } = path[level];
    if (pos > 0) return node.lblk(pos);
  }
  return 0;
}

/** The mapping that covers `lblk`. Throws CorruptionError. */
export function mapExtent(inode: Inode, lblk: number): Mapping {
  let node = ExtentNode.root(inode);
  let endLblk = EXT_MAX_BLOCKS;
  const seed = node.depth > 0 ? inode.seed : 0;
  while (node.depth > 0) {
    const pos = Math.max(node.search(lblk), 0);
    if (pos + 1 < node.entries) endLblk = node.lblk(pos + 1);
    node = node.child(inode, seed, pos, endLblk);
  }
  const pos = node.search(lblk);
  if (pos >= 0 && lblk < node.endLblk(pos)) {
    const skipped = lblk - node.lblk(pos);
    const mapping = {
      lblk,
      count: node.count(pos) - skipped,
      pblk: node.pblk(pos) + skipped,
      unwritten: node.unwritten(pos),
    };
    if (!blocksMayBeUsed(inode.vol, mapping.pblk, mapping.count)) {
      throw new CorruptionError(
        'extent tree',
        `inode ${inode.ino}`,
        `block ${lblk} is mapped to ${mapping.pblk}+${mapping.count}, which holds metadata of the filesystem`,
      );
    }
    return mapping;
  }
  const next = pos + 1 < node.entries ? node.lblk(pos + 1) : endLblk;
  return { lblk, count: Math.max(next, lblk + 1) - lblk, pblk: 0, unwritten: false };
}
