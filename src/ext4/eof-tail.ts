/**
 * The bytes between the end of a file and the end of its last block. They read as zeroes once the file grows over them,
 * so they are zeroed on the device: before i_size rises, and after a truncate, once it has committed. Not earlier: a
 * crash before that brings the old size back, and with it the old bytes.
 */
import { CorruptionError, FsError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { mapBlock } from './block-map.js';
import { fileData } from './file-data.js';
import { type Ino, Inode } from './inode.js';
import type { Volume } from './volume.js';

/** Truncated files whose last block is yet to be zeroed behind the end, and where they ended. */
const pendingTails = new WeakMap<Volume, Map<Ino, number>>();

function pendingOf(vol: Volume): Map<Ino, number> {
  let pending = pendingTails.get(vol);
  if (pending === undefined) {
    pending = new Map();
    pendingTails.set(vol, pending);
  }
  return pending;
}

/**
 * Zeroes [from, to) of the file, as far as it lies in written blocks: on the device at once, or, where data is journaled,
 * in a handle. At most one block of each end.
 */
export function zeroWritten(vol: Volume, inode: Inode, fromBytes: number, toBytes: number): void {
  const { blockSize } = vol.geometry;
  if (inode.hasInlineData) return;
  for (let pos = fromBytes; pos < toBytes; ) {
    const lblk = Math.floor(pos / blockSize);
    const inBlock = pos - lblk * blockSize;
    const length = Math.min(blockSize - inBlock, toBytes - pos);
    const { pblk, unwritten } = mapBlock(inode, lblk);
    if (pblk !== 0 && !unwritten && inode.journalsData) {
      vol.journal.run(1, (handle) => {
        const block = handle.getWriteAccess(vol.read(pblk, fileData));
        block.bytes.fill(0, inBlock, inBlock + length);
        handle.dirtyMetadata(block);
      });
    } else if (pblk !== 0 && !unwritten) {
      vol.device.write(pblk * blockSize + inBlock, new Uint8Array(length));
      vol.journal.noteDataWrite();
    }
    pos += length;
  }
}

/** First byte after the block that holds byte `pos` - 1. */
function blockEnd(vol: Volume, pos: number): number {
  const { blockSize } = vol.geometry;
  return Math.ceil(pos / blockSize) * blockSize;
}

/** The file is about to grow; what is written to it begins at `coveredFrom` and has reached the device. */
export function zeroBeforeGrowth(vol: Volume, inode: Inode, coveredFrom: number): void {
  const size = inode.sizeBytes;
  zeroWritten(vol, inode, size, Math.min(coveredFrom, blockEnd(vol, size)));
}

/**
 * The file was cut to `newSize` in this handle: its last block is zeroed behind that, in the handle if its data is
 * journaled, otherwise once this is durable.
 */
export function zeroAfterCommit(handle: Handle, vol: Volume, ino: Ino, newSize: number): void {
  if (newSize % vol.geometry.blockSize === 0) return;
  const inode = Inode.get(vol, ino);
  if (inode.journalsData) {
    zeroWritten(vol, inode, newSize, blockEnd(vol, newSize));
    return;
  }
  handle.onCommit(() => {
    pendingOf(vol).set(ino, newSize);
    settleTails(vol);
  });
}

/**
 * Zeroes what waits for it, unless data I/O is under way: a write past the end of the file may already be in the
 * last block, with i_size still to follow. It is tried again with the next truncate that commits; a file that grows
 * before that is zeroed by {@link zeroBeforeGrowth} whatever happens here.
 */
export function settleTails(vol: Volume): void {
  const pending = pendingOf(vol);
  if (pending.size === 0 || !vol.journal.dataIdle || vol.journal.aborted !== null) return;
  for (const [ino, cutAt] of pending) {
    pending.delete(ino);
    try {
      const inode = Inode.load(vol, ino);
      const { sizeBytes: size } = inode;
      const end = blockEnd(vol, cutAt);
      // Shorter now: cut again, which waits for its own commit. Longer: the rest of the same block is still to do.
      if (inode.isRegular && size >= cutAt && size < end) zeroWritten(vol, inode, size, end);
    } catch (error) {
      // Runs when a commit ends, on nobody's behalf; whoever uses the file meets the error again.
      if (!(error instanceof FsError || error instanceof CorruptionError)) throw error;
    }
  }
}
