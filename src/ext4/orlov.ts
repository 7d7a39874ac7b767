/**
 * Which group a new inode goes to: files to their directory's, directories spread out so that each has room to grow
 * near itself (find_group_orlov, find_group_other).
 */
import { EXT4_ROOT_INO, EXT4_TOPDIR_FL } from './format/inode.js';
import { GroupDescriptor } from './group.js';
import type { Inode } from './inode.js';
import { totals } from './totals.js';
import type { Volume } from './volume.js';

/** Groups looked at before any will do: on a huge filesystem the search must not touch every descriptor. */
const MAX_PROBES = 512;

export function groupOfInode(vol: Volume, ino: number): number {
  return Math.floor((ino - 1) / vol.geometry.inodesPerGroup);
}

/** Groups in the order in which they should be tried; each at most once or so, all of them in the end. */
export function* candidateGroups(vol: Volume, parent: Inode, isDirectory: boolean): Iterable<number> {
  const start = isDirectory ? directoryGroup(vol, parent) : groupOfInode(vol, parent.ino);
  const { groupCount } = vol.geometry;
  yield start;
  if (!isDirectory) {
    // Quadratic probing keeps the files of one directory together and those of others apart.
    let group = (start + parent.ino) % groupCount;
    for (let step = 1; step < groupCount; step *= 2) {
      group = (group + step) % groupCount;
      if (hasRoom(vol, group)) yield group;
    }
  }
  for (let i = 1; i < groupCount; i++) yield (start + i) % groupCount;
}

function hasRoom(vol: Volume, group: number): boolean {
  const desc = GroupDescriptor.get(vol, group);
  return desc.freeInodes > 0 && desc.freeClusters > 0;
}

function directoryGroup(vol: Volume, parent: Inode): number {
  const { groupCount, inodesPerGroup, clustersPerGroup, clusterRatio } = vol.geometry;
  const { freeInodes, freeBlocks } = totals(vol);
  const averageInodes = freeInodes / groupCount;
  const averageClusters = freeBlocks / clusterRatio / groupCount;
  const probes = Math.min(groupCount, MAX_PROBES);
  const parentGroup = groupOfInode(vol, parent.ino);
  if (parent.ino === EXT4_ROOT_INO || parent.hasFlag(EXT4_TOPDIR_FL)) {
    // Top-level directories go far from each other: the group with the fewest directories among the roomy ones.
    const offset = vol.env.random32() % groupCount;
    let best = -1;
    let fewest = inodesPerGroup;
    for (let i = 0; i < probes; i++) {
      const group = (offset + i) % groupCount;
      const desc = GroupDescriptor.get(vol, group);
      if (desc.freeInodes === 0 || desc.usedDirs >= fewest) continue;
      if (desc.freeInodes < averageInodes || desc.freeClusters < averageClusters) continue;
      best = group;
      fewest = desc.usedDirs;
      if (fewest === 0) break;
    }
    if (best >= 0) return best;
  }
  // Below that they stay near their parent while the group is not crowded.
  const leastInodes = Math.max(1, averageInodes - inodesPerGroup / 4);
  const leastClusters = averageClusters - clustersPerGroup / 4;
  for (let i = 0; i < probes; i++) {
    const group = (parentGroup + i) % groupCount;
    const desc = GroupDescriptor.get(vol, group);
    if (desc.freeInodes < leastInodes || desc.freeClusters < leastClusters) continue;
    if (desc.usedDirs >= inodesPerGroup / 4) continue;
    return group;
  }
  for (let i = 0; i < groupCount; i++) {
    const group = (parentGroup + i) % groupCount;
    if (GroupDescriptor.get(vol, group).freeInodes > 0) return group;
  }
  return parentGroup;
}
