/**
 * Where to allocate: looks through groups for a run of free blocks (ext4_mb_regular_allocator). Free counts and
 * what earlier searches learnt rule out most groups without looking at their bitmaps. Lengths are in clusters.
 */
import { CorruptionError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import type { AllocatorState } from './alloc-state.js';
import { type ClearRun, clearRunAt, findClearRun } from './bitmap.js';
import { blockBitmapForUse } from './block-bitmap.js';
import { GroupDescriptor } from './group.js';
import type { Volume } from './volume.js';

export interface Search {
  /** A block. */
  readonly goal: number;
  /** What is free at the goal is taken, be it little. */
  readonly continues: boolean;
  /** Clusters asked for, the least of use, and what would be ideal. */
  readonly count: number;
  readonly minimum: number;
  readonly wanted: number;
}

/** `length` free clusters from `bit` of `group` on; at least the minimum, at most what was wanted. */
export interface FoundRun {
  group: number;
  bit: number;
  length: number;
}

/** Bitmaps looked at for the ideal run, and for one that holds the request, before less is taken. */
const IDEAL_EFFORT = 16;
const REQUEST_EFFORT = 128;

const scan: ClearRun = { start: 0, length: 0, firstClear: 0 };

/** Fills `into`; false if there is no run of at least `minimum` clusters. */
export function findRun(handle: Handle, vol: Volume, state: AllocatorState, search: Search, into: FoundRun): boolean {
  const { geometry } = vol;
  const goal =
    search.goal > geometry.firstDataBlock && search.goal < geometry.blocksCount ? search.goal : geometry.firstDataBlock;
  const goalGroup = geometry.groupOf(goal);
  const goalBit = geometry.bitOf(goal);
  into.length = 0;
  if (search.continues && takeAtGoal(handle, vol, state, goalGroup, goalBit, search, into)) return true;

  const largest = geometry.clustersPerGroup;
  const wanted = Math.min(search.wanted, largest);
  if (look(handle, vol, state, goalGroup, goalBit, wanted, IDEAL_EFFORT, into)) return true;
  const count = Math.min(search.count, largest);
  if (into.length >= count) return true;
  if (look(handle, vol, state, goalGroup, goalBit, count, REQUEST_EFFORT, into)) return true;
  if (into.length >= search.minimum) return true;
  return look(handle, vol, state, goalGroup, goalBit, search.minimum, Number.POSITIVE_INFINITY, into);
}

function takeAtGoal(
  handle: Handle,
  vol: Volume,
  state: AllocatorState,
  group: number,
  bit: number,
  search: Search,
  into: FoundRun,
): boolean {
  const bitmap = openGroup(handle, vol, state, group, search.minimum);
  if (bitmap === null) return false;
  const limit = Math.min(search.wanted, vol.geometry.groupClusters(group) - bit);
  const length = clearRunAt(bitmap.view, state.heldIn(group), bit, limit);
  if (length < search.minimum) return false;
  into.group = group;
  into.bit = bit;
  into.length = length;
  return true;
}

/** One pass over the groups from the goal's on, around the end. Keeps the longest run in `into`; true if one is long enough. */
function look(
  handle: Handle,
  vol: Volume,
  state: AllocatorState,
  goalGroup: number,
  goalBit: number,
  wanted: number,
  effort: number,
  into: FoundRun,
): boolean {
  const { groupCount } = vol.geometry;
  let left = effort;
  for (let round = 0; round < 2; round++) {
    const end = round === 0 ? groupCount : goalGroup;
    let group = state.nextWithRun(round === 0 ? goalGroup : 0, end, wanted);
    for (; group < end; group = state.nextWithRun(group + 1, end, wanted)) {
      const bitmap = openGroup(handle, vol, state, group, wanted);
      if (bitmap === null) continue;
      const clusters = vol.geometry.groupClusters(group);
      const held = state.heldIn(group);
      if (group === goalGroup && goalBit > state.searchFrom(group)) {
        // Behind the goal first, then the whole group.
        if (findClearRun(bitmap.view, held, goalBit, clusters, wanted, scan)) return keep(group, into);
      }
      const from = state.searchFrom(group);
      const enough = findClearRun(bitmap.view, held, from, clusters, wanted, scan);
      state.noteFirstFree(group, scan.firstClear);
      if (enough) return keep(group, into);
      state.noteLongestRun(group, scan.length);
      if (scan.length > into.length) keep(group, into);
      if (--left <= 0) return false;
    }
  }
  return false;
}

function keep(group: number, into: FoundRun): true {
  into.group = group;
  into.bit = scan.start;
  into.length = scan.length;
  return true;
}

/** The group's bitmap, or null if it cannot hold a run of `wanted` clusters. */
function openGroup(handle: Handle, vol: Volume, state: AllocatorState, group: number, wanted: number) {
  if (state.runLimit(group) < wanted) return null;
  try {
    const desc = GroupDescriptor.get(vol, group);
    const free = desc.freeClusters - state.heldClusters(group);
    if (free < wanted) {
      state.noteLongestRun(group, Math.min(state.runLimit(group), Math.max(0, free)));
      return null;
    }
    return blockBitmapForUse(handle, vol, desc);
  } catch (error) {
    if (!(error instanceof CorruptionError)) throw error;
    // One bad group must not end all writing: it is reported and left alone from here on.
    state.noteCorrupt(group);
    vol.reportCorruption(error);
    return null;
  }
}
