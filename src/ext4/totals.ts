/**
 * Free blocks and inodes of the whole filesystem: summed from the group descriptors when the filesystem is opened, then kept. As
 * in the kernel the superblock's own counts are not logged with every change; they are put right at the end.
 */
import { ownView } from '../codec/view.js';
import type { Handle } from '../jbd2/handle.js';
import { allocatorState } from './alloc-state.js';
import { GROUP_DESC } from './format/group-desc.js';
import { SUPERBLOCK } from './format/superblock.js';
import { descriptorBlock } from './group.js';
import type { Volume } from './volume.js';

export class Totals {
  /** Those of whole clusters. */
  freeBlocks = 0;
  freeInodes = 0;
  /** Blocks that only root may use (s_r_blocks_count). */
  readonly reservedBlocks: number;
  private readonly vol: Volume;

  constructor(vol: Volume) {
    this.vol = vol;
    this.sumDescriptors();
    const { view } = vol.superblock();
    const at = vol.geometry.superblockOffset;
    const reserved =
      SUPERBLOCK.s_r_blocks_count_lo.get(view, at) + SUPERBLOCK.s_r_blocks_count_hi.get(view, at) * 0x1_0000_0000;
    this.reservedBlocks = Math.min(reserved, vol.geometry.blocksCount);
  }

  /**
   * Straight from the device, which nothing has changed since: 10 TiB have 80,000 descriptors. Their checksums are
   * looked at when their groups are used. What they say of free clusters lets searches for space pass over full groups.
   */
  private sumDescriptors(): void {
    const { blockSize, groupCount, descsPerBlock, descSize, clusterRatio } = this.vol.geometry;
    const bytes = new Uint8Array(blockSize);
    const view = ownView(bytes);
    const wide = descSize >= 64;
    const allocator = allocatorState(this.vol);
    for (let group = 0; group < groupCount; group += descsPerBlock) {
      this.vol.device.read(descriptorBlock(this.vol, group) * blockSize, bytes);
      const end = Math.min(descsPerBlock, groupCount - group) * descSize;
      for (let base = 0, of = group; base < end; base += descSize, of++) {
        let freeClusters = GROUP_DESC.bg_free_blocks_count_lo.get(view, base);
        this.freeInodes += GROUP_DESC.bg_free_inodes_count_lo.get(view, base);
        if (wide) {
          freeClusters += GROUP_DESC.bg_free_blocks_count_hi.get(view, base) * 0x10000;
          this.freeInodes += GROUP_DESC.bg_free_inodes_count_hi.get(view, base) * 0x10000;
        }
        this.freeBlocks += freeClusters * clusterRatio;
        allocator.noteLongestRun(of, freeClusters);
      }
    }
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
