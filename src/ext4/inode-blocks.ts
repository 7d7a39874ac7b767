/**
 * Every block of an inode in logical order, the blocks of its tree included: for those who enumerate (the journal's
 * inode, the owner of a block) rather than look one block up. Nothing is cached or changed; numbers are checked, loops
 * are bounded by the depth of the tree and the size of a block.
 */
import { crc32c } from '../codec/crc.js';
import { type ReadBytes, type ReadView, readView } from '../codec/view.js';
import { CorruptionError } from '../errors.js';
import { breaksClusters } from './extent-node.js';
import { EXT4_EA_INODE_FL, EXT4_INLINE_DATA_FL, I_BLOCK_BYTES } from './format/inode.js';
import type { Inode } from './inode.js';

export interface BlockVisitor {
  /** Logical blocks [lblk, lblk + count) at pblk on. */
  data(lblk: number, count: number, pblk: number, unwritten: boolean): void;
  /** A block of the extent tree or of the indirect map. */
  tree(pblk: number): void;
}

const EXTENT_MAGIC = 0xf30a;
const EXTENT_ENTRY_BYTES = 12;
const EXTENT_MAX_DEPTH = 5;
/** ee_len above this is the length of an unwritten extent plus this. */
const EXT_INIT_MAX_LEN = 0x8000;
const DIRECT_BLOCKS = 12;

/** False for what keeps something else in i_block: device numbers, a short symlink's target, inline data. */
export function hasBlockMap(inode: Inode): boolean {
  if (inode.hasFlag(EXT4_INLINE_DATA_FL)) return false;
  if (inode.isSymlink) return inode.sizeBytes >= I_BLOCK_BYTES && !inode.hasFlag(EXT4_EA_INODE_FL);
  return inode.isDirectory || inode.isRegular;
}

/** Throws CorruptionError for a tree that contradicts itself or leaves the filesystem. */
export function walkInodeBlocks(inode: Inode, visitor: BlockVisitor): void {
  const root = inode.iBlock.slice();
  const seen = new Set<number>();
  const once: BlockVisitor = {
    data: visitor.data,
    // A tree block met twice would let a small image describe an endless walk.
    tree(pblk) {
      if (seen.has(pblk)) throw bad(inode, 'block map', `block ${pblk} is in the tree twice`);
      seen.add(pblk);
      visitor.tree(pblk);
    },
  };
  if (inode.usesExtents) walkExtents(inode, root, readView(root), once);
  else walkIndirect(inode, readView(root), once);
}

function bad(inode: Inode, structure: string, finding: string, code?: 'EBADMSG'): CorruptionError {
  return new CorruptionError(structure, `inode ${inode.ino}`, finding, code);
}

function checkRange(inode: Inode, pblk: number, count: number): void {
  const { superblockBlock, blocksCount } = inode.vol.geometry;
  if (pblk <= superblockBlock || pblk + count > blocksCount) {
    throw bad(inode, 'block map', `blocks ${pblk}+${count} lie outside the filesystem`);
  }
}

function readBlock(inode: Inode, pblk: number): { bytes: Uint8Array; view: ReadView } {
  checkRange(inode, pblk, 1);
  const { device, geometry } = inode.vol;
  const bytes = new Uint8Array(geometry.blockSize);
  device.read(pblk * geometry.blockSize, bytes);
  return { bytes, view: readView(bytes) };
}

function walkExtents(inode: Inode, bytes: ReadBytes, view: ReadView, visitor: BlockVisitor, expectedDepth = -1): void {
  const entries = view.getUint16(2, true);
  const max = view.getUint16(4, true);
  const depth = view.getUint16(6, true);
  const room = Math.floor((bytes.length - EXTENT_ENTRY_BYTES) / EXTENT_ENTRY_BYTES);
  if (view.getUint16(0, true) !== EXTENT_MAGIC) throw bad(inode, 'extent header', 'the magic number is missing');
  if (max > room || entries > max) throw bad(inode, 'extent header', `${entries} of ${max} entries, room for ${room}`);
  if (expectedDepth < 0 ? depth > EXTENT_MAX_DEPTH : depth !== expectedDepth) {
    throw bad(inode, 'extent header', `its depth is ${depth}`);
  }
  if (expectedDepth >= 0 && inode.vol.geometry.metadataCsum) {
    const tail = EXTENT_ENTRY_BYTES + max * EXTENT_ENTRY_BYTES;
    if (tail + 4 > bytes.length || crc32c(inode.seed, bytes.subarray(0, tail)) !== view.getUint32(tail, true)) {
      throw bad(inode, 'extent block', 'its checksum does not match', 'EBADMSG');
    }
  }
  let nextLblk = 0;
  let lastPblk = -1;
  for (let i = 0; i < entries; i++) {
    const at = EXTENT_ENTRY_BYTES * (i + 1);
    const lblk = view.getUint32(at, true);
    if (lblk < nextLblk) throw bad(inode, 'extent', `logical block ${lblk} comes after ${nextLblk - 1}`);
    if (depth === 0) {
      const length = view.getUint16(at + 4, true);
      const unwritten = length > EXT_INIT_MAX_LEN;
      const count = unwritten ? length - EXT_INIT_MAX_LEN : length;
      const pblk = view.getUint32(at + 8, true) + view.getUint16(at + 6, true) * 0x1_0000_0000;
      if (count === 0) throw bad(inode, 'extent', `the extent at logical block ${lblk} is empty`);
      checkRange(inode, pblk, count);
      if (breaksClusters(inode.vol.geometry, lblk, pblk, i > 0 ? nextLblk - 1 : -1, lastPblk)) {
        throw bad(inode, 'extent', `block ${lblk} is at block ${pblk}, which its cluster does not allow`);
      }
      lastPblk = pblk + count - 1;
      visitor.data(lblk, count, pblk, unwritten);
      nextLblk = lblk + count;
    } else {
      const pblk = view.getUint32(at + 4, true) + view.getUint16(at + 8, true) * 0x1_0000_0000;
      visitor.tree(pblk);
      const child = readBlock(inode, pblk);
      walkExtents(inode, child.bytes, child.view, visitor, depth - 1);
      nextLblk = lblk + 1;
    }
  }
}

function walkIndirect(inode: Inode, root: ReadView, visitor: BlockVisitor): void {
  const perBlock = inode.vol.geometry.blockSize / 4;
  let lblk = 0;
  const walk = (pblk: number, level: number) => {
    if (pblk === 0) {
      lblk += perBlock ** level;
      return;
    }
    if (level === 0) {
      checkRange(inode, pblk, 1);
      visitor.data(lblk++, 1, pblk, false);
      return;
    }
    visitor.tree(pblk);
    const { view } = readBlock(inode, pblk);
    for (let i = 0; i < perBlock; i++) walk(view.getUint32(i * 4, true), level - 1);
  };
  for (let i = 0; i < I_BLOCK_BYTES / 4; i++) walk(root.getUint32(i * 4, true), Math.max(0, i - DIRECT_BLOCKS + 1));
}
