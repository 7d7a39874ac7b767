/**
 * File data that goes through the log (data=journal, or chattr +j): its blocks are changed in handles like metadata, so
 * that a write is there with everything that it changed, or not at all. Until a checkpoint only memory and the log have
 * them: they are read from here, not from the device.
 */
import { FsError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { allocateMapped, mapBlock, maxFileBytes } from './block-map.js';
import { zeroBeforeGrowth } from './eof-tail.js';
import { EXTENT_CREDITS } from './extent-edit.js';
import { convertUnwritten } from './extent-insert.js';
import { fileData } from './file-data.js';
import { TABLE_CREDITS } from './indirect-edit.js';
import { fitsInline, moveToBlock, writeInline } from './inline-data.js';
import { type Ino, Inode } from './inode.js';
import { checkWritable, dataInode, raiseSize } from './iomap.js';
import type { Volume } from './volume.js';

/** Blocks of one handle: small enough for the smallest log. */
const BLOCKS_PER_HANDLE = 32;
/** Finding the blocks, the bitmap that has them, size and times, and the last block before them. */
const WRITE_CREDITS = BLOCKS_PER_HANDLE + 2 * EXTENT_CREDITS + TABLE_CREDITS + 8;

/**
 * Writes `bytes` at `posBytes`, in one handle for every BLOCKS_PER_HANDLE blocks; `opflags` as for begin, `flags` as for ioend. Throws FsError
 * (EFBIG, ENOSPC, EPERM, EROFS, EISDIR, EINVAL), after which a part may have been written.
 */
export function writeJournaled(
  vol: Volume,
  ino: Ino,
  posBytes: number,
  bytes: Uint8Array,
  opflags: number,
  flags: number,
): void {
  checkWritable(dataInode(vol, ino), opflags);
  if (fitsInline(Inode.get(vol, ino), posBytes + bytes.length)) {
    vol.journal.run(2, (handle) => {
      writeInline(handle, Inode.get(vol, ino), posBytes, bytes);
      raiseSize(handle, Inode.get(vol, ino), 0, flags);
    });
    return;
  }
  moveToBlock(vol, ino);
  if (posBytes + bytes.length > maxFileBytes(Inode.get(vol, ino))) throw new FsError('EFBIG');
  for (let done = 0; done < bytes.length; ) {
    done += vol.journal.run(WRITE_CREDITS, (handle) => {
      const before = Inode.get(vol, ino);
      const pos = posBytes + done;
      if (pos > before.sizeBytes) zeroBeforeGrowth(vol, before, pos);
      const written = writeRun(handle, vol, ino, pos, bytes.subarray(done));
      raiseSize(handle, Inode.load(vol, ino), pos + written, flags);
      vol.noteChanged(ino, handle.transaction.tid);
      return written;
    });
  }
}

/** The start of `bytes`, as far as it lies in one run of blocks. Returns how many bytes that is. */
function writeRun(handle: Handle, vol: Volume, ino: Ino, pos: number, bytes: Uint8Array): number {
  const { blockSize } = vol.geometry;
  const inode = Inode.get(vol, ino);
  const lblk = Math.floor(pos / blockSize);
  const wanted = Math.min(BLOCKS_PER_HANDLE, Math.ceil((pos + bytes.length) / blockSize) - lblk);
  const mapping = mapBlock(inode, lblk);
  const isNew = mapping.pblk === 0 || mapping.unwritten;
  let start = mapping.pblk;
  let count = Math.min(wanted, mapping.count);
  if (mapping.pblk === 0) ({ start, count } = allocateMapped(handle, inode, lblk, count, false));
  else if (mapping.unwritten) convertUnwritten(handle, inode, lblk, count, start);

  const length = Math.min(bytes.length, (lblk + count) * blockSize - pos);
  for (let done = 0; done < length; ) {
    const inBlock = (pos + done) % blockSize;
    const piece = Math.min(blockSize - inBlock, length - done);
    const nr = start + Math.floor((pos + done) / blockSize) - lblk;
    const block =
      isNew || piece === blockSize
        ? handle.getCreateAccess(nr, fileData)
        : handle.getWriteAccess(vol.read(nr, fileData));
    block.bytes.set(bytes.subarray(done, done + piece), inBlock);
    handle.dirtyMetadata(block);
    done += piece;
  }
  return length;
}
