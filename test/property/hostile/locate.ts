/** Lists the structures of a sound image that belong to the filesystem; those of its log are listed in locate-log.ts. */
import { ownView, type WriteView } from '../../../src/codec/view.js';
import { testBit } from '../../../src/ext4/bitmap.js';
import { isBlockUninit } from '../../../src/ext4/block-bitmap.js';
import { INCOMPAT } from '../../../src/ext4/features.js';
import { EXTENT, EXTENT_HEADER, EXTENT_IDX } from '../../../src/ext4/format/extent.js';
import { GROUP_DESC } from '../../../src/ext4/format/group-desc.js';
import { EXT4_VERITY_FL, I_BLOCK_BYTES, I_BLOCK_OFFSET, INODE } from '../../../src/ext4/format/inode.js';
import { MMP } from '../../../src/ext4/format/mmp.js';
import { SUPERBLOCK, SUPERBLOCK_OFFSET } from '../../../src/ext4/format/superblock.js';
import { frozenVolume } from '../../../src/ext4/frozen-volume.js';
import { descriptorBlock, GroupDescriptor } from '../../../src/ext4/group.js';
import { Inode } from '../../../src/ext4/inode.js';
import { hasUninitInodes, readInodeBitmap } from '../../../src/ext4/inode-bitmap.js';
import { hasBlockMap, walkInodeBlocks } from '../../../src/ext4/inode-blocks.js';
import { readGeometry } from '../../../src/ext4/open.js';
import { chainedOrphans } from '../../../src/ext4/orphan-list.js';
import type { Volume } from '../../../src/ext4/volume.js';
import { locateAttributes } from './locate-attributes.js';
import { locateDirectoryBlock, locateInlineEntries } from './locate-directory.js';
import { locateLog } from './locate-log.js';
import { type GroupPlaces, Seals } from './seals.js';
import { type SoundImage, soundDevice } from './sound-image.js';
import { type AddStructure, fieldsOf, type Kind, type Located, type Seal, type Structure } from './structures.js';

/** Its hundreds of indirect blocks are reserved, not read. */
const RESIZE_INO = 7;

/** Structures, grouped by kind. */
export function locate(image: SoundImage): Located {
  const locator = new Locator(image);
  locator.run();
  return locator.result();
}

class Locator {
  private readonly view: WriteView;
  private readonly vol: Volume;
  private readonly seals: Seals;
  private readonly groups: readonly GroupPlaces[];
  private readonly found = new Map<Kind, Structure[]>();
  private readonly blocks: number[] = [];
  private readonly inodes: number[] = [];

  constructor(image: SoundImage) {
    this.view = ownView(image.bytes);
    const device = soundDevice(image);
    const geometry = readGeometry(device);
    this.vol = frozenVolume(device, geometry);
    this.groups = Array.from({ length: geometry.groupCount }, (_, group) => {
      const { blockBitmap, inodeBitmap, inodeTable } = GroupDescriptor.get(this.vol, group);
      const slot = group % geometry.descsPerBlock;
      const descriptor = descriptorBlock(this.vol, group) * geometry.blockSize + slot * geometry.descSize;
      return { descriptor, blockBitmap, inodeBitmap, inodeTable };
    });
    this.seals = new Seals(geometry, this.groups);
  }

  result(): Located {
    const { firstDataBlock, blocksCount, inodesCount } = this.vol.geometry;
    const [{ blockBitmap, inodeBitmap, inodeTable }] = this.groups;
    const edges = [
      firstDataBlock,
      firstDataBlock + 1,
      blockBitmap,
      inodeBitmap,
      inodeTable,
      blocksCount - 1,
      blocksCount,
    ];
    return {
      structures: this.found,
      blocks: [...new Set([...edges, ...this.blocks])],
      inodes: [...new Set([1, 2, 7, 8, 11, inodesCount, inodesCount + 1, ...this.inodes])],
    };
  }

  run(): void {
    const orphans = chainedOrphans(this.vol);
    this.add('superblock', 'the superblock', SUPERBLOCK_OFFSET, SUPERBLOCK.SIZE, 0, this.seals.superblock, SUPERBLOCK);
    const lastOrphan = SUPERBLOCK_OFFSET + SUPERBLOCK.s_last_orphan.offset;
    this.add('orphan list', 's_last_orphan', lastOrphan, 4, 0, this.seals.superblock);
    for (const ino of orphans) {
      const next = this.seals.inodeAt(ino) + INODE.i_dtime.offset;
      this.add('orphan list', `i_dtime of orphan ${ino}`, next, 4, ino, this.seals.inode(ino));
    }
    this.groups.forEach((places, group) => {
      this.group(places, group);
    });
    const { incompat, mmpBlock, blockSize, hasJournal } = this.vol.geometry;
    if ((incompat & INCOMPAT.mmp) !== 0) {
      const at = mmpBlock * blockSize;
      this.add('mmp block', 'the MMP block', at, MMP.SIZE, 0, this.seals.mmpBlock(mmpBlock), MMP, MMP.mmp_pad2.offset);
    }
    if (!hasJournal) return;
    for (const structure of locateLog(this.vol, this.seals)) this.put(structure);
  }

  private put(structure: Structure): void {
    const list = this.found.get(structure.kind);
    if (list === undefined) this.found.set(structure.kind, [structure]);
    else list.push(structure);
  }

  private readonly add: AddStructure = (kind, what, at, length, ino, seal, table, limit) => {
    const fields = table === undefined ? [] : fieldsOf(table, at, { limit });
    this.put({ kind, what, at, length, fields, ino, seal });
  };

  private group(places: GroupPlaces, group: number): void {
    const { blockSize, inodesPerGroup, descSize } = this.vol.geometry;
    const { seals } = this;
    const desc = GroupDescriptor.get(this.vol, group);
    const what = `group ${group}`;
    this.add('group descriptor', what, places.descriptor, descSize, 0, seals.descriptor(group), GROUP_DESC, descSize);
    if (!isBlockUninit(this.vol, desc)) {
      const at = places.blockBitmap * blockSize;
      const bytes = Math.ceil(this.vol.geometry.groupBlocks(group) / 8);
      this.add('block bitmap', what, at, bytes, 0, seals.bitmap(group, 'block'));
    }
    if (hasUninitInodes(this.vol, desc)) return;
    const bitmapAt = places.inodeBitmap * blockSize;
    this.add('inode bitmap', what, bitmapAt, inodesPerGroup / 8, 0, seals.bitmap(group, 'inode'));
    const { view } = readInodeBitmap(this.vol, desc);
    for (let i = 0; i < inodesPerGroup; i++) if (testBit(view, i)) this.inode(group * inodesPerGroup + i + 1);
  }

  private inode(ino: number): void {
    const inode = Inode.load(this.vol, ino);
    if (inode.mode === 0) return;
    const { journalInum, orphanFileInum, inodeSize, quotaInums } = this.vol.geometry;
    const quotaFiles = [...quotaInums.values()];
    const at = this.seals.inodeAt(ino);
    const seal = this.seals.inode(ino);
    const kind: Kind = ino === journalInum ? 'journal inode' : 'inode';
    this.inodes.push(ino);
    this.add(kind, `inode ${ino}`, at, inodeSize, ino, seal, INODE, inodeSize);
    this.blocks.push(...locateAttributes(inode, this.view, this.seals, this.add));
    if (inode.hasInlineData) {
      if (inode.isDirectory) locateInlineEntries(inode, at, this.view, this.seals, this.add);
      return;
    }
    if (!hasBlockMap(inode)) {
      if (inode.isSymlink) this.add('symlink', `target in inode ${ino}`, at + I_BLOCK_OFFSET, I_BLOCK_BYTES, ino, seal);
      return;
    }
    if (inode.usesExtents) this.extentNode(inode, at + I_BLOCK_OFFSET, I_BLOCK_BYTES, `root of inode ${ino}`, seal);
    else this.add('block map', `i_block of inode ${ino}`, at + I_BLOCK_OFFSET, I_BLOCK_BYTES, ino, seal);
    walkInodeBlocks(inode, {
      data: (lblk, count, pblk) => {
        for (let i = 0; i < count; i++) {
          if (inode.hasFlag(EXT4_VERITY_FL) && (lblk + i) * this.vol.geometry.blockSize >= inode.sizeBytes)
            this.block('verity metadata', pblk + i, ino, () => {});
          if (inode.isDirectory) locateDirectoryBlock(inode, pblk + i, this.view, this.seals, this.add);
          if (quotaFiles.includes(ino)) this.quotaBlock(ino, lblk + i, pblk + i);
          if (ino === orphanFileInum) this.orphanBlock(ino, pblk + i);
          if (inode.isSymlink) this.block('symlink', pblk + i, ino, () => {});
        }
        if (inode.isDirectory || ino === journalInum) this.blocks.push(pblk);
      },
      tree: (pblk) => {
        this.blocks.push(pblk);
        if (!inode.usesExtents && ino !== RESIZE_INO) this.block('indirect block', pblk, ino, () => {});
      },
    });
  }

  private block(kind: Kind, nr: number, ino: number, seal: Seal): void {
    const { blockSize } = this.vol.geometry;
    this.add(kind, `block ${nr} of inode ${ino}`, nr * blockSize, blockSize, ino, seal);
  }

  private extentNode(inode: Inode, at: number, length: number, what: string, seal: Seal): void {
    const { view } = this;
    const { blockSize } = this.vol.geometry;
    const { ino } = inode;
    this.add('extent header', `header in the ${what}`, at, EXTENT_HEADER.SIZE, ino, seal, EXTENT_HEADER);
    const isLeaf = EXTENT_HEADER.eh_depth.get(view, at) === 0;
    const entries = EXTENT_HEADER.eh_entries.get(view, at);
    for (let i = 0; i < entries; i++) {
      const entry = at + EXTENT_HEADER.SIZE + i * EXTENT.SIZE;
      const place = `entry ${i} in the ${what}`;
      if (isLeaf) {
        this.add('extent', place, entry, EXTENT.SIZE, ino, seal, EXTENT);
        continue;
      }
      this.add('extent index', place, entry, EXTENT_IDX.SIZE, ino, seal, EXTENT_IDX);
      const child = EXTENT_IDX.ei_leaf_lo.get(view, entry);
      const childSeal = this.seals.extentBlock(child, ino);
      this.block('extent block', child, ino, childSeal);
      this.extentNode(inode, child * blockSize, blockSize, `extent block ${child} of inode ${ino}`, childSeal);
    }
    if (isLeaf && length !== I_BLOCK_BYTES) this.blocks.push(EXTENT.ee_start_lo.get(view, at + EXTENT_HEADER.SIZE));
  }

  private quotaBlock(ino: number, lblk: number, pblk: number): void {
    const at = pblk * this.vol.geometry.blockSize;
    // Header and information first, then a tree of blocks of 1024 bytes; the structures are at the start of each.
    this.add('quota file', `start of block ${lblk} of quota file ${ino}`, at, 128, ino, () => {});
    this.block('quota file', pblk, ino, () => {});
  }

  private orphanBlock(ino: number, nr: number): void {
    const { blockSize } = this.vol.geometry;
    const seal = this.seals.orphanBlock(nr, ino);
    const at = nr * blockSize;
    // A block is mostly empty: what is in use, the words behind it, and the tail are what is worth changing.
    this.add('orphan file block', `first entries of block ${nr}`, at, 32, ino, seal);
    this.add('orphan file block', `tail of block ${nr}`, at + blockSize - 8, 8, ino, seal);
    this.block('orphan file block', nr, ino, seal);
  }
}
