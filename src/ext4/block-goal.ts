/** Where blocks of a file would best be (ext4_ext_find_goal). */
import type { ExtentNode } from './extent-node.js';
import type { Inode } from './inode.js';

/** Flex groups from this size on keep their first groups for directories (EXT4_FLEX_SIZE_DIR_ALLOC_SCHEME). */
const FLEX_SIZE_DIR_ALLOC_SCHEME = 4;

export interface Goal {
  goal: number;
  /** A block there makes an existing extent longer. */
  continues: boolean;
}

/** ext4_inode_to_goal_block: the first block of the inode's group; files stay out of the group their directories use. */
export function inodeGoal(inode: Inode): number {
  const { geometry } = inode.vol;
  let group = Math.floor((inode.ino - 1) / geometry.inodesPerGroup);
  if (geometry.groupsPerFlex >= FLEX_SIZE_DIR_ALLOC_SCHEME) {
    group -= group % geometry.groupsPerFlex;
    if (inode.isRegular) group++;
  }
  return geometry.groupFirstBlock(Math.min(group, geometry.groupCount - 1));
}

/** Goal for `lblk` from the leaf responsible for it; `pos` is the extent before it, or -1. */
export function dataGoal(inode: Inode, leaf: ExtentNode, pos: number, lblk: number): Goal {
  if (pos >= 0) {
    const goal = leaf.pblk(pos) + (lblk - leaf.lblk(pos));
    if (goal < inode.vol.geometry.blocksCount) return { goal, continues: lblk === leaf.endLblk(pos) };
  } else if (leaf.entries > 0 && leaf.depth === 0) {
    const goal = leaf.pblk(0) - (leaf.lblk(0) - lblk);
    if (goal > inode.vol.geometry.firstDataBlock) return { goal, continues: false };
  }
  return { goal: inodeGoal(inode), continues: false };
}
