/**
 * One node of an extent tree, in the inode or in a block of its own: reading it, and judging whether it may be what it
 * claims (__ext4_ext_check). Blocks are judged once, when they are read from the device; the root at every look.
 */
import { crc32c } from '../codec/crc.js';
import type { ReadView, WriteView } from '../codec/view.js';
import { CorruptionError } from '../errors.js';
import type { BlockKind, CachedBlock } from '../jbd2/block-cache.js';
import type { Handle } from '../jbd2/handle.js';
import {
  EXT_INIT_MAX_LEN,
  EXT_MAX_BLOCKS,
  EXT_UNWRITTEN_MAX_LEN,
  EXT4_EXT_MAGIC,
  EXT4_MAX_EXTENT_DEPTH,
  EXTENT,
  EXTENT_HEADER,
  EXTENT_IDX,
  EXTENT_TAIL,
  extentCapacity,
} from './format/extent.js';
import { I_BLOCK_BYTES } from './format/inode.js';
import type { Inode } from './inode.js';
import type { Geometry, Volume } from './volume.js';

export const ROOT_CAPACITY = extentCapacity(I_BLOCK_BYTES);

/** A leaf entry in memory. Lengths and places in blocks. */
export interface Extent {
  lblk: number;
  count: number;
  pblk: number;
  unwritten: boolean;
}

export function maxExtentLength(unwritten: boolean): number {
  return unwritten ? EXT_UNWRITTEN_MAX_LEN : EXT_INIT_MAX_LEN;
}

const kinds = new WeakMap<Volume, BlockKind>();

/** Blocks of extent trees; `owner` is the inode's checksum seed. */
export function extentBlockKind(vol: Volume): BlockKind {
  let kind = kinds.get(vol);
  if (kind === undefined) {
    const { metadataCsum } = vol.geometry;
    kind = {
      name: 'extent block',
      inFastCommits: true,
      verify(block) {
        const place = `block ${block.nr}`;
        const finding = nodeFinding(vol.geometry, block.view, 0, extentCapacity(vol.geometry.blockSize));
        if (finding !== '') throw new CorruptionError('extent tree', place, finding);
        if (EXTENT_HEADER.eh_entries.get(block.view, 0) === 0)
          throw new CorruptionError('extent block', place, 'it is empty');
        if (!metadataCsum) return;
        const tail = tailOffset(block.view);
        if (crc32c(block.owner, block.bytes.subarray(0, tail)) !== EXTENT_TAIL.et_checksum.get(block.view, tail)) {
          throw new CorruptionError('extent block', place, 'its checksum does not match', 'EBADMSG');
        }
      },
      beforeCommit(block) {
        if (!metadataCsum) return;
        const tail = tailOffset(block.view);
        EXTENT_TAIL.et_checksum.set(block.view, tail, crc32c(block.owner, block.bytes.subarray(0, tail)));
      },
    };
    kinds.set(vol, kind);
  }
  return kind;
}

/** EXT4_EXTENT_TAIL_OFFSET */
function tailOffset(view: ReadView): number {
  return EXTENT_HEADER.SIZE + EXTENT.SIZE * EXTENT_HEADER.eh_max.get(view, 0);
}

/** What is wrong with a node; empty if nothing is. */
function nodeFinding(geometry: Geometry, view: ReadView, base: number, capacity: number): string {
  if (EXTENT_HEADER.eh_magic.get(view, base) !== EXT4_EXT_MAGIC) return 'the magic number is missing';
  const max = EXTENT_HEADER.eh_max.get(view, base);
  const entries = EXTENT_HEADER.eh_entries.get(view, base);
  const depth = EXTENT_HEADER.eh_depth.get(view, base);
  // The kernel always says how many fit; a node of fewer than two could not be split.
  if (max < ROOT_CAPACITY || max > capacity) return `eh_max is ${max}, there is room for ${capacity}`;
  if (entries > max) return `eh_entries is ${entries}, eh_max ${max}`;
  if (depth > EXT4_MAX_EXTENT_DEPTH) return `eh_depth is ${depth}`;
  if (depth > 0 && entries === 0) return 'an index node is empty';
  let free = 0;
  let lastPblk = -1;
  for (let i = 0; i < entries; i++) {
    const at = base + EXTENT_HEADER.SIZE + i * EXTENT.SIZE;
    const lblk = EXTENT.ee_block.get(view, at);
    if (lblk < free) return `entry ${i} for block ${lblk} is out of order or overlaps the one before it`;
    if (depth > 0) {
      const child = leafBlock(view, at);
      if (child <= geometry.superblockBlock || child >= geometry.blocksCount)
        return `entry ${i} leads to block ${child}`;
      free = lblk + 1;
      continue;
    }
    const length = extentLength(EXTENT.ee_len.get(view, at));
    const start = startBlock(view, at);
    if (length === 0) return `entry ${i} has no length`;
    if (lblk + length > EXT_MAX_BLOCKS) return `entry ${i} ends at block ${lblk + length}`;
    if (start <= geometry.superblockBlock || start + length > geometry.blocksCount) {
      return `entry ${i} is at blocks ${start}+${length}, outside the filesystem`;
    }
    if (breaksClusters(geometry, lblk, start, i > 0 ? free - 1 : -1, lastPblk)) {
      return `entry ${i} for block ${lblk} is at block ${start}, which its cluster does not allow`;
    }
    lastPblk = start + length - 1;
    free = lblk + length;
  }
  return '';
}

/**
 * Whether an extent breaks the rule of cluster-map.ts, by itself or with the one before it, whose last block is `lastLblk`
 * at `lastPblk` (-1: there is none).
 */
export function breaksClusters(
  { clusterRatio }: Geometry,
  lblk: number,
  pblk: number,
  lastLblk: number,
  lastPblk: number,
): boolean {
  if (clusterRatio === 1) return false;
  if (lblk % clusterRatio !== pblk % clusterRatio) return true;
  const together = (a: number, b: number) => Math.floor(a / clusterRatio) === Math.floor(b / clusterRatio);
  return lastLblk >= 0 && together(lblk, lastLblk) !== together(pblk, lastPblk);
}

function extentLength(len: number): number {
  return len <= EXT_INIT_MAX_LEN ? len : len - EXT_INIT_MAX_LEN;
}

function startBlock(view: ReadView, at: number): number {
  return EXTENT.ee_start_lo.get(view, at) + EXTENT.ee_start_hi.get(view, at) * 0x1_0000_0000;
}

function leafBlock(view: ReadView, at: number): number {
  return EXTENT_IDX.ei_leaf_lo.get(view, at) + EXTENT_IDX.ei_leaf_hi.get(view, at) * 0x1_0000_0000;
}

export class ExtentNode {
  readonly block: CachedBlock;
  /** Byte offset of the header in {@link block}. */
  readonly base: number;
  readonly isRoot: boolean;

  private constructor(block: CachedBlock, base: number, isRoot: boolean) {
    this.block = block;
    this.base = base;
    this.isRoot = isRoot;
  }

  /** The root in `inode`, judged. Throws CorruptionError. */
  static root(inode: Inode): ExtentNode {
    const finding = nodeFinding(inode.vol.geometry, inode.block.view, inode.iBlockBase, ROOT_CAPACITY);
    if (finding !== '') throw new CorruptionError('extent tree', `inode ${inode.ino}`, finding);
    return new ExtentNode(inode.block, inode.iBlockBase, true);
  }

  static inBlock(block: CachedBlock): ExtentNode {
    return new ExtentNode(block, 0, false);
  }

  /**
   * The child that entry `i` leads to: one level deeper, and inside the range its parent gives it, which also keeps a
   * crafted tree from leading in circles. Throws CorruptionError.
   */
  child(inode: Inode, seed: number, i: number, endLblk: number): ExtentNode {
    const block = inode.vol.read(this.childBlock(i), extentBlockKind(inode.vol), seed);
    const child = new ExtentNode(block, 0, false);
    const last = child.entries - 1;
    const end = child.depth === 0 ? child.endLblk(last) : child.lblk(last) + 1;
    if (child.depth !== this.depth - 1 || child.lblk(0) < this.lblk(i) || end > endLblk) {
      throw new CorruptionError(
        'extent tree',
        `inode ${inode.ino}, block ${block.nr}`,
        `depth ${child.depth}, blocks ${child.lblk(0)} to ${end}, do not fit below depth ${this.depth}, ${this.lblk(i)} to ${endLblk}`,
      );
    }
    return child;
  }

  get entries(): number {
    return EXTENT_HEADER.eh_entries.get(this.block.view, this.base);
  }
  get max(): number {
    return EXTENT_HEADER.eh_max.get(this.block.view, this.base);
  }
  get depth(): number {
    return EXTENT_HEADER.eh_depth.get(this.block.view, this.base);
  }
  get full(): boolean {
    return this.entries >= this.max;
  }
  /** Byte offset of entry `i` in the block. */
  at(i: number): number {
    return this.base + EXTENT_HEADER.SIZE + i * EXTENT.SIZE;
  }
  /** First logical block of an entry, in leaves and index nodes alike. */
  lblk(i: number): number {
    return EXTENT.ee_block.get(this.block.view, this.at(i));
  }
  count(i: number): number {
    return extentLength(EXTENT.ee_len.get(this.block.view, this.at(i)));
  }
  endLblk(i: number): number {
    return this.lblk(i) + this.count(i);
  }
  pblk(i: number): number {
    return startBlock(this.block.view, this.at(i));
  }
  unwritten(i: number): boolean {
    return EXTENT.ee_len.get(this.block.view, this.at(i)) > EXT_INIT_MAX_LEN;
  }
  childBlock(i: number): number {
    return leafBlock(this.block.view, this.at(i));
  }
  extent(i: number): Extent {
    return { lblk: this.lblk(i), count: this.count(i), pblk: this.pblk(i), unwritten: this.unwritten(i) };
  }

  /** Index of the last entry at or before `lblk`; -1 if all are behind it. */
  search(lblk: number): number {
    let low = 0;
    let high = this.entries;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.lblk(middle) <= lblk) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  edit(handle: Handle, inode: Inode): WritableExtentNode {
    if (this.isRoot) {
      const { view, bytes } = inode.edit(handle).block;
      return new WritableExtentNode(view, bytes, this.base);
    }
    const block = handle.getWriteAccess(this.block);
    handle.dirtyMetadata(block);
    return new WritableExtentNode(block.view, block.bytes, 0);
  }
}

/** The setters; the {@link ExtentNode} over the same memory shows their effect at once. */
export class WritableExtentNode {
  private readonly view: WriteView;
  private readonly bytes: Uint8Array;
  private readonly base: number;

  constructor(view: WriteView, bytes: Uint8Array, base: number) {
    this.view = view;
    this.bytes = bytes;
    this.base = base;
  }

  setHeader(entries: number, max: number, depth: number): void {
    EXTENT_HEADER.eh_magic.set(this.view, this.base, EXT4_EXT_MAGIC);
    EXTENT_HEADER.eh_entries.set(this.view, this.base, entries);
    EXTENT_HEADER.eh_max.set(this.view, this.base, max);
    EXTENT_HEADER.eh_depth.set(this.view, this.base, depth);
  }

  setEntries(entries: number): void {
    EXTENT_HEADER.eh_entries.set(this.view, this.base, entries);
  }

  setLblk(i: number, lblk: number): void {
    EXTENT.ee_block.set(this.view, this.at(i), lblk);
  }

  setExtent(i: number, { lblk, count, pblk, unwritten }: Extent): void {
    const at = this.at(i);
    EXTENT.ee_block.set(this.view, at, lblk);
    EXTENT.ee_len.set(this.view, at, unwritten ? count + EXT_INIT_MAX_LEN : count);
    EXTENT.ee_start_hi.set(this.view, at, Math.floor(pblk / 0x1_0000_0000));
    EXTENT.ee_start_lo.set(this.view, at, pblk >>> 0);
  }

  setChild(i: number, lblk: number, child: number): void {
    const at = this.at(i);
    EXTENT_IDX.ei_block.set(this.view, at, lblk);
    EXTENT_IDX.ei_leaf_lo.set(this.view, at, child >>> 0);
    EXTENT_IDX.ei_leaf_hi.set(this.view, at, Math.floor(child / 0x1_0000_0000));
    EXTENT_IDX.ei_unused.set(this.view, at, 0);
  }

  /** Entries from `from` on of `entries` move so that they begin at `to`; the header is the caller's to set. */
  moveEntries(from: number, to: number, entries: number): void {
    if (from < entries) this.bytes.copyWithin(this.at(to), this.at(from), this.at(entries));
  }

  /** Copies entries [from, to) of `source` to the start of this node. */
  copyEntries(source: ExtentNode, from: number, to: number): void {
    const bytes = source.block.bytes as Uint8Array;
    this.bytes.set(bytes.subarray(source.at(from), source.at(to)), this.at(0));
  }

  private at(i: number): number {
    return this.base + EXTENT_HEADER.SIZE + i * EXTENT.SIZE;
  }
}
