/** Leaves of an indexed directory: split by hash when full (do_split), and the first leaf made when an index begins. */
import { CorruptionError } from '../errors.js';
import type { WritableBlock } from '../jbd2/block-cache.js';
import type { Handle } from '../jbd2/handle.js';
import { entrySpace, findRoom, formatLeaf, insertAt, recLen, setRecLen } from './dir-block.js';
import { nameHash } from './dir-hash.js';
import {
  indexHashVersion,
  indexLimit,
  insertIndexEntry,
  leafOf,
  makeIndexRoom,
  type Path,
  probe,
} from './dir-htree.js';
import { hashNameIn } from './dir-name.js';
import { appendDirBlock, readDirBlock, writeAccess } from './dir-read.js';
import { DIR_ENTRY, entryBytes } from './format/dir-entry.js';
import { DX_COUNTLIMIT, DX_ENTRY, DX_ROOT_ENTRIES, DX_ROOT_INFO, DX_ROOT_INFO_OFFSET } from './format/htree.js';
import { EXT4_INDEX_FL } from './format/inode.js';
import type { Ino, Inode } from './inode.js';
import type { Volume } from './volume.js';

interface Entry {
  readonly name: Uint8Array;
  readonly ino: Ino;
  readonly fileType: number;
}

/** A live entry of a leaf with its hash. */
interface Hashed {
  readonly at: number;
  readonly size: number;
  readonly hash: number;
}

function hashedEntries(dir: Inode, block: WritableBlock, version: number, from = 0): Hashed[] {
  const { vol } = dir;
  const entries: Hashed[] = [];
  const end = entrySpace(vol);
  for (let at = from; at < end; ) {
    const length = recLen(block.view, at, vol.geometry.blockSize);
    if (DIR_ENTRY.inode.get(block.view, at) !== 0) {
      const nameLength = DIR_ENTRY.name_len.get(block.view, at);
      hashNameIn(dir, version, block.bytes.subarray(at + DIR_ENTRY.SIZE, at + DIR_ENTRY.SIZE + nameLength));
      entries.push({ at, size: entryBytes(nameLength), hash: nameHash.hash });
    }
    at += length;
  }
  return entries;
}

/** Writes `entries` of `source` close together into `target`, the last one taking the rest (dx_pack_dirents). */
function packInto(vol: Volume, target: WritableBlock, source: Uint8Array, entries: readonly Hashed[]): void {
  const { blockSize } = vol.geometry;
  formatLeaf(vol, target);
  let to = 0;
  entries.forEach(({ at, size }, i) => {
    target.bytes.set(source.subarray(at, at + size), to);
    setRecLen(target, to, i === entries.length - 1 ? entrySpace(vol) - to : size, blockSize);
    to += size;
  });
}

/** Adds an entry to an indexed directory, splitting what is full on the way. Throws FsError ENOSPC. */
export function addIndexed(handle: Handle, vol: Volume, dir: Inode, entry: Entry): void {
  const root = readDirBlock(vol, dir, 0);
  const version = indexHashVersion(dir, root);
  hashNameIn(dir, version, entry.name);
  const { hash } = nameHash;
  let path = probe(vol, dir, root, hash, version);
  const leaf = readDirBlock(vol, dir, leafOf(path));
  const room = findRoom(vol, leaf, entry.name.length);
  if (room >= 0) {
    insertAt(vol, writeAccess(handle, leaf), room, entry);
    return;
  }
  path = makeIndexRoom(handle, vol, dir, path, hash);
  const target = splitLeaf(handle, vol, dir, path, hash);
  insertAt(vol, target, findRoom(vol, target, entry.name.length), entry);
}

/** Moves the upper half of a leaf, by hash, to a new block. Returns the half where `hash` belongs. */
function splitLeaf(handle: Handle, vol: Volume, dir: Inode, path: Path, hash: number): WritableBlock {
  const old = writeAccess(handle, readDirBlock(vol, dir, leafOf(path)));
  const entries = hashedEntries(dir, old, path.hashVersion).sort((a, b) => a.hash - b.hash || a.at - b.at);
  if (entries.length < 2) {
    // Full of nothing: unused entries too small to be of use.
    packInto(vol, old, old.bytes.slice(), entries);
    return old;
  }
  // Half of the bytes, not of the names, so that both halves have room.
  let moved = 0;
  let split = entries.length;
  const half = entrySpace(vol) / 2;
  while (split > 1 && moved + entries[split - 1].size / 2 <= half) moved += entries[--split].size;
  if (split === entries.length) split = entries.length - 1;
  const firstHash = entries[split].hash;
  const continued = split > 0 && entries[split - 1].hash === firstHash ? 1 : 0;
  const { lblk, block: fresh } = appendDirBlock(handle, vol, dir);
  const source = old.bytes.slice();
  packInto(vol, fresh, source, entries.slice(split));
  packInto(vol, old, source, entries.slice(0, split));
  const lowest = path.frames[path.frames.length - 1];
  insertIndexEntry(handle, lowest, firstHash + continued, lblk);
  return hash >= firstHash ? fresh : old;
}

/** A directory of one full block becomes indexed: its entries move to a leaf, the block becomes the root (make_indexed_dir). */
export function makeIndexed(handle: Handle, vol: Volume, dir: Inode): void {
  const { blockSize, hashVersion } = vol.geometry;
  const root = writeAccess(handle, readDirBlock(vol, dir, 0));
  const source = root.bytes.slice();
  const dotDot = recLen(root.view, 0, blockSize);
  const first = dotDot + (dotDot < entrySpace(vol) ? recLen(root.view, dotDot, blockSize) : 0);
  if (dotDot !== 12 || first >= entrySpace(vol)) {
    throw new CorruptionError('directory', `inode ${dir.ino}`, 'it does not begin with "." and ".."');
  }
  const entries = hashedEntries(dir, root, hashVersion, first);
  const { lblk, block: leaf } = appendDirBlock(handle, vol, dir);
  packInto(vol, leaf, source, entries);
  root.bytes.fill(0, DX_ROOT_INFO_OFFSET);
  // "." and ".." stay; ".." spans the rest, so that the block is a directory for those who know no index.
  setRecLen(root, 0, 12, blockSize);
  root.bytes.copyWithin(12, dotDot, dotDot + 12);
  setRecLen(root, 12, blockSize - 12, blockSize);
  DX_ROOT_INFO.hash_version.set(root.view, DX_ROOT_INFO_OFFSET, hashVersion);
  DX_ROOT_INFO.info_length.set(root.view, DX_ROOT_INFO_OFFSET, DX_ROOT_INFO.SIZE);
  DX_COUNTLIMIT.limit.set(root.view, DX_ROOT_ENTRIES, indexLimit(vol, DX_ROOT_ENTRIES));
  DX_COUNTLIMIT.count.set(root.view, DX_ROOT_ENTRIES, 1);
  DX_ENTRY.block.set(root.view, DX_ROOT_ENTRIES, lblk);
  const writable = dir.edit(handle);
  writable.setFlags(writable.flags | EXT4_INDEX_FL);
}
