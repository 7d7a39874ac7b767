/**
 * The block allocator (kernel: fs/ext4/mballoc.c): at the goal if that continues an extent, otherwise a run of the
 * wanted length in the goal's group and the groups after it, otherwise the best that is left.
 *
 * Callers think in blocks, bitmaps and the search in clusters: what is given and taken are the blocks of whole clusters.
 * Which block of a cluster a file may use is for cluster-map.ts to say.
 */
import { CorruptionError, FsError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { type AllocatorState, allocatorState } from './alloc-state.js';
import { allBits, fillBits, testBit } from './bitmap.js';
import { blockBitmapForUse, isBlockUninit, readBlockBitmap } from './block-bitmap.js';
import { type FoundRun, findRun } from './block-search.js';
import { blocksMayBeUsed } from './block-validity.js';
import { GroupDescriptor } from './group.js';
import type { Ino } from './inode.js';
import { totals } from './totals.js';
import type { Volume } from './volume.js';

/** Consecutive blocks of whole clusters. */
export interface Run {
  readonly start: number;
  readonly count: number;
}

export interface AllocationRequest {
  /** Block to be near to; 0 = none. */
  goal: number;
  /** Blocks wanted, rounded up to whole clusters; fewer may be given. */
  count: number;
  /** Fewer than this are of no use; 1 by default. */
  minimum?: number;
  /** For whom: windows are kept by inode. */
  ino: Ino;
  /** The block at the goal continues an extent: take what is free there, however little (EXT4_MB_HINT_MERGE). */
  continues?: boolean;
  /** Blocks to keep free behind the allocated ones for this file to grow into. */
  window?: number;
  metadata?: boolean;
  /** May use blocks reserved for root. */
  privileged?: boolean;
  /** May also use the pool kept for changes that must not fail, such as converting written data (EXT4_MB_USE_RESERVED). */
  mustNotFail?: boolean;
}

/** Most clusters kept for {@link AllocationRequest.mustNotFail} (ext4_set_resv_clusters). */
const MAX_RESERVED_POOL = 4096;
const RESERVED_POOL_SHARE = 50;

function reservedPool(vol: Volume): number {
  const { blocksCount, clusterRatio } = vol.geometry;
  return Math.min(Math.floor(blocksCount / clusterRatio / RESERVED_POOL_SHARE), MAX_RESERVED_POOL) * clusterRatio;
}

/** Free blocks, those of uncommitted transactions included. */
export function freeBlockCount(vol: Volume): number {
  return totals(vol).freeBlocks;
}

/** Free blocks that an unprivileged user cannot have: f_bfree - f_bavail of statfs. */
export function reservedBlockCount(vol: Volume): number {
  return totals(vol).reservedBlocks + reservedPool(vol);
}

/** ext4_has_free_clusters: who may use the blocks that s_r_blocks_count keeps back. */
export function mayUseReservedBlocks(vol: Volume, uid: number, gid: number): boolean {
  if (uid === 0) return true;
  const { resuid, resgid } = vol.policy;
  if (uid === resuid) return true;
  return resgid !== 0 && gid === resgid;
}

function availableBlocks(vol: Volume, request: AllocationRequest): number {
  // What a transaction has freed that has not committed is nobody's yet: the pool must be of blocks that can be had now.
  const { promised, freedUncommitted, ignoresReserves } = allocatorState(vol);
  const free = totals(vol).freeBlocks - promised - freedUncommitted;
  if (request.mustNotFail || ignoresReserves) return free;
  return free - reservedPool(vol) - (request.privileged ? 0 : totals(vol).reservedBlocks);
}

const found: FoundRun = { group: 0, bit: 0, length: 0 };

/**
 * Allocates between `minimum` and `count` consecutive blocks, both rounded up. Throws FsError ENOSPC, or CorruptionError.
 * Changes one bitmap and one descriptor block.
 */
export function allocateBlocks(handle: Handle, vol: Volume, request: AllocationRequest): Run {
  return chooseBlocks(handle, vol, request, markUsed);
}

/** Like {@link allocateBlocks}, but the blocks are only kept from others; see promised-blocks.ts. */
export function promiseBlocks(handle: Handle, vol: Volume, request: AllocationRequest): Run {
  return chooseBlocks(handle, vol, request, (_handle, _vol, state, start, count) => {
    refuseMetadata(vol, state, start, count);
    state.holdBlocks(start, count);
    state.promised += count;
    handle.onRollback(() => breakPromise(vol, start, count));
  });
}

/** Promised blocks are free again. */
export function breakPromise(vol: Volume, start: number, count: number): void {
  const state = allocatorState(vol);
  state.releaseBlocks(start, count);
  state.promised -= count;
}

/** Promised blocks are allocated. Changes one bitmap and one descriptor block. */
export function keepPromise(handle: Handle, vol: Volume, start: number, count: number): void {
  const state = allocatorState(vol);
  breakPromise(vol, start, count);
  handle.onRollback(() => {
    state.holdBlocks(start, count);
    state.promised += count;
  });
  markUsed(handle, vol, state, start, count);
}

type Taking = (handle: Handle, vol: Volume, state: AllocatorState, start: number, count: number) => void;

function chooseBlocks(handle: Handle, vol: Volume, request: AllocationRequest, takeRun: Taking): Run {
  const { geometry } = vol;
  const minimum = geometry.clustersFor(request.minimum ?? 1);
  const state = allocatorState(vol);
  const available = Math.floor(availableBlocks(vol, request) / geometry.clusterRatio);
  const count = Math.min(geometry.clustersFor(request.count), available);
  if (count < minimum) throw new FsError('ENOSPC');
  if (request.metadata !== true) {
    const fromWindow = takeFromReservation(handle, vol, state, request, count, takeRun);
    if (fromWindow !== null) return fromWindow;
  }
  const { goal, continues = false } = request;
  const window = geometry.clustersFor(request.window ?? 0);
  const search = { goal, continues, count, minimum, wanted: count + window };
  if (!findRun(handle, vol, state, search, found)) {
    // The windows of others are wishes, not promises.
    if (!state.discardAll() || !findRun(handle, vol, state, search, found)) throw new FsError('ENOSPC');
  }
  const start = geometry.blockOfBit(found.group, found.bit);
  const taken = Math.min(found.length, count) * geometry.clusterRatio;
  const left = Math.min(found.length * geometry.clusterRatio - taken, window * geometry.clusterRatio);
  takeRun(handle, vol, state, start, taken);
  if (left > 0) {
    state.reserve(request.ino, start + taken, left);
    handle.onRollback(() => state.discard(request.ino));
  }
  return { start, count: taken };
}

function takeFromReservation(
  handle: Handle,
  vol: Volume,
  state: AllocatorState,
  request: AllocationRequest,
  clusters: number,
  takeRun: Taking,
): Run | null {
  const { ino } = request;
  const reservation = state.reservationOf(ino);
  if (reservation === undefined) return null;
  const goal = vol.geometry.clusterStart(request.goal);
  const taken = Math.min(clusters * vol.geometry.clusterRatio, reservation.end - goal);
  if (goal < reservation.start || taken < (request.minimum ?? 1)) {
    state.discard(ino);
    return null;
  }
  state.shrinkReservation(ino, reservation, goal + taken);
  handle.onRollback(() => state.discard(ino));
  takeRun(handle, vol, state, goal, taken);
  return { start: goal, count: taken };
}

/** Throws CorruptionError if these blocks are free only because the bitmap says so. */
function refuseMetadata(vol: Volume, state: AllocatorState, start: number, count: number): void {
  if (blocksMayBeUsed(vol, start, count)) return;
  const group = vol.geometry.groupOf(start);
  state.noteCorrupt(group);
  const finding = `blocks ${start}+${count} hold metadata, but are marked free`;
  throw new CorruptionError('block bitmap', `group ${group}`, finding);
}

/** ext4_mb_mark_diskspace_used. */
function markUsed(handle: Handle, vol: Volume, state: AllocatorState, start: number, count: number): void {
  const group = vol.geometry.groupOf(start);
  refuseMetadata(vol, state, start, count);
  const desc = GroupDescriptor.get(vol, group);
  const bitmap = handle.getWriteAccess(blockBitmapForUse(handle, vol, desc));
  const bit = vol.geometry.bitOf(start);
  const clusters = count / vol.geometry.clusterRatio;
  if (!allBits(bitmap.view, bit, clusters, false)) {
    // They were when they were chosen: two groups share a bitmap.
    throw new CorruptionError('block bitmap', `group ${group}`, `blocks ${start}+${count} are no longer free`);
  }
  fillBits(bitmap.view, bit, clusters, true);
  handle.dirtyMetadata(bitmap);
  if (bit <= state.searchFrom(group)) state.noteFirstFree(group, Math.max(bit + clusters, state.searchFrom(group)));
  const writable = desc.edit(handle);
  writable.setFreeClusters(writable.freeClusters - clusters);
  totals(vol).addFreeBlocks(handle, -count);
  handle.onRollback(() => state.noteFree(group, bit));
}

/**
 * Marks as used what is free of the clusters that hold [start, start + count), wherever it came from; `taken` is told of each
 * run that was. Changes a bitmap and a descriptor for each group. Throws CorruptionError for blocks that hold fixed metadata.
 */
export function claimBlocks(
  handle: Handle,
  vol: Volume,
  start: number,
  count: number,
  taken: (start: number, count: number) => void,
): void {
  const { geometry } = vol;
  const { clusterRatio } = geometry;
  const from = geometry.clusterStart(start);
  const stop = geometry.clustersFor(start + count) * clusterRatio;
  if (!blocksMayBeUsed(vol, from, stop - from)) {
    throw new CorruptionError('block map', `block ${start}`, `blocks ${start}+${count} hold metadata, or lie outside`);
  }
  for (let at = from; at < stop; ) {
    const group = geometry.groupOf(at);
    const end = Math.min(stop, geometry.groupFirstBlock(group + 1));
    const { view } = blockBitmapForUse(handle, vol, GroupDescriptor.get(vol, group));
    const isUsed = (nr: number) => testBit(view, geometry.bitOf(nr));
    // All used is what a change of what was there before finds; all free what is new.
    if (allBits(view, geometry.bitOf(at), (end - at) / clusterRatio, true)) at = end;
    while (at < end) {
      let run = 0;
      while (at + run < end && !isUsed(at + run)) run += clusterRatio;
      if (run > 0) {
        markUsed(handle, vol, allocatorState(vol), at, run);
        taken(at, run);
      }
      at += run;
      while (at < end && isUsed(at)) at += clusterRatio;
    }
  }
}

/**
 * Frees the clusters that hold these blocks; they are handed out again only after the handle's transaction has committed.
 * With `metadata` the content of the blocks was journaled: it is taken out of the transaction and revoked, so that replay
 * does not write it over what comes next. Returns how many blocks are free now. Throws CorruptionError for blocks that are
 * free or hold fixed metadata.
 */
export function freeBlocks(
  handle: Handle,
  vol: Volume,
  start: number,
  count: number,
  opts: { metadata: boolean },
): number {
  const { geometry } = vol;
  const from = geometry.clusterStart(start);
  const stop = geometry.clustersFor(start + count) * geometry.clusterRatio;
  if (!blocksMayBeUsed(vol, from, stop - from)) {
    throw new CorruptionError('block map', `block ${start}`, `blocks ${start}+${count} to be freed hold metadata`);
  }
  if (opts.metadata) for (let nr = start; nr < start + count; nr++) handle.revoke(nr);
  const state = allocatorState(vol);
  for (let at = from; at < stop; ) {
    const group = geometry.groupOf(at);
    const length = Math.min(stop, geometry.groupFirstBlock(group + 1)) - at;
    freeInGroup(handle, vol, state, group, geometry.bitOf(at), length / geometry.clusterRatio);
    at += length;
  }
  totals(vol).addFreeBlocks(handle, stop - from);
  return stop - from;
}

function freeInGroup(
  handle: Handle,
  vol: Volume,
  state: AllocatorState,
  group: number,
  bit: number,
  clusters: number,
): void {
  const { geometry } = vol;
  const start = geometry.blockOfBit(group, bit);
  const count = clusters * geometry.clusterRatio;
  const desc = GroupDescriptor.get(vol, group);
  if (isBlockUninit(vol, desc)) {
    throw new CorruptionError(
      'block bitmap',
      `group ${group}`,
      'a block to be freed lies in a group that was never used',
    );
  }
  const bitmap = handle.getWriteAccess(readBlockBitmap(vol, desc));
  if (!allBits(bitmap.view, bit, clusters, true)) {
    throw new CorruptionError('block bitmap', `group ${group}`, `blocks ${start}+${count} to be freed are free`);
  }
  fillBits(bitmap.view, bit, clusters, false);
  handle.dirtyMetadata(bitmap);
  const writable = desc.edit(handle);
  writable.setFreeClusters(writable.freeClusters + clusters);
  state.hold(group, bit, clusters);
  state.freedUncommitted += count;
  const giveBack = () => {
    state.freedUncommitted -= count;
    state.release(group, bit, clusters);
  };
  handle.onRollback(giveBack);
  handle.onCommit(() => {
    // Nobody uses them before they are given back.
    if (vol.policy.discards) discardQuietly(vol, start, count);
    giveBack();
  });
}

/** A hint: what the device makes of it is its own business. */
function discardQuietly(vol: Volume, start: number, count: number): void {
  const { blockSize } = vol.geometry;
  try {
    vol.device.discard?.(start * blockSize, count * blockSize);
  } catch (error) {
    if (!(error instanceof FsError)) throw error;
  }
}

/** The file no longer grows: what was kept for it is free for all. */
export function discardReservation(vol: Volume, ino: Ino): void {
  allocatorState(vol).discard(ino);
}

/**
 * Space ran out: whether it is worth trying again after a commit, because freed blocks wait for theirs
 * (ext4_should_retry_alloc). If so, commits and calls back once some of them can be had, perhaps inside the call.
 */
export function whenSpaceReturns(vol: Volume, tell: () => void): boolean {
  if (allocatorState(vol).freedUncommitted === 0 || vol.journal.aborted !== null) return false;
  vol.journal.whenFreed(tell);
  return true;
}
