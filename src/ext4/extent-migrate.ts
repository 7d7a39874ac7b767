/** Extents instead of a block map, and the other way round, for what is there: chattr +e and -e. The data stays where it is. */
import { FsError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { freeBlocks } from './block-alloc.js';
import { EXTENT_CREDITS } from './extent-edit.js';
import { initExtentRoot, insertExtent } from './extent-insert.js';
import { type Extent, ExtentNode, maxExtentLength, ROOT_CAPACITY } from './extent-node.js';
import { INCOMPAT } from './features.js';
import { EXT4_EXTENTS_FL, I_BLOCK_BYTES } from './format/inode.js';
import { EXT4_NDIR_BLOCKS, mapIndirect, maxMappedBytes, pointersPerBlock, readPointer } from './indirect-map.js';
import { type Ino, Inode } from './inode.js';
import type { Volume } from './volume.js';

/** The two trees behind the one that is taken over: of two and of three levels. */
const DEEPER_TREES = [EXT4_NDIR_BLOCKS + 1, EXT4_NDIR_BLOCKS + 2];
const TABLE = { nr: 0, index: EXT4_NDIR_BLOCKS };
/** The inode, the bitmap and the descriptor of the table that goes, and what the extents take, which is no block of a tree. */
const CREDITS = 3 + EXTENT_CREDITS;

const refusal = (ino: Ino, why: string) => new FsError('EOPNOTSUPP', `inode ${ino}: ${why}; copy the file instead`);

/**
 * Switches an inode over, in one transaction: a crash shows the one or the other. As the kernel does it from extents
 * (ext4_ind_migrate): one extent at most, in the twelve direct blocks. To extents (ext4_ext_migrate), which the kernel does for all
 * maps: what fits into the inode, of a map without trees of two levels. Throws FsError EINVAL, EOPNOTSUPP.
 */
export function migrate(vol: Volume, ino: Ino): void {
  const inode = Inode.get(vol, ino);
  if ((vol.geometry.incompat & INCOMPAT.extent) === 0 || inode.hasInlineData) throw new FsError('EINVAL');
  if (vol.geometry.clusterRatio > 1) throw refusal(ino, 'clusters need extents');
  if (inode.usesExtents) toBlockMap(vol, inode);
  else toExtents(vol, inode);
}

function toBlockMap(vol: Volume, inode: Inode): void {
  const { ino } = inode;
  const root = ExtentNode.root(inode);
  if (root.depth > 0 || root.entries > 1) throw refusal(ino, 'it has more than one extent');
  if (inode.sizeBytes > maxMappedBytes(vol.geometry)) throw refusal(ino, 'it is larger than a block map can be');
  const extent = root.entries === 0 ? null : root.extent(0);
  if (extent !== null) {
    const { lblk, count, pblk, unwritten } = extent;
    if (unwritten || lblk + count > EXT4_NDIR_BLOCKS || pblk + count > 2 ** 32)
      throw refusal(ino, 'its extent is no run of direct blocks');
  }
  vol.journal.run(1, (handle) => {
    const writable = inode.edit(handle);
    const { block, iBlockBase } = writable;
    block.bytes.fill(0, iBlockBase, iBlockBase + I_BLOCK_BYTES);
    for (let i = 0; extent !== null && i < extent.count; i++)
      block.view.setUint32(iBlockBase + (extent.lblk + i) * 4, extent.pblk + i, true);
    writable.setFlags(writable.flags & ~EXT4_EXTENTS_FL);
    writable.setCtime(vol.env.now());
  });
}

function toExtents(vol: Volume, inode: Inode): void {
  const extents = runsOf(vol, inode);
  const table = readPointer(inode, TABLE);
  vol.journal.run(CREDITS, (handle: Handle) => {
    const writable = inode.edit(handle);
    if (table !== 0) {
      freeBlocks(handle, vol, table, 1, { metadata: true });
      writable.addBlocks(-1);
    }
    initExtentRoot(writable);
    // They are counted in i_blocks already.
    for (const { lblk, pblk, count } of extents) insertExtent(handle, writable, lblk, pblk, count, false, 0);
    writable.setCtime(vol.env.now());
  });
}

/** What is mapped, as extents. Throws FsError EOPNOTSUPP for more than the inode has room for. */
function runsOf(vol: Volume, inode: Inode): Extent[] {
  const { ino } = inode;
  if (DEEPER_TREES.some((index) => readPointer(inode, { nr: 0, index }) !== 0))
    throw refusal(ino, 'its block map has more than one level');
  const end = EXT4_NDIR_BLOCKS + pointersPerBlock(vol.geometry);
  const runs: Extent[] = [];
  for (let lblk = 0; lblk < end; ) {
    const { pblk, count } = mapIndirect(inode, lblk);
    const last = runs.at(-1);
    const continues = last !== undefined && last.lblk + last.count === lblk && last.pblk + last.count === pblk;
    if (pblk !== 0 && continues && last.count + count <= maxExtentLength(false)) last.count += count;
    else if (pblk !== 0) runs.push({ lblk, count, pblk, unwritten: false });
    lblk += count;
  }
  if (runs.length > ROOT_CAPACITY) throw refusal(ino, `its blocks lie in ${runs.length} places`);
  return runs;
}
