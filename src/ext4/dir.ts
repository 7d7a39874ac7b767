/** Directories: find, add, remove and list entries, whether the directory is indexed or not. */
import { CorruptionError, FsError } from '../errors.js';
import type { CachedBlock } from '../jbd2/block-cache.js';
import type { Handle } from '../jbd2/handle.js';
import {
  deleteAt,
  entrySpace,
  findInBlock,
  findRoom,
  formatLeaf,
  formatTail,
  insertAt,
  recLen,
  setRecLen,
} from './dir-block.js';
import { findIndexed, looksLikeIndexRoot } from './dir-htree.js';
import { addIndexed, makeIndexed } from './dir-htree-split.js';
import {
  findInline,
  initInline,
  inlineEntries,
  inlineToBlock,
  insertInline,
  removeInline,
  setInlineParent,
} from './dir-inline.js';
import { foldedIn } from './dir-name.js';
import { appendDirBlock, blockCount, readDirBlock, writeAccess } from './dir-read.js';
import { isEncrypted, shownName } from './encrypted-names.js';
import { COMPAT } from './features.js';
import { DIR_ENTRY, EXT4_NAME_LEN, FILE_TYPE } from './format/dir-entry.js';
import { EXT4_INDEX_FL, S_IFDIR, S_IFMT } from './format/inode.js';
import { inlineCapacity } from './inline-data.js';
import { type Ino, Inode, type WritableInode } from './inode.js';
import type { Volume } from './volume.js';

export { readDirectory } from './dir-list.js';

/** Blocks that adding an entry may change: leaves, three index levels, new blocks with their mapping and bitmap. */
export const DIR_ENTRY_CREDITS = 28;

/** An entry where it is. Stays right until another entry of the directory is added or removed. */
export interface Place {
  readonly block: CachedBlock;
  readonly at: number;
  /** The directory if the entry lies in its inode. */
  readonly inline?: Inode;
}

export function isIndexed(vol: Volume, dir: Inode): boolean {
  return !dir.hasInlineData && dir.hasFlag(EXT4_INDEX_FL) && (vol.geometry.compat & COMPAT.dir_index) !== 0;
}

/** Throws FsError ENOTDIR, ENAMETOOLONG; CorruptionError. */
export function findEntry(vol: Volume, dir: Inode, name: Uint8Array): Place | null {
  if (name.length > EXT4_NAME_LEN) throw new FsError('ENAMETOOLONG');
  if (!dir.isDirectory) throw new FsError('ENOTDIR');
  const isDot = name.length <= 2 && name[0] === 0x2e && (name.length === 1 || name[1] === 0x2e);
  if (dir.hasInlineData) {
    if (isDot) return name.length === 1 ? null : { block: dir.block, at: dir.iBlockBase, inline: dir };
    const at = isEncrypted(dir) ? findInlineShown(dir, name) : findInline(dir, name);
    return at < 0 ? null : { block: dir.block, at, inline: dir };
  }
  if (!isDot && isEncrypted(dir)) return findShown(vol, dir, name);
  const folded = isDot ? null : foldedIn(dir, name);
  if (isIndexed(vol, dir) && !isDot) return findIndexed(vol, dir, name, folded);
  const blocks = isDot ? 1 : blockCount(vol, dir);
  for (let lblk = 0; lblk < blocks; lblk++) {
    const block = readDirBlock(vol, dir, lblk);
    const at = findInBlock(vol, block, name, folded);
    if (at >= 0) return { block, at };
  }
  return null;
}

function findInlineShown(dir: Inode, name: Uint8Array): number {
  for (const { at } of inlineEntries(dir)) {
    const length = DIR_ENTRY.name_len.get(dir.block.view, at);
    const stored = dir.block.bytes.subarray(at + DIR_ENTRY.SIZE, at + DIR_ENTRY.SIZE + length) as Uint8Array;
    const shown = shownName(dir, stored);
    if (shown.length === name.length && shown.every((byte, i) => byte === name[i])) return at;
  }
  return -1;
}

/** Names of an encrypted directory are known only as they are shown, which no index leads to. */
function findShown(vol: Volume, dir: Inode, name: Uint8Array): Place | null {
  const blocks = blockCount(vol, dir);
  const end = entrySpace(vol);
  // The first block of an indexed directory is its root.
  for (let lblk = isIndexed(vol, dir) ? 1 : 0; lblk < blocks; lblk++) {
    const block = readDirBlock(vol, dir, lblk);
    for (let at = 0; at < end; at += recLen(block.view, at, vol.geometry.blockSize)) {
      if (DIR_ENTRY.inode.get(block.view, at) === 0) continue;
      const length = DIR_ENTRY.name_len.get(block.view, at);
      const stored = block.bytes.subarray(at + DIR_ENTRY.SIZE, at + DIR_ENTRY.SIZE + length) as Uint8Array;
      const shown = shownName(dir, stored);
      if (shown.length === name.length && shown.every((byte, i) => byte === name[i])) return { block, at };
    }
  }
  return null;
}

export function entryIno({ block, at }: Place): Ino {
  return DIR_ENTRY.inode.get(block.view, at);
}

/** The inode that a name stands for, or 0. Throws as {@link findEntry}. */
export function lookupEntry(vol: Volume, dir: Inode, name: Uint8Array): Ino | 0 {
  if (dir.isDirectory && dir.hasInlineData && name.length === 1 && name[0] === 0x2e) return dir.ino;
  const place = findEntry(vol, dir, name);
  return place === null ? 0 : entryIno(place);
}

/** Adds an entry; the caller knows that the name is not there. Throws FsError ENOSPC, EINVAL. */
export function addEntry(handle: Handle, vol: Volume, dir: Inode, name: Uint8Array, ino: Ino, mode: number): void {
  const entry = { name, ino, fileType: FILE_TYPE[mode & S_IFMT] ?? 0 };
  foldedIn(dir, name);
  if (dir.hasInlineData) {
    if (insertInline(handle, dir, entry)) return;
    inlineToBlock(handle, dir);
    addEntry(handle, vol, Inode.get(vol, dir.ino), name, ino, mode);
    return;
  }
  if (isIndexed(vol, dir)) {
    addIndexed(handle, vol, dir, entry);
    return;
  }
  const blocks = blockCount(vol, dir);
  for (let lblk = 0; lblk < blocks; lblk++) {
    const block = readDirBlock(vol, dir, lblk);
    const room = findRoom(vol, block, name.length);
    if (room < 0) continue;
    insertAt(vol, writeAccess(handle, block), room, entry);
    return;
  }
  if (blocks === 1 && (vol.geometry.compat & COMPAT.dir_index) !== 0) {
    makeIndexed(handle, vol, dir);
    addIndexed(handle, vol, dir, entry);
    return;
  }
  const { block } = appendDirBlock(handle, vol, dir);
  formatLeaf(vol, block);
  insertAt(vol, block, 0, entry);
}

export function removeEntry(handle: Handle, vol: Volume, place: Place): void {
  if (place.inline !== undefined) removeInline(handle, place.inline, place.at);
  else deleteAt(vol, writeAccess(handle, place.block), place.at);
}

/** Lets an entry name another inode. */
export function replaceEntry(handle: Handle, place: Place, ino: Ino, mode: number): void {
  const block = place.inline?.edit(handle).block ?? writeAccess(handle, place.block);
  DIR_ENTRY.inode.set(block.view, place.at, ino);
  if (DIR_ENTRY.file_type.get(block.view, place.at) !== 0) {
    DIR_ENTRY.file_type.set(block.view, place.at, FILE_TYPE[mode & S_IFMT] ?? 0);
  }
}

const DOT = new Uint8Array([0x2e]);
const DOT_DOT = new Uint8Array([0x2e, 0x2e]);

/** A new directory: "." and ".." in its first block, or, where it can lie in the inode, no block. */
export function initDirectory(handle: Handle, vol: Volume, dir: WritableInode, parentIno: Ino): void {
  if (inlineCapacity(dir) > 0) {
    initInline(dir, parentIno);
    return;
  }
  const { block } = appendDirBlock(handle, vol, dir);
  formatLeaf(vol, block);
  const fileType = FILE_TYPE[S_IFDIR];
  insertAt(vol, block, 0, { name: DOT, ino: dir.ino, fileType });
  insertAt(vol, block, 0, { name: DOT_DOT, ino: parentIno, fileType });
  setRecLen(block, 12, entrySpace(vol) - 12, vol.geometry.blockSize);
  formatTail(vol, block);
}

/** ".." of a directory that has moved. */
export function setParent(handle: Handle, vol: Volume, dir: Inode, parentIno: Ino): void {
  if (dir.hasInlineData) {
    setInlineParent(dir.edit(handle), parentIno);
    return;
  }
  const block = writeAccess(handle, readDirBlock(vol, dir, 0));
  const at = findInBlock(vol, block, DOT_DOT);
  if (at < 0 && !looksLikeIndexRoot(vol, block))
    throw new CorruptionError('directory', `inode ${dir.ino}`, 'it has no ".."');
  DIR_ENTRY.inode.set(block.view, at < 0 ? 12 : at, parentIno);
}

/** True if there is nothing but "." and "..". */
export function isEmpty(vol: Volume, dir: Inode): boolean {
  if (dir.hasInlineData) return inlineEntries(dir).next().done === true;
  const blocks = blockCount(vol, dir);
  const indexed = isIndexed(vol, dir);
  for (let lblk = 0; lblk < blocks; lblk++) {
    const block = readDirBlock(vol, dir, lblk);
    const { view, bytes } = block;
    // Index nodes look like blocks of one unused entry, the root like a block of "." and "..".
    const end = indexed && lblk === 0 ? 24 : entrySpace(vol);
    for (let at = 0; at < end; ) {
      const length = recLen(block.view, at, vol.geometry.blockSize);
      if (DIR_ENTRY.inode.get(view, at) !== 0) {
        const nameLength = DIR_ENTRY.name_len.get(view, at);
        const isDot = nameLength <= 2 && bytes[at + 8] === 0x2e && (nameLength === 1 || bytes[at + 9] === 0x2e);
        if (!(isDot && lblk === 0)) return false;
      }
      at += length;
    }
  }
  return true;
}
