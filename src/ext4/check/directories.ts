/** Every directory from the root on: entries, their order by hash, "..", and how often each inode is named. */
import type { CachedBlock } from '../../jbd2/block-cache.js';
import { isIndexed } from '../dir.js';
import { entrySpace, recLen } from '../dir-block.js';
import { nameHash } from '../dir-hash.js';
import { entryBlock, entryCount, entryHash, type Frame, frameOf, indexHashVersion } from '../dir-htree.js';
import { inlineEntries, inlineParent } from '../dir-inline.js';
import { hashNameIn } from '../dir-name.js';
import { blockCount, readDirBlock } from '../dir-read.js';
import { isEncrypted } from '../encrypted-names.js';
import { RO_COMPAT } from '../features.js';
import { DIR_ENTRY, FILE_TYPE } from '../format/dir-entry.js';
import { DX_ROOT_INFO, DX_ROOT_INFO_OFFSET } from '../format/htree.js';
import { EXT4_ROOT_INO, S_IFMT } from '../format/inode.js';
import { type Ino, Inode } from '../inode.js';
import type { Volume } from '../volume.js';
import type { Findings } from './findings.js';
import type { InodeFacts } from './inodes.js';

const HASH_END = 0x1_0000_0000;

export class DirectoryCheck {
  directories = 0;
  private readonly vol: Volume;
  private readonly findings: Findings;
  private readonly used: ReadonlyMap<Ino, InodeFacts>;
  private readonly orphans: ReadonlySet<Ino>;
  /** How often an inode is named, and how many directories name it as "..". */
  private readonly names = new Map<Ino, number>();
  private readonly children = new Map<Ino, number>();
  /** Directories still to be looked at, with the one that names them. */
  private readonly queue: { ino: Ino; parent: Ino }[] = [];
  private readonly seen = new Set<Ino>();

  constructor(vol: Volume, findings: Findings, used: ReadonlyMap<Ino, InodeFacts>, orphans: ReadonlySet<Ino>) {
    this.vol = vol;
    this.findings = findings;
    this.used = used;
    this.orphans = orphans;
  }

  run(): void {
    this.queue.push({ ino: EXT4_ROOT_INO, parent: EXT4_ROOT_INO });
    this.seen.add(EXT4_ROOT_INO);
    for (let next = this.queue.pop(); next !== undefined; next = this.queue.pop()) {
      const { ino, parent } = next;
      this.directories++;
      this.findings.collect(() => this.checkDirectory(Inode.load(this.vol, ino), parent));
    }
    this.compareLinks();
  }

  private checkDirectory(dir: Inode, parent: Ino): void {
    const place = `inode ${dir.ino}`;
    if (!dir.isDirectory) {
      this.findings.add('directory', place, 'it is none');
      return;
    }
    if (dir.hasInlineData) {
      const up = inlineParent(dir);
      if (up !== parent) this.findings.add('directory', place, `".." is inode ${up}, it is in ${parent}`);
      for (const { at } of inlineEntries(dir)) this.checkEntryAt(dir, dir.block, at, 0, HASH_END, -1);
      return;
    }
    const blocks = blockCount(this.vol, dir);
    const indexed = isIndexed(this.vol, dir);
    const leaves = indexed ? this.indexLeaves(dir, blocks) : null;
    for (let lblk = 0; lblk < blocks; lblk++) {
      const block = readDirBlock(this.vol, dir, lblk);
      const named = lblk === 0 ? this.checkDots(dir, block, parent) : 0;
      if (leaves === null) this.checkEntries(dir, block, named, 0, HASH_END, -1);
      else {
        const range = leaves.get(lblk);
        if (range !== undefined) this.checkEntries(dir, block, 0, range.from, range.to, leaves.version);
      }
    }
  }

  /** "." and ".." come first. Where they end: in a linear directory ".." may be longer than its name needs. */
  private checkDots(dir: Inode, block: CachedBlock, parent: Ino): number {
    const { view, bytes } = block;
    const isDots = (at: number, dots: number) =>
      DIR_ENTRY.name_len.get(view, at) === dots && bytes[at + 8] === 0x2e && (dots === 1 || bytes[at + 9] === 0x2e);
    const place = `inode ${dir.ino}`;
    if (!isDots(0, 1) || recLen(view, 0, this.vol.geometry.blockSize) !== 12 || !isDots(12, 2)) {
      this.findings.add('directory', place, 'it does not begin with "." and ".."');
      return 0;
    }
    const self = DIR_ENTRY.inode.get(view, 0);
    const up = DIR_ENTRY.inode.get(view, 12);
    if (self !== dir.ino) this.findings.add('directory', place, `"." is inode ${self}`);
    if (up !== parent) this.findings.add('directory', place, `".." is inode ${up}, it is in ${parent}`);
    return 12 + recLen(view, 12, this.vol.geometry.blockSize);
  }

  private checkEntries(dir: Inode, block: CachedBlock, from: number, low: number, high: number, version: number): void {
    const { view } = block;
    const { blockSize } = this.vol.geometry;
    const end = entrySpace(this.vol);
    for (let at = from; at < end; at += recLen(view, at, blockSize)) {
      if (DIR_ENTRY.inode.get(view, at) !== 0) this.checkEntryAt(dir, block, at, low, high, version);
    }
  }

  private checkEntryAt(
    dir: Inode,
    { view, bytes }: CachedBlock,
    at: number,
    low: number,
    high: number,
    version: number,
  ): void {
    const length = DIR_ENTRY.name_len.get(view, at);
    const name = bytes.subarray(at + DIR_ENTRY.SIZE, at + DIR_ENTRY.SIZE + length) as Uint8Array;
    if (version >= 0) {
      hashNameIn(dir, version, name);
      if (nameHash.hash < low || nameHash.hash >= high) this.aboutName(dir, name, 'its hash is not of this block');
    }
    this.checkEntry(dir, name, DIR_ENTRY.inode.get(view, at), DIR_ENTRY.file_type.get(view, at));
  }

  private checkEntry(dir: Inode, name: Uint8Array, ino: Ino, fileType: number): void {
    const anyByte = isEncrypted(dir);
    if (name.length === 0 || (!anyByte && (name.includes(0) || name.includes(0x2f))))
      this.aboutName(dir, name, 'not a name');
    const facts = this.used.get(ino);
    if (facts === undefined) {
      this.aboutName(dir, name, `inode ${ino} is not in use`);
      return;
    }
    if (fileType !== 0 && fileType !== FILE_TYPE[facts.mode & S_IFMT]) {
      this.aboutName(dir, name, `inode ${ino} has another type than ${fileType}`);
    }
    if (facts.isValue) this.aboutName(dir, name, `inode ${ino} holds the value of an attribute`);
    this.names.set(ino, (this.names.get(ino) ?? 0) + 1);
    if (!facts.isDirectory) return;
    this.children.set(dir.ino, (this.children.get(dir.ino) ?? 0) + 1);
    if (this.seen.has(ino)) this.aboutName(dir, name, `directory ${ino} has another name already`);
    else this.queue.push({ ino, parent: dir.ino });
    this.seen.add(ino);
  }

  private aboutName(dir: Inode, name: Uint8Array, finding: string): void {
    this.findings.add(
      'directory entry',
      `inode ${dir.ino} name ${JSON.stringify(Buffer.from(name).toString())}`,
      finding,
    );
  }

  /** The leaves of an index, each with the hashes its names may have. Every block is a leaf or an index block, once. */
  private indexLeaves(dir: Inode, blocks: number): Leaves {
    const root = readDirBlock(this.vol, dir, 0);
    const leaves = new Leaves(indexHashVersion(dir, root));
    const levels = DX_ROOT_INFO.indirect_levels.get(root.view, DX_ROOT_INFO_OFFSET);
    const met = new Set<number>([0]);
    const walk = (frame: Frame, level: number, low: number, high: number) => {
      const count = entryCount(frame);
      const hashAt = (i: number) => (i === 0 ? low : entryHash(frame, i));
      for (let i = 0; i < count; i++) {
        const lblk = entryBlock(frame, i);
        const from = hashAt(i);
        // The low bit of the next hash says that names with it may be in both blocks.
        const next = i + 1 < count ? hashAt(i + 1) : high;
        const to = (next & 1) !== 0 ? next + 1 : next;
        if (met.has(lblk) || lblk >= blocks || next < from) {
          this.findings.add('directory index', `inode ${dir.ino}`, `entry ${i} for block ${lblk} is out of order`);
          continue;
        }
        met.add(lblk);
        if (level === 0) leaves.set(lblk, from - (from & 1), to);
        else walk(frameOf(this.vol, dir, lblk, readDirBlock(this.vol, dir, lblk)), level - 1, from, next);
      }
    };
    walk(frameOf(this.vol, dir, 0, root), levels, 0, HASH_END);
    if (met.size !== blocks) {
      this.findings.add('directory index', `inode ${dir.ino}`, `${blocks} blocks, the index knows ${met.size}`);
    }
    return leaves;
  }

  private compareLinks(): void {
    const many = (this.vol.geometry.roCompat & RO_COMPAT.dir_nlink) !== 0;
    for (const [ino, { links, isDirectory, isValue }] of this.used) {
      if (isValue || (ino !== EXT4_ROOT_INO && this.vol.geometry.isOwnInode(ino))) continue;
      const names = this.names.get(ino) ?? 0;
      const place = `inode ${ino}`;
      if (names === 0 && links > 0 && ino !== EXT4_ROOT_INO) {
        this.findings.add('inode', place, 'it has links, but no name');
        continue;
      }
      if (names === 0 && this.orphans.has(ino)) continue;
      const found = isDirectory ? 2 + (this.children.get(ino) ?? 0) : names;
      if (links === found || (isDirectory && many && links === 1)) continue;
      this.findings.add('inode', place, `${links} links, found ${found}`);
    }
  }
}

class Leaves {
  readonly version: number;
  private readonly ranges = new Map<number, { from: number; to: number }>();

  constructor(version: number) {
    this.version = version;
  }

  set(lblk: number, from: number, to: number): void {
    this.ranges.set(lblk, { from, to });
  }

  get(lblk: number): { from: number; to: number } | undefined {
    return this.ranges.get(lblk);
  }
}
