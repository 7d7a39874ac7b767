/**
 * Free blocks and inodes of the whole filesystem: summed from the group descriptors when first asked for, then kept. As
 * in the kernel the superblock's own counts are not logged with every change; they are put right at the end.
 */
import type { Handle } from '../jbd2/handle.js';
import { SUPERBLOCK } from './format/superblock.js';
import { GroupDescriptor } from './group.js';
import type { Volume } from './volume.js';

export class Totals {
  freeBlocks = 0;
  freeInodes = 0;
  /** Blocks that only root may use (s_r_blocks_count). */
  readonly reservedBlocks: number;
  private readonly vol: Volume;

  constructor(vol: Volume) {
    this.vol = vol;
    for (let group = 0; group < vol.geometry.groupCount; group++) {
      const desc = GroupDescriptor.get(vol, group);
      this.freeBlocks += desc.freeBlocks;
      this.freeInodes += desc.freeInodes;
    }
    const { view } = vol.superblock();
    const at = vol.geometry.superblockOffset;
    const reserved =
      SUPERBLOCK.s_r_blocks_count_lo.get(view, at) + SUPERBLOCK.s_r_blocks_count_hi.get(view, at) * 0x1_0000_0000;
    this.reservedBlocks = Math.min(reserved, vol.geometry.blocksCount);
  }

  addFreeBlocks(handle: Handle, count: number): void {
    this.freeBlocks += count;
    handle.onRollback(() => {
      this.freeBlocks -= count;
    });
  }

  addFreeInodes(handle: Handle, count: number): void {
    this.freeInodes += count;
    handle.onRollback(() => {
      this.freeInodes -= count;
    });
  }

  /** True if the superblock holds these counts. */
  get matchSuperblock(): boolean {
    const { view } = this.vol.superblock();
    const at = this.vol.geometry.superblockOffset;
    const freeBlocksHi = this.vol.geometry.descSize >= 64 ? SUPERBLOCK.s_free_blocks_count_hi.get(view, at) : 0;
    return (
      SUPERBLOCK.s_free_inodes_count.get(view, at) === this.freeInodes &&
      SUPERBLOCK.s_free_blocks_count_lo.get(view, at) + freeBlocksHi * 0x1_0000_0000 === this.freeBlocks
    );
  }

  /** Puts the counts into the superblock, in the handle's transaction. */
  writeBack(handle: Handle): void {
    const block = handle.getWriteAccess(this.vol.superblock());
    const at = this.vol.geometry.superblockOffset;
    SUPERBLOCK.s_wtime.set(block.view, at, this.vol.env.now().seconds >>> 0);
    SUPERBLOCK.s_free_blocks_count_lo.set(block.view, at, this.freeBlocks >>> 0);
    if (this.vol.geometry.descSize >= 64) {
      SUPERBLOCK.s_free_blocks_count_hi.set(block.view, at, Math.floor(this.freeBlocks / 0x1_0000_0000));
    }
    SUPERBLOCK.s_free_inodes_count.set(block.view, at, this.freeInodes);
    handle.dirtyMetadata(block);
  }
}

const all = new WeakMap<Volume, Totals>();

/** The volume's totals. Throws CorruptionError from a bad descriptor. */
export function totals(vol: Volume): Totals {
  let found = all.get(vol);
  if (found === undefined) {
    found = new Totals(vol);
    all.set(vol, found);
  }
  return found;
}
