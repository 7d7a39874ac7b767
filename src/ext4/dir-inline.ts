/**
 * Directories whose entries lie in the inode (fs/ext4/inline.c): i_block has the number of the parent and a chain of
 * entries, the attribute system.data another. "." and ".." have no entries.
 */
import { CorruptionError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import {
  checkChain,
  deleteAt,
  entrySpace,
  findInBlock,
  findRoom,
  formatLeaf,
  insertAt,
  recLen,
  setRecLen,
} from './dir-block.js';
import { foldedIn } from './dir-name.js';
import { appendDirBlock } from './dir-read.js';
import { DIR_ENTRY, entryBytes, FILE_TYPE } from './format/dir-entry.js';
import { I_BLOCK_BYTES, S_IFDIR } from './format/inode.js';
import { leaveInode, setInlineContent } from './inline-data.js';
import { type Ino, Inode, type WritableInode } from './inode.js';
import { inlineDataPlace, inlineDataRoom, setInlineData } from './xattr.js';

/** Bytes of i_block before the entries: the number of the parent. */
export const PARENT_BYTES = 4;
/** Where the entries would begin in a block, behind "." and "..": what cursors count from. */
export const DOTS_BYTES = 24;

const DOT = new Uint8Array([0x2e]);
const DOT_DOT = new Uint8Array([0x2e, 0x2e]);

/** A chain of entries, by bytes of the inode's block. */
export interface Span {
  readonly from: number;
  readonly end: number;
  /** Where it would be in the first block of the directory if it had one. */
  readonly position: number;
}

/** The chains of an inline directory, checked. Throws CorruptionError. */
export function inlineSpans(dir: Inode): Span[] {
  const { at, size } = inlineDataPlace(dir);
  if (dir.sizeBytes !== I_BLOCK_BYTES + size)
    throw new CorruptionError(
      'directory',
      `inode ${dir.ino}`,
      `its size is ${dir.sizeBytes}, it has ${size} + 60 bytes`,
    );
  const first = dir.iBlockBase + PARENT_BYTES;
  const spans = [{ from: first, end: dir.iBlockBase + I_BLOCK_BYTES, position: DOTS_BYTES }];
  if (size > 0) spans.push({ from: at, end: at + size, position: DOTS_BYTES + I_BLOCK_BYTES - PARENT_BYTES });
  for (const { from, end } of spans) checkChain(dir.vol, dir.block, from, end);
  return spans;
}

export function inlineParent(dir: Inode): Ino {
  return dir.block.view.getUint32(dir.iBlockBase, true);
}

/** Entries in use: where each is, and its place for a cursor, with that of the one behind it. */
export function* inlineEntries(dir: Inode): Generator<{ at: number; position: number; next: number }> {
  const { view } = dir.block;
  for (const { from, end, position } of inlineSpans(dir)) {
    for (let at = from; at < end; ) {
      const length = recLen(view, at, dir.vol.geometry.blockSize);
      const here = position + at - from;
      if (DIR_ENTRY.inode.get(view, at) !== 0) yield { at, position: here, next: here + length };
      at += length;
    }
  }
}

/** Byte of the inode's block where the entry with this name is, or -1. */
export function findInline(dir: Inode, name: Uint8Array): number {
  const folded = foldedIn(dir, name);
  for (const { from, end } of inlineSpans(dir)) {
    const at = findInBlock(dir.vol, dir.block, name, folded, from, end);
    if (at >= 0) return at;
  }
  return -1;
}

interface Entry {
  readonly name: Uint8Array;
  readonly ino: Ino;
  readonly fileType: number;
}

export function setInlineParent(dir: WritableInode, parentIno: Ino): void {
  dir.block.view.setUint32(dir.iBlockBase, parentIno, true);
}

/** A new directory without entries (ext4_try_create_inline_dir). */
export function initInline(dir: WritableInode, parentIno: Ino): void {
  setInlineContent(dir, new Uint8Array(I_BLOCK_BYTES));
  setInlineParent(dir, parentIno);
  setRecLen(dir.block, dir.iBlockBase + PARENT_BYTES, I_BLOCK_BYTES - PARENT_BYTES, dir.vol.geometry.blockSize);
  dir.setSizeBytes(I_BLOCK_BYTES);
}

/** Adds an entry, in system.data if need be, which then takes all the room there is. False: it does not fit. */
export function insertInline(handle: Handle, dir: Inode, entry: Entry): boolean {
  const { vol } = dir;
  const writable = dir.edit(handle);
  const insert = () => {
    for (const { from, end } of inlineSpans(dir)) {
      const room = findRoom(vol, dir.block, entry.name.length, from, end);
      if (room < 0) continue;
      insertAt(vol, writable.block, room, entry);
      return true;
    }
    return false;
  };
  return insert() || (extend(writable) && insert());
}

/** Lets system.data grow to what the inode has room for: its last entry takes what is new (ext4_update_inline_dir). */
function extend(dir: WritableInode): boolean {
  const { blockSize } = dir.vol.geometry;
  const { at, size } = inlineDataPlace(dir);
  const room = inlineDataRoom(dir);
  if (room - size <= entryBytes(1)) return false;
  const value = new Uint8Array(room);
  value.set(dir.block.bytes.subarray(at, at + size));
  let last = 0;
  for (let next = 0; next < size; next += recLen(dir.block.view, at + next, blockSize)) last = next;
  setInlineData(dir, value);
  setRecLen(dir.block, inlineDataPlace(dir).at + last, room - last, blockSize);
  dir.setSizeBytes(I_BLOCK_BYTES + room);
  return true;
}

export function removeInline(handle: Handle, dir: Inode, at: number): void {
  const span = inlineSpans(dir).find(({ from, end }) => at >= from && at < end);
  if (span !== undefined) deleteAt(dir.vol, dir.edit(handle).block, at, span.from);
}

/** Moves the entries to a block, each to the place that its cursor names (ext4_finish_convert_inline_dir). */
export function inlineToBlock(handle: Handle, dir: Inode): void {
  const { vol, ino } = dir;
  const { blockSize } = vol.geometry;
  const parent = inlineParent(dir);
  const chains = inlineSpans(dir).map(({ from, end }) => dir.block.bytes.slice(from, end));
  const writable = dir.edit(handle);
  leaveInode(writable);
  writable.setSizeBytes(0);
  const { block } = appendDirBlock(handle, vol, Inode.get(vol, ino));
  formatLeaf(vol, block);
  let at = DOTS_BYTES;
  for (const chain of chains) {
    block.bytes.set(chain, at);
    at += chain.length;
  }
  const fileType = FILE_TYPE[S_IFDIR];
  setRecLen(block, 0, DOTS_BYTES, blockSize);
  insertAt(vol, block, 0, { name: DOT, ino, fileType });
  insertAt(vol, block, 0, { name: DOT_DOT, ino: parent, fileType });
  let last = DOTS_BYTES;
  for (let next = last; next < at; next += recLen(block.view, next, blockSize)) last = next;
  setRecLen(block, last, entrySpace(vol) - last, blockSize);
}
