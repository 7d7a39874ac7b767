/** Fast commits written by hand, on an image with an empty log that asks for recovery: no root, and as adversarial as wanted. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MemoryDevice } from '../../src/block/memory-device.js';
import { crc32c } from '../../src/codec/crc.js';
import { ownView } from '../../src/codec/view.js';
import { mapBlock } from '../../src/ext4/block-map.js';
import { INCOMPAT } from '../../src/ext4/features.js';
import { EXT_INIT_MAX_LEN } from '../../src/ext4/format/extent.js';
import { EXT4_FC_TAG } from '../../src/ext4/format/fast-commit.js';
import {
  EXT4_EXTENTS_FL,
  EXT4_INLINE_DATA_FL,
  I_BLOCK_BYTES,
  I_BLOCK_OFFSET,
  INODE,
  S_IFREG,
} from '../../src/ext4/format/inode.js';
import { SUPERBLOCK, SUPERBLOCK_OFFSET } from '../../src/ext4/format/superblock.js';
import { EXT4_XATTR_MAGIC, XATTR_IBODY_HEADER_BYTES } from '../../src/ext4/format/xattr.js';
import { frozenVolume } from '../../src/ext4/frozen-volume.js';
import { Inode } from '../../src/ext4/inode.js';
import { openLogSource } from '../../src/ext4/journal-inode.js';
import { lookup } from '../../src/ext4/namei.js';
import { readGeometry } from '../../src/ext4/open.js';
import { stampSuperblock } from '../../src/ext4/superblock-io.js';
import { encodeAttributes } from '../../src/ext4/xattr-entries.js';
import { JBD2_FEATURE_INCOMPAT, JOURNAL_SUPERBLOCK } from '../../src/jbd2/format.js';
import { makeImageFile, run, withScratch } from './mke2fs.js';

export const BLOCK_SIZE = 1024;
/** Bytes of a record of an inode: 128 and i_extra_isize. */
export const INODE_BYTES = 160;
const DIRECTORIES = ['dir', 'dir/inner', 'empty'];
const FILES = ['a', 'b', 'dir/c'];
const text = (name: string) => new TextEncoder().encode(name);

/** tag and value */
export type Record = readonly [number, Uint8Array];

function words(...values: number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  const view = ownView(bytes);
  for (const [i, value] of values.entries()) view.setUint32(i * 4, value >>> 0, true);
  return bytes;
}

function joined(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

export const head = (tid: number, features = 0): Record => [EXT4_FC_TAG.HEAD, words(features, tid)];
export const addRange = (ino: number, lblk: number, count: number, pblk: number, unwritten = false): Record => {
  const value = words(ino, lblk, 0, pblk);
  ownView(value).setUint16(8, unwritten ? count + EXT_INIT_MAX_LEN : count, true);
  return [EXT4_FC_TAG.ADD_RANGE, value];
};
export const delRange = (ino: number, lblk: number, count: number): Record => [
  EXT4_FC_TAG.DEL_RANGE,
  words(ino, lblk, count),
];
const named = (tag: number, parent: number, ino: number, name: string): Record => [
  tag,
  joined(words(parent, ino), text(name)),
];
export const creat = (parent: number, ino: number, name: string) => named(EXT4_FC_TAG.CREAT, parent, ino, name);
export const link = (parent: number, ino: number, name: string) => named(EXT4_FC_TAG.LINK, parent, ino, name);
export const unlink = (parent: number, ino: number, name: string) => named(EXT4_FC_TAG.UNLINK, parent, ino, name);

export interface InodeFields {
  readonly mode?: number;
  readonly links?: number;
  readonly size?: number;
  readonly flags?: number;
  readonly generation?: number;
  readonly fileAcl?: number;
  readonly extraIsize?: number;
  readonly uid?: number;
  /** Content in the inode: recorded with all that is behind the fixed fields. */
  readonly inline?: Uint8Array;
}

/** Bytes of an inode. */
const WHOLE_INODE_BYTES = 256;
const SYSTEM_DATA = { index: 7, name: text('data'), external: null };

/** An inode as the kernel would record it. */
export function inode(ino: number, fields: InodeFields = {}): Record {
  const { inline, extraIsize = 32 } = fields;
  const raw = new Uint8Array(inline === undefined ? INODE_BYTES : WHOLE_INODE_BYTES);
  const view = ownView(raw);
  const { mode = S_IFREG | 0o644, links = 1, generation = 77 } = fields;
  const { size = inline?.length ?? 0, flags = inline === undefined ? EXT4_EXTENTS_FL : EXT4_INLINE_DATA_FL } = fields;
  if (inline !== undefined) {
    raw.set(inline.subarray(0, I_BLOCK_BYTES), I_BLOCK_OFFSET);
    const header = 128 + extraIsize;
    const from = header + XATTR_IBODY_HEADER_BYTES;
    view.setUint32(header, EXT4_XATTR_MAGIC, true);
    const attributes = [{ ...SYSTEM_DATA, value: inline.slice(I_BLOCK_BYTES) }];
    encodeAttributes(view, raw, { from, end: raw.length, valueBase: from }, attributes, false);
  }
  INODE.i_mode.set(view, 0, mode);
  INODE.i_links_count.set(view, 0, links);
  INODE.i_size_lo.set(view, 0, size);
  INODE.i_flags.set(view, 0, flags);
  INODE.i_generation.set(view, 0, generation);
  INODE.i_file_acl_lo.set(view, 0, fields.fileAcl ?? 0);
  INODE.i_extra_isize.set(view, 0, extraIsize);
  INODE.i_uid.set(view, 0, fields.uid ?? 0);
  INODE.i_ctime.set(view, 0, 1_800_000_000);
  INODE.i_mtime.set(view, 0, 1_800_000_000);
  return [EXT4_FC_TAG.INODE, joined(words(ino), raw)];
}

/** An image of 8 MiB with a few files and directories, `tid` next. */
export class FastCommitImage {
  readonly bytes: Uint8Array;
  readonly tid = 7;
  /** Inode numbers by path. */
  readonly ino = new Map<string, number>();
  readonly generation = new Map<string, number>();
  /** First block of data by path. */
  readonly firstBlock = new Map<string, number>();
  /** One of the blocks of the log. */
  logBlock = 0;
  private nextBlock = 0;

  /** From the bytes of another, before anything was committed to it, or afresh, with more arguments for mke2fs. */
  constructor(blank?: Uint8Array, mkfs: readonly string[] = []) {
    if (blank !== undefined) {
      this.bytes = blank;
      this.look();
      return;
    }
    this.bytes = withScratch((scratch) => {
      const content = join(scratch, 'content');
      for (const path of ['', ...DIRECTORIES]) mkdirSync(join(content, path));
      for (const path of FILES) writeFileSync(join(content, path), Buffer.alloc(8 * BLOCK_SIZE, path));
      const path = join(scratch, 'image');
      makeImageFile(path, 8, ['-b', '1024', '-O', 'fast_commit', '-J', 'size=2', '-N', '128', ...mkfs, '-d', content]);
      // mke2fs does not count what it copies in.
      run('e2fsck', ['-fy', path]);
      return new Uint8Array(readFileSync(path));
    });
    this.look();
    const device = new MemoryDevice(this.bytes);
    const source = openLogSource(device, readGeometry(device));
    const view = ownView(source.superblock.bytes);
    const incompat = JBD2_FEATURE_INCOMPAT.FAST_COMMIT | source.superblock.incompat;
    JOURNAL_SUPERBLOCK.s_feature_incompat.set(view, 0, incompat);
    source.superblock.setTail(this.tid, source.superblock.first);
    device.write(source.blockMap[0] * BLOCK_SIZE, source.superblock.bytes);
    const superblock = this.bytes.subarray(SUPERBLOCK_OFFSET, SUPERBLOCK_OFFSET + SUPERBLOCK.SIZE);
    const { s_feature_incompat } = SUPERBLOCK;
    const fields = ownView(superblock);
    s_feature_incompat.set(fields, 0, s_feature_incompat.get(fields, 0) | INCOMPAT.needs_recovery);
    stampSuperblock(readGeometry(new MemoryDevice(this.bytes)), fields, superblock);
  }

  private look(): void {
    const device = new MemoryDevice(this.bytes);
    this.logBlock = openLogSource(device, readGeometry(device)).blockMap[100];
    const volume = frozenVolume(new MemoryDevice(this.bytes), readGeometry(new MemoryDevice(this.bytes)));
    for (const path of [...DIRECTORIES, ...FILES]) {
      const parent = path.includes('/') ? this.inoOf(path.slice(0, path.indexOf('/'))) : 2;
      const ino = lookup(volume, parent, text(path.slice(path.indexOf('/') + 1)));
      this.ino.set(path, ino);
      this.generation.set(path, Inode.load(volume, ino).generation);
      const found = Inode.load(volume, ino);
      if (!found.hasInlineData) this.firstBlock.set(path, mapBlock(found, 0).pblk);
    }
  }

  inoOf(path: string): number {
    const ino = this.ino.get(path);
    if (ino === undefined) throw new Error(`there is no ${path}`);
    return ino;
  }

  /** What the record of an inode that is there says if nothing of it changed. */
  same(path: string, fields: InodeFields = {}): Record {
    return inode(this.inoOf(path), { size: 8 * BLOCK_SIZE, generation: this.generation.get(path), ...fields });
  }

  /** Writes one fast commit behind those before it; the first begins with a head. `damage` changes its blocks. */
  commit(records: readonly Record[], damage: (blocks: Uint8Array) => void = () => {}, tid = this.tid): this {
    const device = new MemoryDevice(this.bytes);
    const { superblock, blockMap } = openLogSource(device, readGeometry(device));
    const all = this.nextBlock === 0 && records[0]?.[0] !== EXT4_FC_TAG.HEAD ? [head(tid), ...records] : records;
    const blocks = encodeFastCommit(all, tid);
    damage(blocks);
    for (let at = 0; at < blocks.length; at += BLOCK_SIZE) {
      const logBlock = superblock.end + 1 + this.nextBlock++;
      if (logBlock >= superblock.maxLen) throw new Error('the area is full');
      device.write(blockMap[logBlock] * BLOCK_SIZE, blocks.subarray(at, at + BLOCK_SIZE));
    }
    return this;
  }
}

/** Whole blocks: records, PAD where the next does not fit, TAIL over the rest of the last. */
export function encodeFastCommit(records: readonly Record[], tid: number): Uint8Array {
  const blocks: Uint8Array[] = [];
  let block = new Uint8Array(BLOCK_SIZE);
  let at = 0;
  let crc = 0;
  const put = (tag: number, value: Uint8Array) => {
    const view = ownView(block);
    view.setUint16(at, tag, true);
    view.setUint16(at + 2, value.length, true);
    block.set(value, at + 4);
    at += 4 + value.length;
  };
  const makeRoom = (length: number) => {
    if (at + 4 + length + 4 <= BLOCK_SIZE) return;
    put(EXT4_FC_TAG.PAD, new Uint8Array(BLOCK_SIZE - at - 4));
    crc = crc32c(crc, block);
    blocks.push(block);
    block = new Uint8Array(BLOCK_SIZE);
    at = 0;
  };
  for (const [tag, value] of records) {
    makeRoom(value.length);
    put(tag, value);
  }
  makeRoom(8);
  const tail = at;
  put(EXT4_FC_TAG.TAIL, new Uint8Array(BLOCK_SIZE - at - 4));
  const view = ownView(block);
  view.setUint32(tail + 4, tid, true);
  view.setUint32(tail + 8, crc32c(crc, block.subarray(0, tail + 8)), true);
  blocks.push(block);
  return joined(...blocks);
}
