/**
 * Taking a range out of a file, or a hole into it: what is behind moves, as whole clusters (ext4_collapse_range,
 * ext4_insert_range).
 *
 * One atomic step, if the part of the extent tree that describes what moves fits into a transaction. For a larger one a
 * crash in between leaves, as in the kernel, a file in which the first or the last part has moved already, with the hole
 * between them: none of it lies behind i_size, and no block is in two places or in none.
 */
import { FsError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { discardReservation } from './block-alloc.js';
import { maxFileBytes, removalCredits, removeBlocks } from './block-map.js';
import { isEncrypted } from './encrypted-names.js';
import { zeroBeforeGrowth } from './eof-tail.js';
import { shiftCredits, shiftLeft, shiftRight } from './extent-shift.js';
import { type Ino, Inode } from './inode.js';
import { allowFileSize } from './superblock-io.js';
import type { Volume } from './volume.js';

/** Inode and superblock, and the last block where data is journaled. */
const SIZE_CREDITS = 3;

/**
 * Bytes [offset, offset + length) go; what is behind follows on what is before. Throws FsError EINVAL for a range that is
 * not whole clusters or reaches to the end of the file, EOPNOTSUPP for an encrypted file. The file has extents.
 */
export function collapseRange(vol: Volume, ino: Ino, offsetBytes: number, lengthBytes: number): void {
  const inode = movable(vol, ino, offsetBytes, lengthBytes);
  const { blockSize } = vol.geometry;
  const size = inode.sizeBytes;
  if (offsetBytes + lengthBytes >= size)
    throw new FsError('EINVAL', 'a range that reaches to the end of the file: truncate it');
  const first = offsetBytes / blockSize;
  const count = lengthBytes / blockSize;
  discardReservation(vol, ino);
  vol.journal.run(removalCredits(inode) + shiftCredits(inode, first) + SIZE_CREDITS, (handle) => {
    zeroTail(vol, inode);
    removeBlocks(handle, inode, first, first + count);
    shiftLeft(handle, Inode.load(vol, ino), first + count, count);
    // Last: what has not moved yet must not lie behind the end.
    setSize(handle, vol, ino, size - lengthBytes);
  });
}

/**
 * What is at `offset` and behind it moves `length` bytes towards the end, and leaves a hole. Throws FsError EINVAL for a
 * range that is not whole clusters or begins at the end of the file or behind it, EFBIG, ENOSPC, EOPNOTSUPP for an
 * encrypted file. The file has extents.
 */
export function insertRange(vol: Volume, ino: Ino, offsetBytes: number, lengthBytes: number): void {
  const inode = movable(vol, ino, offsetBytes, lengthBytes);
  const { blockSize } = vol.geometry;
  const size = inode.sizeBytes;
  if (offsetBytes >= size) throw new FsError('EINVAL', 'a hole at the end of the file: truncate it');
  if (size + lengthBytes > maxFileBytes(inode)) throw new FsError('EFBIG');
  const first = offsetBytes / blockSize;
  discardReservation(vol, ino);
  vol.journal.run(shiftCredits(inode, first) + SIZE_CREDITS, (handle) => {
    zeroTail(vol, inode);
    // First: what has moved must not lie behind the end.
    setSize(handle, vol, ino, size + lengthBytes);
    shiftRight(handle, Inode.load(vol, ino), first, lengthBytes / blockSize);
    // With the last part of it, for an fsync to wait for.
    setSize(handle, vol, ino, size + lengthBytes);
  });
}

/** The inode, if blocks of it may move by such a range. */
function movable(vol: Volume, ino: Ino, offsetBytes: number, lengthBytes: number): Inode {
  const inode = Inode.get(vol, ino);
  // The key of a block's content depends on where in the file it is.
  if (isEncrypted(inode)) throw new FsError('EOPNOTSUPP', 'the blocks of an encrypted file cannot be moved');
  const clusterBytes = vol.geometry.clusterRatio * vol.geometry.blockSize;
  if (offsetBytes % clusterBytes !== 0 || lengthBytes % clusterBytes !== 0)
    throw new FsError('EINVAL', `only whole clusters of ${clusterBytes} bytes can be moved`);
  return inode;
}

/** The last block may come to lie before the end for a while, and then shows what is behind the end in it. */
function zeroTail(vol: Volume, inode: Inode): void {
  zeroBeforeGrowth(vol, inode, Number.POSITIVE_INFINITY);
}

function setSize(handle: Handle, vol: Volume, ino: Ino, size: number): void {
  handle.ensureCredits(SIZE_CREDITS);
  const inode = Inode.load(vol, ino).edit(handle);
  const now = vol.env.now();
  allowFileSize(handle, vol, size);
  inode.setSizeBytes(size);
  inode.setMtime(now);
  inode.setCtime(now);
}
