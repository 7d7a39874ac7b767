/**
 * Where file data and new metadata must never be (kernel: fs/ext4/block_validity.c): superblock and descriptor copies,
 * reserved descriptor blocks, bitmaps and inode tables, and the log. Built lazily for a few groups at a time, since with flex_bg the
 * metadata of a group lies in the first group of its flex group.
 */
import { CorruptionError } from '../errors.js';
import { INCOMPAT } from './features.js';
import { GroupDescriptor } from './group.js';
import type { Volume } from './volume.js';

/** Groups looked at together where flex groups are larger than that. */
const MAX_GROUPS_TOGETHER = 64;

/** Sorted, disjoint ranges: start, end, start, end. */
type Zones = Float64Array;

const cache = new WeakMap<Volume, Map<number, Zones>>();

/** ext4_num_base_meta_blocks: superblock copy, descriptors and their reserve at the start of some groups. */
export function baseMetaBlocks(vol: Volume, group: number): number {
  const { geometry } = vol;
  // Where the superblock is not at the start of group 0, block 0 is kept with it.
  const atStart = group === 0 ? geometry.superblockBlock - geometry.firstDataBlock : 0;
  const superblock = (geometry.groupHasSuper(group) ? 1 : 0) + atStart;
  const { descsPerBlock, firstMetaBg } = geometry;
  const inMetaGroups = (geometry.incompat & INCOMPAT.meta_bg) !== 0 && group >= firstMetaBg * descsPerBlock;
  if (!inMetaGroups) return superblock === 0 ? 0 : superblock + geometry.gdtBlocks + geometry.reservedGdtBlocks;
  // ext4_bg_num_gdb_meta: in the first, the second and the last group of those that the block describes.
  const place = group % descsPerBlock;
  return superblock + (place === 0 || place === 1 || place === descsPerBlock - 1 ? 1 : 0);
}

function zonesOf(vol: Volume, chunk: number, groupsTogether: number): Zones {
  const { geometry } = vol;
  const ranges: [number, number][] = [];
  const end = Math.min(geometry.groupCount, (chunk + 1) * groupsTogether);
  for (let group = chunk * groupsTogether; group < end; group++) {
    const first = geometry.groupFirstBlock(group);
    const base = baseMetaBlocks(vol, group);
    if (base > 0) ranges.push([first, first + base]);
    try {
      const desc = GroupDescriptor.get(vol, group);
      ranges.push([desc.blockBitmap, desc.blockBitmap + 1], [desc.inodeBitmap, desc.inodeBitmap + 1]);
      ranges.push([desc.inodeTable, desc.inodeTable + geometry.inodeTableBlocks]);
    } catch (error) {
      // A corrupt descriptor is reported to whoever uses its group; its neighbours stay usable.
      if (!(error instanceof CorruptionError)) throw error;
    }
  }
  ranges.sort((a, b) => a[0] - b[0]);
  const merged: number[] = [];
  for (const [start, stop] of ranges) {
    if (merged.length > 0 && start <= merged[merged.length - 1]) {
      merged[merged.length - 1] = Math.max(stop, merged[merged.length - 1]);
    } else {
      merged.push(start, stop);
    }
  }
  return Float64Array.from(merged);
}

function overlaps(zones: Zones, start: number, end: number): boolean {
  for (let i = 0; i < zones.length; i += 2) if (start < zones[i + 1] && end > zones[i]) return true;
  return false;
}

/** ext4_inode_block_valid: inside the filesystem, and neither of its fixed metadata nor of its log. */
export function blocksMayBeUsed(vol: Volume, start: number, count: number): boolean {
  const { geometry } = vol;
  const end = start + count;
  if (!(count > 0) || start <= geometry.superblockBlock || end > geometry.blocksCount) return false;
  if (vol.log.overlaps(start, end)) return false;
  let chunks = cache.get(vol);
  if (chunks === undefined) {
    chunks = new Map();
    cache.set(vol, chunks);
  }
  const groupsTogether = Math.min(geometry.groupsPerFlex, MAX_GROUPS_TOGETHER);
  const last = Math.floor(geometry.groupOf(end - 1) / groupsTogether);
  for (let chunk = Math.floor(geometry.groupOf(start) / groupsTogether); chunk <= last; chunk++) {
    let zones = chunks.get(chunk);
    if (zones === undefined) {
      zones = zonesOf(vol, chunk, groupsTogether);
      chunks.set(chunk, zones);
    }
    if (overlaps(zones, start, end)) return false;
  }
  return true;
}
