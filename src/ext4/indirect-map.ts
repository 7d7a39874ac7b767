/** Block maps of ext2 and ext3 (Documentation/filesystems/ext4/blockmap.rst), for reading: 12 direct blocks, then trees. */
import { CorruptionError } from '../errors.js';
import type { BlockKind } from '../jbd2/block-cache.js';
import { blocksMayBeUsed } from './block-validity.js';
import type { Mapping } from './extent-tree.js';
import type { Inode } from './inode.js';

const EXT4_NDIR_BLOCKS = 12;
const LEVELS = 3;

const indirectBlock: BlockKind = { name: 'indirect block' };

/** The run of like blocks from `lblk` on, as far as one indirect block shows it. Throws CorruptionError. */
export function mapIndirect(inode: Inode, lblk: number): Mapping {
  const pointers = inode.vol.geometry.blockSize / 4;
  if (lblk < EXT4_NDIR_BLOCKS) return runOf(inode, lblk, inode.iBlockBase, lblk, EXT4_NDIR_BLOCKS, inode.block.view);
  let rest = lblk - EXT4_NDIR_BLOCKS;
  let level = 1;
  while (level <= LEVELS && rest >= pointers ** level) rest -= pointers ** level++;
  if (level > LEVELS) return { lblk, count: Math.max(1, 0xffffffff - lblk), pblk: 0, unwritten: false };
  let nr = inode.block.view.getUint32(inode.iBlockBase + (EXT4_NDIR_BLOCKS + level - 1) * 4, true);
  for (let below = level; ; below--) {
    const covered = pointers ** below;
    if (nr === 0) return { lblk, count: covered - rest, pblk: 0, unwritten: false };
    const { view } = inode.vol.read(checked(inode, nr, 1), indirectBlock);
    if (below === 1) return runOf(inode, lblk, 0, rest, pointers, view);
    const span = pointers ** (below - 1);
    nr = view.getUint32(Math.floor(rest / span) * 4, true);
    rest %= span;
  }
}

function runOf(
  inode: Inode,
  lblk: number,
  base: number,
  index: number,
  end: number,
  view: { getUint32(offset: number, littleEndian?: boolean): number },
): Mapping {
  const pblk = view.getUint32(base + index * 4, true);
  let count = 1;
  while (index + count < end && view.getUint32(base + (index + count) * 4, true) === (pblk === 0 ? 0 : pblk + count))
    count++;
  if (pblk !== 0) checked(inode, pblk, count);
  return { lblk, count, pblk, unwritten: false };
}

function checked(inode: Inode, nr: number, count: number): number {
  if (blocksMayBeUsed(inode.vol, nr, count)) return nr;
  throw new CorruptionError('block map', `inode ${inode.ino}`, `it leads to blocks ${nr}+${count}`);
}
