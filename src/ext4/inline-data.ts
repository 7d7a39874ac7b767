/**
 * Inline data (fs/ext4/inline.c): the content of a small file lies in its inode, the first 60 bytes in i_block, the rest
 * in the attribute system.data, which is there even when it is empty. What does not fit moves to a block, in the same
 * handle that takes it out of the inode: a crash shows it in the one place or the other.
 */
import type { Handle } from '../jbd2/handle.js';
import { allocateMapped, initBlockMap } from './block-map.js';
import { EXTENT_CREDITS } from './extent-edit.js';
import { ExtentNode } from './extent-node.js';
import { INCOMPAT } from './features.js';
import { fileData } from './file-data.js';
import { EXT4_EXTENTS_FL, EXT4_INLINE_DATA_FL, I_BLOCK_BYTES } from './format/inode.js';
import { TABLE_CREDITS } from './indirect-edit.js';
import { type Ino, Inode, type WritableInode } from './inode.js';
import { hasPromises } from './promised-blocks.js';
import type { Volume } from './volume.js';
import { inlineDataPlace, inlineDataRoom, setInlineData } from './xattr.js';

/** Blocks that {@link moveToBlock} may change. */
const MOVE_CREDITS = EXTENT_CREDITS + TABLE_CREDITS + 4;

/** Fills `into` with the bytes from `posBytes` on; zeroes behind what there is. Throws CorruptionError. */
export function readInline(inode: Inode, posBytes: number, into: Uint8Array): void {
  into.fill(0);
  const content = inlineContent(inode);
  if (posBytes < content.length) into.set(content.subarray(posBytes, posBytes + into.length));
}

/** A copy of the content, as long as i_size says and the inode has bytes for. Throws CorruptionError. */
export function inlineContent(inode: Inode): Uint8Array {
  const { at, size } = inlineDataPlace(inode);
  const whole = new Uint8Array(I_BLOCK_BYTES + size);
  whole.set(inode.iBlock as Uint8Array);
  whole.set(inode.block.bytes.subarray(at, at + size) as Uint8Array, I_BLOCK_BYTES);
  return whole.slice(0, inode.sizeBytes);
}

/** The most bytes that can lie in the inode beside its attributes; 0: none, or the filesystem does not do that. */
export function inlineCapacity(inode: Inode): number {
  if ((inode.vol.geometry.incompat & INCOMPAT.inline_data) === 0) return 0;
  const room = inlineDataRoom(inode);
  return room < 0 ? 0 : I_BLOCK_BYTES + room;
}

/** Whether a file that reaches to `endBytes` would have all of its content in the inode: it has, or has none yet. */
export function fitsInline(inode: Inode, endBytes: number): boolean {
  if (!inode.isRegular) return false;
  if (!inode.hasInlineData && !hasNothing(inode)) return false;
  return Math.max(endBytes, inode.sizeBytes) <= inlineCapacity(inode);
}

/** A file without content and without blocks, those promised to it included. */
function hasNothing(inode: Inode): boolean {
  if (inode.sizeBytes > 0 || hasPromises(inode.vol, inode.ino)) return false;
  return inode.usesExtents
    ? ExtentNode.root(inode).entries === 0
    : (inode.iBlock as Uint8Array).every((byte) => byte === 0);
}

/** Makes `content`, which fits, all that the inode has. i_size is the caller's. */
export function setInlineContent(inode: WritableInode, content: Uint8Array): void {
  inode.setFlags((inode.flags & ~EXT4_EXTENTS_FL) | EXT4_INLINE_DATA_FL);
  const { bytes } = inode.block;
  bytes.fill(0, inode.iBlockBase, inode.iBlockBase + I_BLOCK_BYTES);
  bytes.set(content.subarray(0, I_BLOCK_BYTES), inode.iBlockBase);
  setInlineData(inode, content.slice(I_BLOCK_BYTES));
}

/** Writes into the inode; {@link fitsInline} has said that it can. A gap before the bytes becomes zeroes. */
export function writeInline(handle: Handle, inode: Inode, posBytes: number, data: Uint8Array): void {
  const before = inode.hasInlineData ? inlineContent(inode) : new Uint8Array(0);
  const after = new Uint8Array(Math.max(inode.sizeBytes, posBytes + data.length));
  after.set(before);
  after.set(data, posBytes);
  const writable = inode.edit(handle);
  setInlineContent(writable, after);
  writable.setSizeBytes(after.length);
}

/** Takes away what lies behind i_size, or adds the zeroes before it. A size too large for the inode is left to who reads. */
export function fitToSize(handle: Handle, inode: Inode): void {
  if (inode.sizeBytes > inlineCapacity(inode)) return;
  const content = new Uint8Array(inode.sizeBytes);
  content.set(inlineContent(inode));
  setInlineContent(inode.edit(handle), content);
}

/** The inode has no data in itself any more, and an empty map. */
export function leaveInode(inode: WritableInode): void {
  setInlineData(inode, null);
  inode.setFlags(inode.flags & ~EXT4_INLINE_DATA_FL);
  initBlockMap(inode);
}

/**
 * Moves the content of a file to a block (ext4_convert_inline_data); does nothing for a file that has it there. The block
 * is new and nobody's until this commits, before which it is flushed: it need not go through the log. Throws FsError
 * ENOSPC, EDQUOT.
 */
export function moveToBlock(vol: Volume, ino: Ino): void {
  if (!Inode.get(vol, ino).hasInlineData) return;
  vol.journal.run(MOVE_CREDITS, (handle) => {
    const inode = Inode.get(vol, ino);
    const content = inlineContent(inode);
    leaveInode(inode.edit(handle));
    if (content.length === 0) return;
    const { start } = allocateMapped(handle, Inode.get(vol, ino), 0, 1, false);
    const { blockSize } = vol.geometry;
    if (inode.journalsData) {
      const block = handle.getCreateAccess(start, fileData);
      block.bytes.set(content);
      handle.dirtyMetadata(block);
      return;
    }
    const bytes = new Uint8Array(blockSize);
    bytes.set(content);
    vol.device.write(start * blockSize, bytes);
    vol.journal.noteDataWrite();
  });
}
