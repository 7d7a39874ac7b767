/**
 * What a block belongs to. Superblocks, descriptors, bitmaps and inode tables follow from the group descriptors; for the
 * rest every inode in use is looked through, until all that were asked for have been found.
 */
import { CorruptionError } from '../errors.js';
import { INCOMPAT } from './features.js';
import { EXT4_BG_INODE_UNINIT } from './format/group-desc.js';
import { EXT4_EXTENTS_FL } from './format/inode.js';
import { GroupDescriptor } from './group.js';
import { Inode } from './inode.js';
import { hasBlockMap, walkInodeBlocks } from './inode-blocks.js';
import type { Volume } from './volume.js';

/** What a block is; `group`, `inode` and `inodes` (first and last of an inode-table block) where they apply. */
export interface BlockOwner {
  readonly what: BlockUse;
  readonly group?: number;
  readonly inode?: number;
  readonly inodes?: readonly [number, number];
  /** Logical block in the inode. */
  readonly logical?: number;
}

export type BlockUse =
  | 'superblock'
  | 'group descriptors'
  | 'reserved group descriptors'
  | 'block bitmap'
  | 'inode bitmap'
  | 'inode table'
  | 'directory'
  | 'symlink'
  | 'file data'
  | 'extent tree'
  | 'indirect block'
  | 'xattr block'
  | 'unused';

/** As one line: "inode table, inodes 17-32". */
export function ownerText({ what, group, inode, inodes, logical }: BlockOwner): string {
  if (inodes !== undefined) return `${what}, inodes ${inodes[0]}-${inodes[1]}`;
  if (inode !== undefined) return `${what} of inode ${inode}${logical === undefined ? '' : `, block ${logical}`}`;
  return group === undefined ? what : `${what} of group ${group}`;
}

/** The owner of each of `blocks`, as the filesystem on `vol` has it now. Damaged inodes are passed over. */
export function findOwners(vol: Volume, blocks: Iterable<number>): Map<number, BlockOwner> {
  const search = new OwnerSearch(vol, blocks);
  search.lookThroughGroups();
  if (search.wanted.size > 0) search.lookThroughInodes();
  for (const block of search.wanted) search.found.set(block, { what: 'unused' });
  return search.found;
}

class OwnerSearch {
  readonly wanted: Set<number>;
  readonly found = new Map<number, BlockOwner>();
  private readonly vol: Volume;

  constructor(vol: Volume, blocks: Iterable<number>) {
    this.vol = vol;
    this.wanted = new Set(blocks);
  }

  private claim(block: number, owner: BlockOwner): void {
    if (this.wanted.delete(block)) this.found.set(block, owner);
  }

  private claimRange(start: number, count: number, owner: (index: number) => BlockOwner): void {
    // Whichever is the shorter walk: the range, or what is still wanted.
    if (count <= this.wanted.size) {
      for (let i = 0; i < count; i++) if (this.wanted.has(start + i)) this.claim(start + i, owner(i));
      return;
    }
    for (const block of [...this.wanted]) {
      if (block >= start && block < start + count) this.claim(block, owner(block - start));
    }
  }

  lookThroughGroups(): void {
    const { geometry } = this.vol;
    const { inodesPerBlock, inodesPerGroup, inodeTableBlocks } = geometry;
    for (let group = 0; group < geometry.groupCount && this.wanted.size > 0; group++) {
      if (geometry.groupHasSuper(group)) this.claimSuperblockCopy(group);
      const desc = unlessCorrupt(() => GroupDescriptor.get(this.vol, group));
      if (desc === null) continue;
      this.claim(desc.blockBitmap, { what: 'block bitmap', group });
      this.claim(desc.inodeBitmap, { what: 'inode bitmap', group });
      this.claimRange(desc.inodeTable, inodeTableBlocks, (index) => {
        const first = group * inodesPerGroup + index * inodesPerBlock + 1;
        return { what: 'inode table', group, inodes: [first, first + inodesPerBlock - 1] };
      });
    }
  }

  private claimSuperblockCopy(group: number): void {
    const { geometry } = this.vol;
    const first = group === 0 ? geometry.superblockBlock : geometry.groupFirstBlock(group);
    this.claim(first, { what: 'superblock', group });
    if ((geometry.incompat & INCOMPAT.meta_bg) !== 0) return;
    this.claimRange(first + 1, geometry.gdtBlocks, () => ({ what: 'group descriptors', group }));
    this.claimRange(first + 1 + geometry.gdtBlocks, geometry.reservedGdtBlocks, () => ({
      what: 'reserved group descriptors',
      group,
    }));
  }

  lookThroughInodes(): void {
    const { inodesPerGroup, groupCount } = this.vol.geometry;
    for (let group = 0; group < groupCount; group++) {
      const desc = unlessCorrupt(() => GroupDescriptor.get(this.vol, group));
      if (desc === null || (desc.flags & EXT4_BG_INODE_UNINIT) !== 0) continue;
      const used = Math.max(0, inodesPerGroup - desc.itableUnused);
      for (let index = 0; index < used; index++) {
        if (this.wanted.size === 0) return;
        unlessCorrupt(() => this.lookThroughInode(group * inodesPerGroup + index + 1));
      }
      this.vol.cache.trim();
    }
  }

  private lookThroughInode(ino: number): void {
    const inode = Inode.load(this.vol, ino);
    if (inode.mode === 0) return;
    if (inode.fileAcl !== 0) this.claim(inode.fileAcl, { what: 'xattr block', inode: ino });
    if (!hasBlockMap(inode)) return;
    const content = inode.isDirectory ? 'directory' : inode.isSymlink ? 'symlink' : 'file data';
    const treeBlock = inode.hasFlag(EXT4_EXTENTS_FL) ? 'extent tree' : 'indirect block';
    walkInodeBlocks(inode, {
      data: (lblk, count, pblk) =>
        this.claimRange(pblk, count, (index) => ({ what: content, inode: ino, logical: lblk + index })),
      tree: (pblk) => this.claim(pblk, { what: treeBlock, inode: ino }),
    });
  }
}

/** Null if what `look` reads is corrupt: an inspection goes on with the rest. */
function unlessCorrupt<T>(look: () => T): T | null {
  try {
    return look();
  } catch (error) {
    if (error instanceof CorruptionError) return null;
    throw error;
  }
}
