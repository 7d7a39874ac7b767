/**
 * Indexed directories: descent by hash (dx_probe), search over a run of leaves with colliding hashes, and the index's own
 * growth (split of index nodes, a second level). Leaves are split in dir-htree-split.ts.
 */
import { CorruptionError, FsError } from '../errors.js';
import type { CachedBlock } from '../jbd2/block-cache.js';
import type { Handle } from '../jbd2/handle.js';
import { findInBlock, recLen, setRecLen } from './dir-block.js';
import { DX_HASH_LAST_KNOWN, hashName, nameHash } from './dir-hash.js';
import { appendDirBlock, blockCount, readDirBlock, writeAccess } from './dir-read.js';
import { INCOMPAT } from './features.js';
import {
  DX_COUNTLIMIT,
  DX_ENTRY,
  DX_NODE_ENTRIES,
  DX_ROOT_ENTRIES,
  DX_ROOT_INFO,
  DX_ROOT_INFO_OFFSET,
  DX_TAIL,
} from './format/htree.js';
import type { Inode } from './inode.js';
import type { Volume } from './volume.js';

/** One index block on the way down, and the entry chosen in it. */
export interface Frame {
  block: CachedBlock;
  /** Where its entries begin. */
  entriesAt: number;
  at: number;
}

export interface Path {
  readonly frames: Frame[];
  readonly hashVersion: number;
  /** How often {@link nextLeaf} has moved it. */
  moves: number;
}

/** Levels below the root that the format allows (ext4_dir_htree_level). */
const maxLevels = (vol: Volume) => ((vol.geometry.incompat & INCOMPAT.large_dir) !== 0 ? 2 : 1);

export const entryHash = (frame: Frame, i: number) =>
  i === 0 ? 0 : DX_ENTRY.hash.get(frame.block.view, frame.entriesAt + i * DX_ENTRY.SIZE);
export const entryBlock = (frame: Frame, i: number) =>
  DX_ENTRY.block.get(frame.block.view, frame.entriesAt + i * DX_ENTRY.SIZE) & 0x0fffffff;
export const entryCount = (frame: Frame) => DX_COUNTLIMIT.count.get(frame.block.view, frame.entriesAt);
export const entryLimit = (frame: Frame) => DX_COUNTLIMIT.limit.get(frame.block.view, frame.entriesAt);

/** dx_root_limit, dx_node_limit */
export function indexLimit(vol: Volume, entriesAt: number): number {
  const { blockSize, metadataCsum } = vol.geometry;
  return Math.floor((blockSize - entriesAt - (metadataCsum ? DX_TAIL.SIZE : 0)) / DX_ENTRY.SIZE);
}

/** An index block at its first entry. Throws CorruptionError if its counts do not fit it. */
export function frameOf(vol: Volume, dir: Inode, lblk: number, block: CachedBlock): Frame {
  const entriesAt = lblk === 0 ? DX_ROOT_ENTRIES : DX_NODE_ENTRIES;
  const frame: Frame = { block, entriesAt, at: 0 };
  const limit = indexLimit(vol, entriesAt);
  if (entryLimit(frame) !== limit || entryCount(frame) === 0 || entryCount(frame) > limit) {
    throw new CorruptionError(
      'directory index',
      `inode ${dir.ino} block ${lblk}`,
      `count ${entryCount(frame)} of limit ${entryLimit(frame)}`,
    );
  }
  return frame;
}

/** The hash version of the index. Throws CorruptionError for a root that cannot be one. */
export function indexHashVersion(dir: Inode, { view }: CachedBlock): number {
  const version = DX_ROOT_INFO.hash_version.get(view, DX_ROOT_INFO_OFFSET);
  const levels = DX_ROOT_INFO.indirect_levels.get(view, DX_ROOT_INFO_OFFSET);
  const bad = (finding: string) => new CorruptionError('directory index', `inode ${dir.ino}`, finding);
  if (version > DX_HASH_LAST_KNOWN) throw bad(`hash version ${version}`);
  if (DX_ROOT_INFO.info_length.get(view, DX_ROOT_INFO_OFFSET) !== DX_ROOT_INFO.SIZE) throw bad('its root is malformed');
  if (levels > maxLevels(dir.vol)) throw bad(`${levels} levels`);
  if ((DX_ROOT_INFO.unused_flags.get(view, DX_ROOT_INFO_OFFSET) & 1) !== 0) throw bad('unknown flags');
  return version;
}

/** The way from the root to the leaf that holds `hash` (dx_probe). */
export function probe(vol: Volume, dir: Inode, root: CachedBlock, hash: number, hashVersion: number): Path {
  const levels = DX_ROOT_INFO.indirect_levels.get(root.view, DX_ROOT_INFO_OFFSET);
  const frames: Frame[] = [];
  let lblk = 0;
  for (let level = 0; level <= levels; level++) {
    const frame = frameOf(vol, dir, lblk, level === 0 ? root : readDirBlock(vol, dir, lblk));
    let low = 1;
    let high = entryCount(frame) - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      if (entryHash(frame, middle) > hash) high = middle - 1;
      else low = middle + 1;
    }
    frame.at = low - 1;
    frames.push(frame);
    lblk = entryBlock(frame, frame.at);
    if (lblk === 0 || lblk >= blockCount(vol, dir)) {
      throw new CorruptionError('directory index', `inode ${dir.ino}`, `an entry points to block ${lblk}`);
    }
  }
  return { frames, hashVersion, moves: 0 };
}

export function leafOf(path: Path): number {
  const last = path.frames[path.frames.length - 1];
  return entryBlock(last, last.at);
}

/**
 * Moves to the next leaf (ext4_htree_next_block). Returns its first hash, or -1 at the end. The low bit of that hash says
 * that the leaf continues the one before: names with the same hash are in both. An index of many entries for few leaves
 * ends after as many as there are blocks.
 */
export function nextLeaf(vol: Volume, dir: Inode, path: Path): number {
  const { frames } = path;
  let level = frames.length - 1;
  while (frames[level].at + 1 >= entryCount(frames[level])) {
    if (level === 0) return -1;
    level--;
  }
  if (++path.moves > blockCount(vol, dir)) {
    throw new CorruptionError(
      'directory index',
      `inode ${dir.ino}`,
      'it has more leaves than the directory has blocks',
    );
  }
  frames[level].at++;
  const hash = entryHash(frames[level], frames[level].at);
  for (level++; level < frames.length; level++) {
    const above = frames[level - 1];
    const lblk = entryBlock(above, above.at);
    frames[level] = frameOf(vol, dir, lblk, readDirBlock(vol, dir, lblk));
  }
  return hash;
}

/** The block and offset of a name, or null; `folded` as in findInBlock. */
export function findIndexed(
  vol: Volume,
  dir: Inode,
  name: Uint8Array,
  folded: Uint8Array | null,
): { block: CachedBlock; at: number } | null {
  const root = readDirBlock(vol, dir, 0);
  const version = indexHashVersion(dir, root);
  hashName(vol.geometry, version, folded ?? name);
  const { hash } = nameHash;
  const path = probe(vol, dir, root, hash, version);
  for (;;) {
    const block = readDirBlock(vol, dir, leafOf(path));
    const at = findInBlock(vol, block, name, folded);
    if (at >= 0) return { block, at };
    const next = nextLeaf(vol, dir, path);
    if (next < 0 || (next & 1) === 0 || (next & ~1) >>> 0 !== hash) return null;
  }
}

/** Puts an entry behind the chosen one of the lowest frame (dx_insert_block). There must be room. */
export function insertIndexEntry(handle: Handle, frame: Frame, hash: number, lblk: number): void {
  const block = writeAccess(handle, frame.block);
  const { entriesAt } = frame;
  const count = entryCount(frame);
  const from = entriesAt + (frame.at + 1) * DX_ENTRY.SIZE;
  block.bytes.copyWithin(from + DX_ENTRY.SIZE, from, entriesAt + count * DX_ENTRY.SIZE);
  DX_ENTRY.hash.set(block.view, from, hash);
  DX_ENTRY.block.set(block.view, from, lblk);
  DX_COUNTLIMIT.count.set(block.view, entriesAt, count + 1);
}

/**
 * Makes room for one more entry in the lowest index block on the path: splits the full ones from the top down, or puts a
 * level under the root. Returns the path for `hash`, found again. Throws FsError ENOSPC when the index is full.
 */
export function makeIndexRoom(handle: Handle, vol: Volume, dir: Inode, path: Path, hash: number): Path {
  let { frames } = path;
  for (;;) {
    const level = frames.findLastIndex((frame) => entryCount(frame) < entryLimit(frame));
    if (level === frames.length - 1) return { ...path, frames };
    if (level >= 0) splitNode(handle, vol, dir, frames[level], frames[level + 1]);
    else if (frames.length <= maxLevels(vol)) addLevel(handle, vol, dir, frames[0]);
    else throw new FsError('ENOSPC', 'the directory index is full (the large_dir feature allows more)');
    frames = probe(vol, dir, frames[0].block, hash, path.hashVersion).frames;
  }
}

/** The root's entries move to a new node, the only child of the root. */
function addLevel(handle: Handle, vol: Volume, dir: Inode, root: Frame): void {
  const { lblk, block: node } = appendDirBlock(handle, vol, dir);
  const count = entryCount(root);
  setRecLen(node, 0, vol.geometry.blockSize, vol.geometry.blockSize);
  const { bytes } = root.block;
  node.bytes.set(bytes.slice(root.entriesAt, root.entriesAt + count * DX_ENTRY.SIZE), DX_NODE_ENTRIES);
  DX_COUNTLIMIT.limit.set(node.view, DX_NODE_ENTRIES, indexLimit(vol, DX_NODE_ENTRIES));
  DX_COUNTLIMIT.count.set(node.view, DX_NODE_ENTRIES, count);
  const block = writeAccess(handle, root.block);
  DX_COUNTLIMIT.count.set(block.view, root.entriesAt, 1);
  DX_ENTRY.block.set(block.view, root.entriesAt, lblk);
  const levels = DX_ROOT_INFO.indirect_levels.get(block.view, DX_ROOT_INFO_OFFSET);
  DX_ROOT_INFO.indirect_levels.set(block.view, DX_ROOT_INFO_OFFSET, levels + 1);
}

/** The upper half of a full node moves to a new one, which the node above points to as well. */
function splitNode(handle: Handle, vol: Volume, dir: Inode, above: Frame, full: Frame): void {
  const { lblk, block: node } = appendDirBlock(handle, vol, dir);
  const count = entryCount(full);
  const kept = count >>> 1;
  const hash = entryHash(full, kept);
  setRecLen(node, 0, vol.geometry.blockSize, vol.geometry.blockSize);
  node.bytes.set(
    full.block.bytes.slice(full.entriesAt + kept * DX_ENTRY.SIZE, full.entriesAt + count * DX_ENTRY.SIZE),
    DX_NODE_ENTRIES,
  );
  DX_COUNTLIMIT.limit.set(node.view, DX_NODE_ENTRIES, indexLimit(vol, DX_NODE_ENTRIES));
  DX_COUNTLIMIT.count.set(node.view, DX_NODE_ENTRIES, count - kept);
  const block = writeAccess(handle, full.block);
  DX_COUNTLIMIT.count.set(block.view, full.entriesAt, kept);
  insertIndexEntry(handle, above, hash, lblk);
}

/** True if the block starts like an index root: "." of 12 bytes and ".." over the rest. */
export function looksLikeIndexRoot(vol: Volume, block: CachedBlock): boolean {
  const { blockSize } = vol.geometry;
  return recLen(block.view, 0, blockSize) === 12 && recLen(block.view, 12, blockSize) === blockSize - 12;
}
