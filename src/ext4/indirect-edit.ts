/** Changing block maps (ext4_ind_map_blocks, ext4_ind_remove_space). */
import type { ReadView } from '../codec/view.js';
import { CorruptionError, FsError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { allocateBlocks, freeBlocks, mayUseReservedBlocks } from './block-alloc.js';
import { type Goal, inodeGoal } from './block-goal.js';
import {
  EXT4_NDIR_BLOCKS,
  findSlot,
  INDIRECT_LEVELS,
  indexPath,
  indirectBlock,
  pointersPerBlock,
  readPointer,
  type Slot,
} from './indirect-map.js';
import { Inode } from './inode.js';

/** {@link makeTable}: three new blocks, each with its bitmap, descriptor and parent, and the inode. */
export const TABLE_CREDITS = 4 * INDIRECT_LEVELS + 1;
/** {@link setPointers}: the table and the inode. */
export const POINTER_CREDITS = 2;

/**
 * Makes sure that there is a table for the pointer of `lblk`: missing indirect blocks are allocated, all zero. Changes up
 * to TABLE_CREDITS blocks. Throws FsError ENOSPC, or EFBIG behind the end of the map.
 */
export function makeTable(handle: Handle, inode: Inode, lblk: number): void {
  const { vol } = inode;
  const path = indexPath(vol.geometry, lblk);
  if (path === null) throw new FsError('EFBIG', `block ${lblk} is behind the end of a block map`);
  let nr = 0;
  for (const index of path.slice(0, -1)) {
    const slot = { nr, index };
    nr = readPointer(inode, slot);
    if (nr !== 0) continue;
    nr = allocateBlocks(handle, vol, {
      goal: slot.nr === 0 ? inodeGoal(inode) : slot.nr,
      count: 1,
      ino: inode.ino,
      metadata: true,
      privileged: mayUseReservedBlocks(vol, inode.uid, inode.gid),
    }).start;
    handle.dirtyMetadata(handle.getCreateAccess(nr, indirectBlock));
    inode.edit(handle).addBlocks(1);
    writePointers(handle, inode, slot, nr, 1);
  }
}

/** Where a block for `lblk` would best be (ext4_find_near): after the last one before it in its table, or near the table. */
export function mappedGoal(inode: Inode, lblk: number): Goal {
  const { slot } = findSlot(inode, lblk);
  if (slot === null) return { goal: inodeGoal(inode), continues: false };
  for (let index = slot.index - 1; index >= 0; index--) {
    const pblk = readPointer(inode, { nr: slot.nr, index });
    if (pblk !== 0) return { goal: pblk + (slot.index - index), continues: index === slot.index - 1 };
  }
  return { goal: slot.nr === 0 ? inodeGoal(inode) : slot.nr, continues: false };
}

/**
 * Maps the holes [lblk, lblk + count), all in one table that is there, to the blocks from `pblk` on, and counts them in
 * i_blocks. Changes POINTER_CREDITS blocks. Throws CorruptionError if they are no holes.
 */
export function setPointers(handle: Handle, inode: Inode, lblk: number, pblk: number, count: number): void {
  const { slot, covered } = findSlot(inode, lblk);
  const bad = (finding: string) => new CorruptionError('block map', `inode ${inode.ino}`, finding);
  // Tables that several inodes share change under each of them; a directory may have blocks behind its end.
  if (slot === null || count > covered) throw bad(`blocks ${lblk}+${count} have no table`);
  for (let i = 0; i < count; i++) {
    if (readPointer(inode, { nr: slot.nr, index: slot.index + i }) !== 0)
      throw bad(`block ${lblk + i} is mapped already`);
  }
  writePointers(handle, inode, slot, pblk, count);
  inode.edit(handle).addBlocks(count);
}

/** `count` consecutive block numbers from `pblk` on; zeroes if that is 0. */
function writePointers(handle: Handle, inode: Inode, { nr, index }: Slot, pblk: number, count: number): void {
  if (nr === 0) {
    const { block, iBlockBase } = inode.edit(handle);
    for (let i = 0; i < count; i++) block.view.setUint32(iBlockBase + (index + i) * 4, pblk === 0 ? 0 : pblk + i, true);
    return;
  }
  const table = handle.getWriteAccess(inode.vol.read(nr, indirectBlock));
  for (let i = 0; i < count; i++) table.view.setUint32((index + i) * 4, pblk === 0 ? 0 : pblk + i, true);
  handle.dirtyMetadata(table);
}

/** What becomes of blocks that were mapped. */
type LetGo = (handle: Handle, inode: Inode, pblk: number, count: number) => void;

function freeContent(handle: Handle, inode: Inode, pblk: number, count: number): void {
  // Content that went through the journal must not come back from it.
  freeBlocks(handle, inode.vol, pblk, count, { metadata: inode.journalsData });
}

/**
 * Frees what is mapped in [fromLblk, toLblk), from the end backwards, and the tables that are then empty. May restart the
 * handle: the map is whole then, but only part of the range is gone. Afterwards look the inode up again.
 */
export function removeMapped(
  handle: Handle,
  inode: Inode,
  fromLblk: number,
  toLblk: number,
  letGo: LetGo = freeContent,
): void {
  new Removal(handle, inode, fromLblk, toLblk, letGo).run();
}

class Removal {
  private readonly handle: Handle;
  private readonly inode: Inode;
  private readonly from: number;
  private readonly to: number;
  private readonly pointers: number;
  private readonly credits: number;
  private readonly letGo: LetGo;

  constructor(handle: Handle, inode: Inode, from: number, to: number, letGo: LetGo) {
    const { geometry } = inode.vol;
    this.handle = handle;
    this.inode = inode;
    this.from = from;
    this.letGo = letGo;
    this.to = to;
    this.pointers = pointersPerBlock(geometry);
    // A run of blocks: table, inode, and a bitmap and a descriptor for each group that it reaches into.
    this.credits = 3 + 2 * (Math.ceil(this.pointers / geometry.blocksPerGroup) + 1);
  }

  run(): void {
    for (let level = INDIRECT_LEVELS; level > 0; level--) {
      let base = EXT4_NDIR_BLOCKS;
      for (let below = 1; below < level; below++) base += this.pointers ** below;
      this.clearTree({ nr: 0, index: EXT4_NDIR_BLOCKS + level - 1 }, level, base);
    }
    this.clearTable(0, 0, EXT4_NDIR_BLOCKS);
  }

  /** The restarts in between leave nothing that was looked up before as it was. */
  private current(): Inode {
    return Inode.load(this.inode.vol, this.inode.ino);
  }

  /** The tree of `level` levels that the slot points to and that maps the blocks from `base` on. */
  private clearTree(slot: Slot, level: number, base: number): void {
    const { handle, pointers } = this;
    if (base >= this.to || base + pointers ** level <= this.from) return;
    const nr = readPointer(this.current(), slot);
    if (nr === 0) return;
    if (level === 1) {
      this.clearTable(nr, base, pointers);
    } else {
      const span = pointers ** (level - 1);
      for (let index = pointers - 1; index >= 0; index--) this.clearTree({ nr, index }, level - 1, base + index * span);
    }
    const { vol } = this.inode;
    if (!isEmptyTable(vol.read(nr, indirectBlock).view, pointers)) return;
    handle.ensureCredits(this.credits);
    const inode = this.current();
    writePointers(handle, inode, slot, 0, 1);
    freeBlocks(handle, vol, nr, 1, { metadata: true });
    inode.edit(handle).addBlocks(-1);
  }

  /** Pointers to data: those of block `nr`, or of the inode (0), which map `count` blocks from `base` on. */
  private clearTable(nr: number, base: number, count: number): void {
    const first = Math.max(0, this.from - base);
    for (let end = Math.min(count, this.to - base); end > first; ) {
      const pblk = readPointer(this.current(), { nr, index: end - 1 });
      if (pblk === 0) {
        end--;
        continue;
      }
      let length = 1;
      while (end - length > first && readPointer(this.current(), { nr, index: end - length - 1 }) === pblk - length)
        length++;
      end -= length;
      this.clearRun({ nr, index: end }, pblk - length + 1, length);
    }
  }

  private clearRun(slot: Slot, pblk: number, length: number): void {
    const { handle } = this;
    handle.ensureCredits(this.credits);
    const inode = this.current();
    writePointers(handle, inode, slot, 0, length);
    this.letGo(handle, inode, pblk, length);
    inode.edit(handle).addBlocks(-length);
  }
}

function isEmptyTable(view: ReadView, pointers: number): boolean {
  for (let index = 0; index < pointers; index++) if (view.getUint32(index * 4, true) !== 0) return false;
  return true;
}
