/** Every inode in use: that it is one, that its blocks are its own, and that its counts fit them. */
import { testBit } from '../bitmap.js';
import { EXT4_EA_INODE_FL, I_BLOCK_BYTES } from '../format/inode.js';
import { GroupDescriptor } from '../group.js';
import { type Ino, Inode } from '../inode.js';
import { hasUninitInodes, readInodeBitmap } from '../inode-bitmap.js';
import { hasBlockMap, walkInodeBlocks } from '../inode-blocks.js';
import type { Volume } from '../volume.js';
import { inlineDataPlace, xattrBlockReferences } from '../xattr.js';
import { AttributeValueCheck } from './attribute-values.js';
import type { BlockMap } from './block-map.js';
import type { Findings } from './findings.js';

/** Inodes below the first ordinary one that mean something (ext4.h): bad blocks, resize, and those not made by default. */
const RESIZE_INO = 7;
/** Place of the double indirect block in i_block. */
const DOUBLE_INDIRECT = 13;

export interface InodeFacts {
  readonly mode: number;
  readonly links: number;
  readonly isDirectory: boolean;
  /** It holds an attribute's value, and has no name. */
  readonly isValue: boolean;
}

/** Looks at all inodes; returns those in use, by number. */
export class InodeCheck {
  readonly used = new Map<Ino, InodeFacts>();
  freeInodes = 0;
  private readonly vol: Volume;
  private readonly blocks: BlockMap;
  private readonly findings: Findings;
  private readonly orphans: ReadonlySet<Ino>;
  private readonly values: AttributeValueCheck;
  /** Inodes met that share an attribute block. */
  private readonly xattrUsers = new Map<number, number>();

  constructor(vol: Volume, blocks: BlockMap, findings: Findings, orphans: ReadonlySet<Ino>) {
    this.vol = vol;
    this.blocks = blocks;
    this.findings = findings;
    this.orphans = orphans;
    this.values = new AttributeValueCheck(vol, findings);
  }

  run(): void {
    for (let group = 0; group < this.vol.geometry.groupCount; group++) {
      this.findings.collect(() => this.checkGroup(GroupDescriptor.get(this.vol, group)));
    }
    for (const [block, users] of this.xattrUsers) {
      const references = this.findings.collect(() => xattrBlockReferences(this.vol, block));
      if (references !== undefined && references !== users) {
        this.findings.add('attribute block', `block ${block}`, `${references} references, ${users} inodes use it`);
      }
    }
    this.values.compare(this.valueInodes);
  }

  private get valueInodes(): Ino[] {
    return [...this.used].filter(([, { isValue }]) => isValue).map(([ino]) => ino);
  }

  private checkGroup(desc: GroupDescriptor): void {
    const { inodesPerGroup, firstInode } = this.vol.geometry;
    const place = `group ${desc.group}`;
    let used = 0;
    let directories = 0;
    if (!hasUninitInodes(this.vol, desc)) {
      const { view } = readInodeBitmap(this.vol, desc);
      const written = inodesPerGroup - this.unusedInodes(desc);
      for (let index = 0; index < inodesPerGroup; index++) {
        if (!testBit(view, index)) continue;
        used++;
        const ino = desc.group * inodesPerGroup + index + 1;
        if (index >= written) {
          this.findings.add('inode bitmap', place, `inode ${ino} is in use behind bg_itable_unused`);
          continue;
        }
        const facts = this.findings.collect(() => this.checkInode(ino, ino >= firstInode || ino === 2));
        if (facts === undefined || facts === null) continue;
        this.used.set(ino, facts);
        if (facts.isDirectory) directories++;
      }
    }
    this.freeInodes += inodesPerGroup - used;
    const compare = (what: string, stored: number, found: number) => {
      if (stored !== found) this.findings.add('group descriptor', place, `${stored} ${what}, found ${found}`);
    };
    compare('free inodes', desc.freeInodes, inodesPerGroup - used);
    compare('directories', desc.usedDirs, directories);
  }

  /** Inodes at the end of the table that were never written. */
  private unusedInodes(desc: GroupDescriptor): number {
    const { metadataCsum, gdtCsum } = this.vol.geometry;
    return metadataCsum || gdtCsum ? desc.itableUnused : 0;
  }

  /** Null for a reserved inode that is not in use. */
  private checkInode(ino: Ino, ordinary: boolean): InodeFacts | null {
    const inode = Inode.load(this.vol, ino);
    const place = `inode ${ino}`;
    if (inode.mode === 0) {
      if (ordinary) this.findings.add('inode', place, 'marked in use, but it is empty');
      return null;
    }
    const links = inode.linksCount;
    if (links === 0 && !this.orphans.has(ino)) this.findings.add('inode', place, 'no links, and not an orphan');
    if (links > 0 && inode.dtime !== 0 && !this.orphans.has(ino)) {
      this.findings.add('inode', place, 'it has a time of deletion');
    }
    const valueBlocks = this.values.noteOwner(inode);
    const blocks = ino === RESIZE_INO ? this.claimReserve(inode) : this.checkBlocks(inode) + valueBlocks;
    if (blocks !== null && inode.sectors !== blocks * (this.vol.geometry.blockSize / 512)) {
      this.findings.add('inode', place, `i_blocks is ${inode.sectors} sectors, found ${blocks} blocks`);
    }
    const isValue = inode.hasFlag(EXT4_EA_INODE_FL);
    return { mode: inode.mode, links, isDirectory: inode.isDirectory, isValue };
  }

  /** The resize inode maps the descriptors' reserve, which is claimed already, through one block of its own. */
  private claimReserve(inode: Inode): null {
    const top = inode.block.view.getUint32(inode.iBlockBase + 4 * DOUBLE_INDIRECT, true);
    if (top !== 0) this.blocks.claim(top, 1, () => `inode ${inode.ino}`);
    return null;
  }

  /** system.data is as long as the size says: nothing of it lies behind the end. */
  private checkInline(inode: Inode): void {
    const { size } = inlineDataPlace(inode);
    const wanted = Math.max(0, inode.sizeBytes - I_BLOCK_BYTES);
    if (size !== wanted && !this.orphans.has(inode.ino))
      this.findings.add(
        'inline data',
        `inode ${inode.ino}`,
        `i_size is ${inode.sizeBytes}, system.data has ${size} bytes`,
      );
  }

  /** Blocks of the inode, those of its tree and attributes included. */
  private checkBlocks(inode: Inode): number {
    const who = () => `inode ${inode.ino}`;
    const { geometry } = this.vol;
    const { blockSize, clusterRatio } = geometry;
    let count = 0;
    if (inode.fileAcl !== 0) {
      count += clusterRatio;
      const users = this.xattrUsers.get(inode.fileAcl) ?? 0;
      if (users === 0) this.blocks.claim(inode.fileAcl, 1, who);
      this.xattrUsers.set(inode.fileAcl, users + 1);
    }
    if (inode.hasInlineData) this.checkInline(inode);
    if (!hasBlockMap(inode)) return count;
    let end = 0;
    /** First logical block of the clusters behind those that were counted. */
    let nextCluster = 0;
    walkInodeBlocks(inode, {
      data: (lblk, length, pblk, unwritten) => {
        if (!unwritten) end = lblk + length;
        // The extent before this one may have counted the cluster that this one begins in.
        const from = Math.max(geometry.clusterStart(lblk), nextCluster);
        nextCluster = geometry.clusterStart(lblk + length - 1) + clusterRatio;
        if (from >= nextCluster) return;
        count += nextCluster - from;
        const skipped = Math.max(0, from - lblk);
        this.blocks.claim(pblk + skipped, length - skipped, who);
      },
      tree: (pblk) => {
        count += clusterRatio;
        this.blocks.claim(pblk, 1, who);
      },
    });
    // Blocks behind the end are legal if they are unwritten (fallocate), or wait for a truncate to be finished.
    if (end > Math.ceil(inode.sizeBytes / blockSize) && !this.orphans.has(inode.ino)) {
      this.findings.add(
        'inode',
        `inode ${inode.ino}`,
        `its size is ${inode.sizeBytes}, but block ${end - 1} is written`,
      );
    }
    return count;
  }
}
