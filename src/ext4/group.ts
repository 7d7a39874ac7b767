/**
 * Group descriptors, read lazily: a mount touches none of them. Free counts and bitmap places live here; the bitmap's
 * checksum is kept in the descriptor, and stamped together with the descriptor's own when the transaction is sealed.
 */
import { crc16, crc32c, crc32cLe32 } from '../codec/crc.js';
import type { Field } from '../codec/layout.js';
import { CorruptionError } from '../errors.js';
import type { BlockKind, CachedBlock, WritableBlock } from '../jbd2/block-cache.js';
import type { Handle } from '../jbd2/handle.js';
import { INCOMPAT } from './features.js';
import { GROUP_DESC } from './format/group-desc.js';
import { SUPERBLOCK } from './format/superblock.js';
import type { Volume } from './volume.js';

const SLOT_VERIFIED = 1;
const SLOT_CHANGED = 2;

/** ext4_group_desc_csum: crc32c low half with metadata_csum, crc16 with uninit_bg, none otherwise. */
function descriptorChecksum(vol: Volume, block: CachedBlock, base: number, group: number): number {
  const { descSize, metadataCsum, gdtCsum, csumSeed, uuid } = vol.geometry;
  const csumOffset = GROUP_DESC.bg_checksum.offset;
  const before = block.bytes.subarray(base, base + csumOffset);
  const after = block.bytes.subarray(base + csumOffset + 2, base + descSize);
  if (metadataCsum) {
    let crc = crc32cLe32(csumSeed, group);
    crc = crc32c(crc, before);
    crc = crc32c(crc, new Uint8Array(2));
    return crc32c(crc, after) & 0xffff;
  }
  if (!gdtCsum) return 0;
  const le = new Uint8Array([group, group >>> 8, group >>> 16, group >>> 24]);
  let crc = crc16(0xffff, uuid);
  crc = crc16(crc, le);
  crc = crc16(crc, before);
  return crc16(crc, after);
}

const kinds = new WeakMap<Volume, BlockKind>();

/** A block of descriptors; its `owner` is the first group in it. */
function descriptorKind(vol: Volume): BlockKind {
  let kind = kinds.get(vol);
  if (kind === undefined) {
    const { metadataCsum, gdtCsum, descSize } = vol.geometry;
    kind = {
      name: 'group descriptor block',
      inFastCommits: true,
      beforeCommit(block: WritableBlock) {
        if (block.slots === null || !(metadataCsum || gdtCsum)) return;
        for (let slot = 0; slot < block.slots.length; slot++) {
          if ((block.slots[slot] & SLOT_CHANGED) === 0) continue;
          const base = slot * descSize;
          stampBitmapChecksums(vol, block, base, block.owner + slot);
          GROUP_DESC.bg_checksum.set(block.view, base, descriptorChecksum(vol, block, base, block.owner + slot));
          block.slots[slot] = SLOT_VERIFIED;
        }
      },
    };
    kinds.set(vol, kind);
  }
  return kind;
}

/** Descriptors of dirty bitmaps get the bitmaps' checksums: the bitmap blocks are in memory, pinned by the transaction. */
function stampBitmapChecksums(vol: Volume, block: WritableBlock, base: number, group: number): void {
  const { metadataCsum, descSize, csumSeed } = vol.geometry;
  if (!metadataCsum) return;
  const desc = new GroupDescriptor(vol, group, block, base);
  const blockBitmap = vol.cache.peek(desc.blockBitmap);
  if (blockBitmap?.dirty) {
    const crc = crc32c(csumSeed, blockBitmap.bytes.subarray(0, vol.geometry.clustersPerGroup / 8));
    GROUP_DESC.bg_block_bitmap_csum_lo.set(block.view, base, crc & 0xffff);
    if (descSize >= 64) GROUP_DESC.bg_block_bitmap_csum_hi.set(block.view, base, crc >>> 16);
  }
  const inodeBitmap = vol.cache.peek(desc.inodeBitmap);
  if (inodeBitmap?.dirty) {
    const crc = crc32c(csumSeed, inodeBitmap.bytes.subarray(0, vol.geometry.inodesPerGroup / 8));
    GROUP_DESC.bg_inode_bitmap_csum_lo.set(block.view, base, crc & 0xffff);
    if (descSize >= 64) GROUP_DESC.bg_inode_bitmap_csum_hi.set(block.view, base, crc >>> 16);
  }
}

/** descriptor_loc: where the block of descriptors for this group is. */
export function descriptorBlock(vol: Volume, group: number): number {
  const { descsPerBlock, incompat } = vol.geometry;
  const index = Math.floor(group / descsPerBlock);
  if ((incompat & INCOMPAT.meta_bg) === 0) return vol.geometry.superblockBlock + 1 + index;
  const firstMetaBg = SUPERBLOCK.s_first_meta_bg.get(vol.superblock().view, vol.geometry.superblockOffset);
  if (index < firstMetaBg) return vol.geometry.superblockBlock + 1 + index;
  const metaGroup = index * descsPerBlock;
  if (metaGroup === 0) return vol.geometry.superblockBlock + 1;
  return vol.geometry.groupFirstBlock(metaGroup) + (vol.geometry.groupHasSuper(metaGroup) ? 1 : 0);
}

export class GroupDescriptor {
  readonly vol: Volume;
  readonly group: number;
  readonly block: CachedBlock;
  readonly base: number;
  private readonly wide: boolean;

  constructor(vol: Volume, group: number, block: CachedBlock, base: number) {
    this.vol = vol;
    this.group = group;
    this.block = block;
    this.base = base;
    this.wide = vol.geometry.descSize >= 64;
  }

  /** Reads and checks the descriptor. Throws CorruptionError. */
  static get(vol: Volume, group: number): GroupDescriptor {
    const { descsPerBlock, descSize, groupCount } = vol.geometry;
    if (group < 0 || group >= groupCount) {
      throw new CorruptionError('group number', `group ${group}`, `the filesystem has ${groupCount} groups`);
    }
    const slot = group % descsPerBlock;
    const block = vol.read(descriptorBlock(vol, group), descriptorKind(vol), group - slot);
    if (block.slots === null) block.slots = new Uint8Array(descsPerBlock);
    const desc = new GroupDescriptor(vol, group, block, slot * descSize);
    if (block.slots[slot] === 0) {
      desc.check();
      block.slots[slot] = SLOT_VERIFIED;
    }
    return desc;
  }

  get blockBitmap(): number {
    return this.pair(GROUP_DESC.bg_block_bitmap_lo, GROUP_DESC.bg_block_bitmap_hi, 0x1_0000_0000);
  }
  get inodeBitmap(): number {
    return this.pair(GROUP_DESC.bg_inode_bitmap_lo, GROUP_DESC.bg_inode_bitmap_hi, 0x1_0000_0000);
  }
  get inodeTable(): number {
    return this.pair(GROUP_DESC.bg_inode_table_lo, GROUP_DESC.bg_inode_table_hi, 0x1_0000_0000);
  }
  /** bg_free_blocks_count: clusters. */
  get freeClusters(): number {
    return this.pair(GROUP_DESC.bg_free_blocks_count_lo, GROUP_DESC.bg_free_blocks_count_hi, 0x10000);
  }
  get freeInodes(): number {
    return this.pair(GROUP_DESC.bg_free_inodes_count_lo, GROUP_DESC.bg_free_inodes_count_hi, 0x10000);
  }
  get usedDirs(): number {
    return this.pair(GROUP_DESC.bg_used_dirs_count_lo, GROUP_DESC.bg_used_dirs_count_hi, 0x10000);
  }
  get itableUnused(): number {
    return this.pair(GROUP_DESC.bg_itable_unused_lo, GROUP_DESC.bg_itable_unused_hi, 0x10000);
  }
  get flags(): number {
    return GROUP_DESC.bg_flags.get(this.block.view, this.base);
  }
  get blockBitmapCsum(): number {
    return this.pair(GROUP_DESC.bg_block_bitmap_csum_lo, GROUP_DESC.bg_block_bitmap_csum_hi, 0x10000);
  }
  get inodeBitmapCsum(): number {
    return this.pair(GROUP_DESC.bg_inode_bitmap_csum_lo, GROUP_DESC.bg_inode_bitmap_csum_hi, 0x10000);
  }
  /** Mask of the stored bitmap checksums: 16 bits in small descriptors. */
  get bitmapCsumMask(): number {
    return this.wide ? 0xffffffff : 0xffff;
  }

  edit(handle: Handle): WritableGroupDescriptor {
    const writable = handle.getWriteAccess(this.block);
    handle.dirtyMetadata(writable);
    if (writable.slots === null) writable.slots = new Uint8Array(this.vol.geometry.descsPerBlock);
    writable.slots[(this.base / this.vol.geometry.descSize) | 0] |= SLOT_VERIFIED | SLOT_CHANGED;
    return new WritableGroupDescriptor(this.vol, this.group, writable, this.base);
  }

  private check(): void {
    const { geometry } = this.vol;
    const place = `group ${this.group}`;
    if (geometry.metadataCsum || geometry.gdtCsum) {
      const sum = descriptorChecksum(this.vol, this.block, this.base, this.group);
      if (sum !== GROUP_DESC.bg_checksum.get(this.block.view, this.base)) {
        throw new CorruptionError('group descriptor', place, 'its checksum does not match', 'EBADMSG');
      }
    }
    // Behind the superblock and the descriptors.
    const first = geometry.superblockBlock + geometry.gdtBlocks;
    const inside = (block: number, count: number) => block > first && block + count <= geometry.blocksCount;
    if (!inside(this.blockBitmap, 1))
      throw new CorruptionError('group descriptor', place, `block bitmap at ${this.blockBitmap}`);
    if (!inside(this.inodeBitmap, 1))
      throw new CorruptionError('group descriptor', place, `inode bitmap at ${this.inodeBitmap}`);
    if (!inside(this.inodeTable, geometry.inodeTableBlocks)) {
      throw new CorruptionError('group descriptor', place, `inode table at ${this.inodeTable}`);
    }
    const { blockBitmap, inodeBitmap, inodeTable } = this;
    const inTable = (block: number) => block >= inodeTable && block < inodeTable + geometry.inodeTableBlocks;
    if (blockBitmap === inodeBitmap || inTable(blockBitmap) || inTable(inodeBitmap)) {
      throw new CorruptionError('group descriptor', place, 'its bitmaps and its inode table overlap');
    }
    if (this.freeClusters > geometry.clustersPerGroup || this.freeInodes > geometry.inodesPerGroup) {
      throw new CorruptionError('group descriptor', place, 'free counts exceed the group');
    }
    // The count is of use, and kept, only with checksums.
    const counted = geometry.metadataCsum || geometry.gdtCsum;
    if (this.usedDirs > geometry.inodesPerGroup || (counted && this.itableUnused > geometry.inodesPerGroup)) {
      throw new CorruptionError('group descriptor', place, 'counts of inodes exceed the group');
    }
  }

  private pair(lo: Field, hi: Field, unit: number): number {
    const low = lo.get(this.block.view, this.base);
    return this.wide ? low + hi.get(this.block.view, this.base) * unit : low;
  }
}

export class WritableGroupDescriptor extends GroupDescriptor {
  declare readonly block: WritableBlock;

  setFreeClusters(count: number): void {
    this.setCount(GROUP_DESC.bg_free_blocks_count_lo, GROUP_DESC.bg_free_blocks_count_hi, count);
  }
  setFreeInodes(count: number): void {
    this.setCount(GROUP_DESC.bg_free_inodes_count_lo, GROUP_DESC.bg_free_inodes_count_hi, count);
  }
  setUsedDirs(count: number): void {
    this.setCount(GROUP_DESC.bg_used_dirs_count_lo, GROUP_DESC.bg_used_dirs_count_hi, count);
  }
  setItableUnused(count: number): void {
    this.setCount(GROUP_DESC.bg_itable_unused_lo, GROUP_DESC.bg_itable_unused_hi, count);
  }
  setFlags(flags: number): void {
    GROUP_DESC.bg_flags.set(this.block.view, this.base, flags);
  }

  private setCount(lo: Field, hi: Field, count: number): void {
    if (count < 0)
      throw new CorruptionError('group descriptor', `group ${this.group}`, `a count would become ${count}`);
    lo.set(this.block.view, this.base, count & 0xffff);
    if (this.vol.geometry.descSize >= 64) hi.set(this.block.view, this.base, count >>> 16);
  }
}

/** First block of a group's inode table. */
export function inodeTableBlock(vol: Volume, group: number): number {
  return GroupDescriptor.get(vol, group).inodeTable;
}
