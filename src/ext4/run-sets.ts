/** Sets of blocks as runs: what is in one and not in the other, without a look at each block. */
import type { Run } from './block-alloc.js';

/** Sorted, disjoint, neighbours joined. */
export function joinRuns(runs: readonly Run[]): Run[] {
  const sorted = [...runs].sort((a, b) => a.start - b.start);
  const joined: { start: number; count: number }[] = [];
  for (const { start, count } of sorted) {
    const last = joined.at(-1);
    if (last !== undefined && start <= last.start + last.count) {
      last.count = Math.max(last.count, start + count - last.start);
    } else {
      joined.push({ start, count });
    }
  }
  return joined;
}

/** What is in `runs` and not in `without`; both as {@link joinRuns} makes them. */
export function subtractRuns(runs: readonly Run[], without: readonly Run[]): Run[] {
  const left: Run[] = [];
  let next = 0;
  for (const { start, count } of runs) {
    const end = start + count;
    let at = start;
    while (next < without.length && without[next].start + without[next].count <= at) next++;
    for (let i = next; i < without.length && without[i].start < end; i++) {
      if (without[i].start > at) left.push({ start: at, count: without[i].start - at });
      at = Math.max(at, without[i].start + without[i].count);
    }
    if (at < end) left.push({ start: at, count: end - at });
  }
  return left;
}

/** A block that two of the runs have, or -1. */
export function firstShared(runs: readonly Run[]): number {
  const sorted = [...runs].sort((a, b) => a.start - b.start);
  let end = 0;
  for (const { start, count } of sorted) {
    if (start < end) return start;
    end = Math.max(end, start + count);
  }
  return -1;
}
