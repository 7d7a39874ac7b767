/** Changing the size of a file (ext4_setattr with ATTR_SIZE, ext4_truncate). */
import { FsError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { discardReservation } from './block-alloc.js';
import { mapBlock, maxFileBytes, removalCredits, removeBlocks } from './block-map.js';
import { zeroAfterCommit, zeroBeforeGrowth } from './eof-tail.js';
import { EXTENT_CREDITS } from './extent-edit.js';
import { ExtentNode } from './extent-node.js';
import { EXT_MAX_BLOCKS } from './format/extent.js';
import { EXT4_APPEND_FL, EXT4_IMMUTABLE_FL } from './format/inode.js';
import { usesDirectBlocksOnly } from './indirect-map.js';
import { fitToSize, inlineCapacity, moveToBlock } from './inline-data.js';
import { type Ino, Inode, type WritableInode } from './inode.js';
import { addOrphan, removeOrphan } from './orphan.js';
import { breakPromises } from './promised-blocks.js';
import { allowFileSize } from './superblock-io.js';
import type { Volume } from './volume.js';

/** An orphan record: superblock or orphan file block, and the neighbour in the list. */
const ORPHAN_CREDITS = 4;

/**
 * Sets i_size and, when that does not grow, frees every block behind it, those of fallocate too. mtime and ctime become
 * now. Throws FsError (EISDIR, EINVAL, EPERM, EFBIG), UnsupportedError, CorruptionError.
 */
export function truncateTo(vol: Volume, ino: Ino, newSizeBytes: number): void {
  const inode = Inode.get(vol, ino);
  if (!inode.isRegular)
    throw new FsError(inode.isDirectory ? 'EISDIR' : 'EINVAL', `inode ${ino} is not a regular file`);
  if (inode.hasFlag(EXT4_IMMUTABLE_FL | EXT4_APPEND_FL))
    throw new FsError('EPERM', `inode ${ino} may not be truncated`);
  if (!(newSizeBytes >= 0)) throw new FsError('EINVAL', `size ${newSizeBytes}`);
  if (inode.hasInlineData && newSizeBytes <= inlineCapacity(inode)) {
    vol.journal.run(2, (handle) => {
      setSize(inode.edit(handle), newSizeBytes);
      fitToSize(handle, inode);
    });
    return;
  }
  moveToBlock(vol, ino);
  if (newSizeBytes > maxFileBytes(inode)) throw new FsError('EFBIG');
  if (newSizeBytes > inode.sizeBytes) {
    const grow = (handle: Handle) => {
      zeroBeforeGrowth(vol, inode, newSizeBytes);
      allowFileSize(handle, vol, newSizeBytes);
      setSize(inode.edit(handle), newSizeBytes);
    };
    vol.journal.run(2, grow, true);
    return;
  }
  const shrink = (handle: Handle) => {
    if (newSizeBytes < inode.sizeBytes) zeroAfterCommit(handle, vol, ino, newSizeBytes);
    setSize(inode.edit(handle), newSizeBytes);
    truncateBlocks(handle, inode);
  };
  vol.journal.run(truncateCredits(inode), shrink, true);
}

function setSize(inode: WritableInode, size: number): void {
  const now = inode.vol.env.now();
  inode.setSizeBytes(size);
  inode.setMtime(now);
  inode.setCtime(now);
}

/** What {@link truncateBlocks} starts with: enough for all of a tree that has no blocks of its own. */
export function truncateCredits(inode: Inode): number {
  return removalCredits(inode) * 2 + ORPHAN_CREDITS;
}

/**
 * Frees all blocks behind i_size. May restart the handle; the inode is on the orphan list before it does, and a mount
 * after a crash goes on where this stopped. A linked inode leaves the list when it is done.
 */
export function truncateBlocks(handle: Handle, inode: Inode): void {
  const { vol, ino } = inode;
  if (inode.hasInlineData) {
    fitToSize(handle, inode);
    return;
  }
  discardReservation(vol, ino);
  const from = Math.ceil(inode.sizeBytes / vol.geometry.blockSize);
  breakPromises(vol, ino, from, EXT_MAX_BLOCKS - from);
  if (from >= EXT_MAX_BLOCKS || !hasBlocksFrom(inode, from)) return;
  // A map that lies in the inode is done in one step; anything more may take several transactions.
  const oneStep = mapIsInInode(inode) && handle.credits >= truncateCredits(inode) - EXTENT_CREDITS;
  if (oneStep) {
    removeBlocks(handle, inode, from, EXT_MAX_BLOCKS);
    return;
  }
  addOrphan(handle, inode);
  removeBlocks(handle, inode, from, EXT_MAX_BLOCKS);
  handle.ensureCredits(ORPHAN_CREDITS);
  const current = Inode.load(vol, ino);
  if (current.linksCount > 0) removeOrphan(handle, current);
}

function mapIsInInode(inode: Inode): boolean {
  return inode.usesExtents ? ExtentNode.root(inode).depth === 0 : usesDirectBlocksOnly(inode);
}

function hasBlocksFrom(inode: Inode, lblk: number): boolean {
  const mapping = mapBlock(inode, lblk);
  return mapping.pblk !== 0 || lblk + mapping.count < EXT_MAX_BLOCKS;
}
