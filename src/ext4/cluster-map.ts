/**
 * Which block of a cluster belongs where in a file. With bigalloc a cluster on disk holds one cluster's worth of one
 * file's blocks, each in its own place: lblk % ratio === pblk % ratio. So where one block of a logical cluster is mapped,
 * the places of the others are settled (get_implied_cluster_alloc), and the cluster is free when the last of them goes.
 */
import { CorruptionError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { type AllocationRequest, allocateBlocks, type Run } from './block-alloc.js';
import { blocksMayBeUsed } from './block-validity.js';
import { mapExtent } from './extent-tree.js';
import type { Inode } from './inode.js';

/** Blocks for part of a file: `count` from `start` on. */
export interface Placement {
  readonly start: number;
  readonly count: number;
  /** Blocks that i_blocks grows by: those of the clusters that are new. */
  readonly charged: number;
}

/** First block of the cluster on disk for the logical cluster of `lblk`; 0 if none of its blocks is mapped. */
export function mappedCluster(inode: Inode, lblk: number): number {
  const { clusterRatio } = inode.vol.geometry;
  const first = lblk - (lblk % clusterRatio);
  for (let at = first; at < first + clusterRatio; ) {
    const { pblk, count } = mapExtent(inode, at);
    if (pblk !== 0) return pblk - (at - first);
    at += count;
  }
  return 0;
}

/**
 * Finds blocks for the start of the hole of `request.count` blocks from `lblk` on: those that its cluster has for it, or
 * those of new clusters. Throws FsError ENOSPC, EDQUOT, CorruptionError.
 */
export function placeBlocks(handle: Handle, inode: Inode, lblk: number, request: AllocationRequest): Placement {
  const { vol } = inode;
  const { clusterRatio } = vol.geometry;
  if (clusterRatio === 1) {
    const { start, count } = allocateAllowed(handle, inode, request);
    return { start, count, charged: count };
  }
  const skipped = lblk % clusterRatio;
  const cluster = mappedCluster(inode, lblk);
  if (cluster !== 0) {
    const start = cluster + skipped;
    const count = Math.min(request.count, clusterRatio - skipped);
    if (!blocksMayBeUsed(vol, start, count)) {
      throw new CorruptionError(
        'extent tree',
        `inode ${inode.ino}`,
        `the cluster at ${cluster} holds metadata as well`,
      );
    }
    return { start, count, charged: 0 };
  }
  const wanted = holeOfNewClusters(inode, lblk, request.count);
  const run = allocateAllowed(handle, inode, { ...request, count: skipped + wanted });
  return { start: run.start + skipped, count: Math.min(wanted, run.count - skipped), charged: run.count };
}

/** {@link allocateBlocks}, as far as quotas let the inode have blocks. */
function allocateAllowed(handle: Handle, inode: Inode, request: AllocationRequest): Run {
  const { vol } = inode;
  const count = vol.quotas?.roomFor(inode, request.count) ?? request.count;
  return allocateBlocks(handle, vol, count < request.count ? { ...request, count } : request);
}

/** How much of the hole lies before a cluster that what follows the hole has already. */
function holeOfNewClusters(inode: Inode, lblk: number, count: number): number {
  const end = lblk + count;
  const last = inode.vol.geometry.clusterStart(end);
  return last > lblk && last < end && mappedCluster(inode, last) !== 0 ? last - lblk : count;
}
