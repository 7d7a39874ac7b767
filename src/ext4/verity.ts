/**
 * Files whose content is checked against a hash tree whenever it is read (fs/verity, fs/ext4/verity.c). Tree and
 * descriptor lie behind the end of the file. Whether the root of the tree is the right one only a signature could tell.
 */
import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { readView } from '../codec/view.js';
import { CorruptionError, FsError } from '../errors.js';
import { mapBlock } from './block-map.js';
import { readData } from './file-data.js';
import { FSVERITY_DESCRIPTOR, FSVERITY_HASHES } from './format/verity.js';
import type { Inode } from './inode.js';

/** The metadata begins at the next multiple of this behind the data. */
const METADATA_ALIGNMENT = 65_536;
/** Hash blocks found right, which need not be checked again; per file. */
const KEPT_BLOCKS = 4096;

/** The tree of one file. */
class MerkleTree {
  private readonly algorithm: string;
  private readonly digestBytes: number;
  private readonly blockBytes: number;
  /** The salt, filled up to whole input blocks of the algorithm. */
  private readonly salt: Buffer;
  private readonly root: Buffer;
  private readonly treeAt: number;
  /** First hash block of each level, level 0 holding the hashes of the data. */
  private readonly levelStart: number[] = [];
  private readonly good = new LRUCache<number, Buffer>({ max: KEPT_BLOCKS });

  constructor(inode: Inode) {
    const bad = (finding: string) => new CorruptionError('verity descriptor', `inode ${inode.ino}`, finding);
    this.treeAt = Math.ceil(inode.sizeBytes / METADATA_ALIGNMENT) * METADATA_ALIGNMENT;
    const bytes = readDescriptor(inode, this.treeAt);
    const view = readView(bytes);
    const D = FSVERITY_DESCRIPTOR;
    if (D.version.get(view, 0) !== 1) throw bad(`version ${D.version.get(view, 0)}`);
    const hash = FSVERITY_HASHES.get(D.hash_algorithm.get(view, 0));
    if (hash === undefined) throw bad(`hash algorithm ${D.hash_algorithm.get(view, 0)}`);
    const logBlock = D.log_blocksize.get(view, 0);
    if (logBlock < 10 || logBlock > 16) throw bad(`log_blocksize ${logBlock}`);
    const saltBytes = D.salt_size.get(view, 0);
    if (saltBytes > D.salt.size) throw bad(`salt_size ${saltBytes}`);
    if (D.data_size.get(view, 0) !== inode.sizeBytes) throw bad(`data_size ${D.data_size.get(view, 0)}`);
    this.algorithm = hash.name;
    this.digestBytes = hash.digestBytes;
    this.blockBytes = 1 << logBlock;
    this.salt = Buffer.alloc(Math.ceil(saltBytes / hash.inputBytes) * hash.inputBytes);
    Buffer.from(D.salt.of(bytes, 0).slice(0, saltBytes)).copy(this.salt);
    this.root = Buffer.from(D.root_hash.of(bytes, 0).slice(0, hash.digestBytes));
    const levels: number[] = [];
    for (let blocks = Math.ceil(inode.sizeBytes / this.blockBytes); blocks > 1; ) {
      blocks = Math.ceil(blocks / this.hashesPerBlock);
      levels.push(blocks);
    }
    let start = 0;
    for (let level = levels.length - 1; level >= 0; level--) {
      this.levelStart[level] = start;
      start += levels[level];
    }
  }

  private get hashesPerBlock(): number {
    return this.blockBytes / this.digestBytes;
  }

  private digest(block: Uint8Array): Buffer {
    return createHash(this.algorithm).update(this.salt).update(block).digest();
  }

  /** The hash that block `index` of `level` must have; level -1 is the data. */
  private expected(inode: Inode, level: number, index: number): Buffer {
    if (level + 1 === this.levelStart.length) return this.root;
    const { hashesPerBlock, digestBytes } = this;
    const block = this.hashBlock(inode, level + 1, Math.floor(index / hashesPerBlock));
    const at = (index % hashesPerBlock) * digestBytes;
    return block.subarray(at, at + digestBytes);
  }

  private hashBlock(inode: Inode, level: number, index: number): Buffer {
    const number = this.levelStart[level] + index;
    const known = this.good.get(number);
    if (known !== undefined) return known;
    const block = Buffer.alloc(this.blockBytes);
    readData(inode, this.treeAt + number * this.blockBytes, block);
    this.check(inode, level, index, block);
    this.good.set(number, block);
    return block;
  }

  private check(inode: Inode, level: number, index: number, block: Uint8Array): void {
    if (this.digest(block).equals(this.expected(inode, level, index))) return;
    const what = level < 0 ? `block ${index}` : `hash block ${index} of level ${level}`;
    throw new FsError('EIO', `inode ${inode.ino}: ${what} does not match the hash tree: the file is damaged (verity)`);
  }

  /** Fills `into` with the data from `posBytes` on, all of it checked. Throws FsError EIO. */
  read(inode: Inode, posBytes: number, into: Uint8Array): void {
    const { blockBytes } = this;
    const block = new Uint8Array(blockBytes);
    for (let done = 0; done < into.length; ) {
      const pos = posBytes + done;
      const index = Math.floor(pos / blockBytes);
      const inBlock = pos - index * blockBytes;
      const length = Math.min(into.length - done, blockBytes - inBlock);
      readData(inode, index * blockBytes, block);
      const end = inode.sizeBytes - index * blockBytes;
      if (end < blockBytes) block.fill(0, Math.max(0, end));
      if (end > 0) this.check(inode, -1, index, block);
      into.set(block.subarray(inBlock, inBlock + length), done);
      done += length;
    }
  }
}

/** ext4_get_verity_descriptor_location: the size is in the last four bytes of the last block of the file. */
function readDescriptor(inode: Inode, from: number): Uint8Array {
  const { blockSize } = inode.vol.geometry;
  const bad = (finding: string) => new CorruptionError('verity descriptor', `inode ${inode.ino}`, finding);
  let end = Math.floor(from / blockSize);
  for (;;) {
    const mapping = mapBlock(inode, end);
    if (mapping.pblk === 0) break;
    end += mapping.count;
  }
  const sizeAt = end * blockSize - 4;
  if (sizeAt < from) throw bad('there is nothing behind the data');
  const word = new Uint8Array(4);
  readData(inode, sizeAt, word);
  const size = readView(word).getUint32(0, true);
  const at = Math.floor((sizeAt - size) / blockSize) * blockSize;
  if (size < FSVERITY_DESCRIPTOR.SIZE || at < from) throw bad(`its size is ${size}`);
  const bytes = new Uint8Array(FSVERITY_DESCRIPTOR.SIZE);
  readData(inode, at, bytes);
  return bytes;
}

/** Of open volumes, the trees in use: a few blocks each. */
const trees = new WeakMap<object, LRUCache<number, MerkleTree>>();
const KEPT_TREES = 64;

/** Reads as `readData`, and throws FsError EIO for what does not match; CorruptionError for a tree that cannot be one. */
export function readVerified(inode: Inode, posBytes: number, into: Uint8Array): void {
  let known = trees.get(inode.vol);
  if (known === undefined) {
    known = new LRUCache({ max: KEPT_TREES });
    trees.set(inode.vol, known);
  }
  let tree = known.get(inode.ino);
  if (tree === undefined) {
    tree = new MerkleTree(inode);
    known.set(inode.ino, tree);
  }
  tree.read(inode, posBytes, into);
}
