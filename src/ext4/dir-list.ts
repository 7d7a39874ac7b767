/**
 * Listing a directory. An indexed one is listed in hash order, as the kernel does: the cursor is then a hash, and stays
 * right whatever is added and removed between two calls. A linear one is listed in the order of its bytes.
 */

import { FsError } from '../errors.js';
import type { CachedBlock } from '../jbd2/block-cache.js';
import { isIndexed } from './dir.js';
import { entrySpace, recLen } from './dir-block.js';
import { nameHash } from './dir-hash.js';
import { indexHashVersion, leafOf, nextLeaf, probe } from './dir-htree.js';
import { DOTS_BYTES, inlineEntries, inlineParent } from './dir-inline.js';
import { hashNameIn } from './dir-name.js';
import { blockCount, readDirBlock } from './dir-read.js';
import { readAheadDirectory } from './dir-read-ahead.js';
import { isEncrypted, shownName } from './encrypted-names.js';
import { DIR_ENTRY, FILE_TYPE } from './format/dir-entry.js';
import { S_IFDIR } from './format/inode.js';
import type { Ino, Inode } from './inode.js';
import type { Volume } from './volume.js';

export type Visit = (name: Uint8Array, ino: Ino, fileType: number, nextCursor: number) => boolean;

/** A cursor of an indexed directory: 31 bits of hash, 21 of minor hash, behind the two for "." and "..". */
const MINOR_UNITS = 2 ** 21;
const FIRST_HASHED = 2;

interface Listed {
  key: number;
  readonly at: number;
}

/**
 * Visits entries from `cursor` on (0: the beginning) until `visit` returns false for one that it does not take.
 * `nextCursor` is where to go on after the entry.
 */
export function readDirectory(vol: Volume, dir: Inode, cursor: number, visit: Visit): void {
  if (!dir.isDirectory) throw new FsError('ENOTDIR');
  const shown = isEncrypted(dir) ? asShown(dir, visit) : visit;
  if (cursor === 0 && !dir.hasInlineData) readAheadDirectory(vol, dir, blockCount(vol, dir));
  if (dir.hasInlineData) listInline(dir, cursor, shown);
  else if (isIndexed(vol, dir)) listIndexed(vol, dir, cursor, shown);
  else listLinear(vol, dir, cursor, shown);
}

function asShown(dir: Inode, visit: Visit): Visit {
  return (name, ino, fileType, nextCursor) => visit(shownName(dir, name), ino, fileType, nextCursor);
}

function visitEntry(block: CachedBlock, at: number, next: number, visit: Visit): boolean {
  const nameLength = DIR_ENTRY.name_len.get(block.view, at);
  const name = block.bytes.subarray(at + DIR_ENTRY.SIZE, at + DIR_ENTRY.SIZE + nameLength) as Uint8Array;
  return visit(name, DIR_ENTRY.inode.get(block.view, at), DIR_ENTRY.file_type.get(block.view, at), next);
}

const DOT = new Uint8Array([0x2e]);
const DOT_DOT = new Uint8Array([0x2e, 0x2e]);

/** Cursors are those that the directory would have as a block: it may become one between two calls. */
function listInline(dir: Inode, cursor: number, visit: Visit): void {
  const fileType = FILE_TYPE[S_IFDIR];
  if (cursor <= 0 && !visit(DOT, dir.ino, fileType, 12)) return;
  if (cursor <= 12 && !visit(DOT_DOT, inlineParent(dir), fileType, DOTS_BYTES)) return;
  for (const { at, position, next } of inlineEntries(dir)) {
    if (position >= cursor && !visitEntry(dir.block, at, next, visit)) return;
  }
}

function listLinear(vol: Volume, dir: Inode, cursor: number, visit: Visit): void {
  const { blockSize } = vol.geometry;
  const blocks = blockCount(vol, dir);
  const end = entrySpace(vol);
  for (let lblk = Math.floor(cursor / blockSize); lblk < blocks; lblk++) {
    const block = readDirBlock(vol, dir, lblk);
    for (let at = 0; at < end; ) {
      const length = recLen(block.view, at, vol.geometry.blockSize);
      const position = lblk * blockSize + at;
      // Entries before the cursor were listed; one that the cursor points into was merged meanwhile.
      if (position >= cursor && DIR_ENTRY.inode.get(block.view, at) !== 0) {
        const next = at + length >= end ? (lblk + 1) * blockSize : position + length;
        if (!visitEntry(block, at, next, visit)) return;
      }
      at += length;
    }
  }
}

function listIndexed(vol: Volume, dir: Inode, cursor: number, visit: Visit): void {
  if (cursor < FIRST_HASHED) {
    const root = readDirBlock(vol, dir, 0);
    if (cursor < 1 && !visitEntry(root, 0, 1, visit)) return;
    if (!visitEntry(root, 12, FIRST_HASHED, visit)) return;
  }
  const root = readDirBlock(vol, dir, 0);
  const version = indexHashVersion(dir, root);
  const wanted = Math.max(cursor, FIRST_HASHED) - FIRST_HASHED;
  const path = probe(vol, dir, root, Math.floor(wanted / MINOR_UNITS) * 2, version);
  for (;;) {
    const block = readDirBlock(vol, dir, leafOf(path));
    const entries = sortedEntries(dir, block, version, wanted);
    for (const { key, at } of entries) if (!visitEntry(block, at, FIRST_HASHED + key + 1, visit)) return;
    if (nextLeaf(vol, dir, path) < 0) return;
  }
}

/**
 * The entries of a leaf from the key `from` on. Keys are made to differ, or a reader whose buffer does not hold all names
 * of one key would never get past them.
 */
function sortedEntries(dir: Inode, block: CachedBlock, version: number, from: number): Listed[] {
  const { vol } = dir;
  const entries: Listed[] = [];
  const end = entrySpace(vol);
  for (let at = 0; at < end; ) {
    const length = recLen(block.view, at, vol.geometry.blockSize);
    if (DIR_ENTRY.inode.get(block.view, at) !== 0) {
      const nameLength = DIR_ENTRY.name_len.get(block.view, at);
      hashNameIn(
        dir,
        version,
        block.bytes.subarray(at + DIR_ENTRY.SIZE, at + DIR_ENTRY.SIZE + nameLength) as Uint8Array,
      );
      const key = (nameHash.hash >>> 1) * MINOR_UNITS + (nameHash.minor >>> 11);
      entries.push({ key, at });
    }
    at += length;
  }
  entries.sort((a, b) => a.key - b.key || a.at - b.at);
  for (let i = 1; i < entries.length; i++) entries[i].key = Math.max(entries[i].key, entries[i - 1].key + 1);
  return entries.filter(({ key }) => key >= from);
}
