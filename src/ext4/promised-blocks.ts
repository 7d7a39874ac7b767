/**
 * Blocks for writes into holes of block-mapped files. A block map has no unwritten state: to name a block before its data
 * is on the device would show what lay there before. So the blocks are chosen, and kept from everybody else in memory
 * only; the map and the bitmap name them once the data is written. A crash before that finds them free.
 */
import { FsError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { breakPromise, keepPromise, mayUseReservedBlocks, promiseBlocks } from './block-alloc.js';
import { makeTable, mappedGoal, POINTER_CREDITS, setPointers, TABLE_CREDITS } from './indirect-edit.js';
import { mapIndirect } from './indirect-map.js';
import { type Ino, Inode } from './inode.js';
import type { Volume } from './volume.js';

export interface PromisedRun {
  readonly lblk: number;
  readonly count: number;
  readonly pblk: number;
}

/** The way to a table, and a bitmap that may have to be made. */
export const PROMISE_CREDITS = TABLE_CREDITS + 3;
/** Bitmap, descriptor, superblock, and the pointers. */
export const KEEP_CREDITS = POINTER_CREDITS + 3;

const promises = new WeakMap<Volume, Map<Ino, PromisedRun[]>>();

function promisesOf(vol: Volume): Map<Ino, PromisedRun[]> {
  let map = promises.get(vol);
  if (map === undefined) {
    map = new Map();
    promises.set(vol, map);
  }
  return map;
}

export function hasPromises(vol: Volume, ino: Ino): boolean {
  return promisesOf(vol).has(ino);
}

/** What is promised from `lblk` on, as one run. */
export function promisedAt(vol: Volume, ino: Ino, lblk: number): PromisedRun | null {
  for (const run of promisesOf(vol).get(ino) ?? []) {
    const skipped = lblk - run.lblk;
    if (skipped >= 0 && skipped < run.count) return { lblk, count: run.count - skipped, pblk: run.pblk + skipped };
  }
  return null;
}

/** Promises blocks for the start of the hole [lblk, lblk + count). Throws FsError ENOSPC, EDQUOT, EFBIG. */
export function promise(vol: Volume, ino: Ino, lblk: number, count: number, window: number): PromisedRun {
  return vol.journal.run(PROMISE_CREDITS, (handle) => {
    makeTable(handle, Inode.get(vol, ino), lblk);
    const inode = Inode.get(vol, ino);
    const allowed = allowedBlocks(inode, count);
    const { start, count: got } = promiseBlocks(handle, vol, {
      ...mappedGoal(inode, lblk),
      count: Math.min(allowed, mapIndirect(inode, lblk).count, firstPromiseFrom(vol, ino, lblk) - lblk),
      window,
      ino,
      privileged: mayUseReservedBlocks(vol, inode.uid, inode.gid),
    });
    const run = { lblk, count: got, pblk: start };
    const map = promisesOf(vol);
    map.set(ino, [...(map.get(ino) ?? []), run]);
    handle.onRollback(() => take(vol, ino, lblk, got));
    return run;
  });
}

/** What the owners' quotas leave of `count`, when what is promised already is counted. */
function allowedBlocks(inode: Inode, count: number): number {
  const { quotas } = inode.vol;
  if (quotas === null) return count;
  let promised = 0;
  for (const run of promisesOf(inode.vol).get(inode.ino) ?? []) promised += run.count;
  const allowed = quotas.roomFor(inode, promised + count) - promised;
  if (allowed < 1) throw new FsError('EDQUOT');
  return allowed;
}

function firstPromiseFrom(vol: Volume, ino: Ino, lblk: number): number {
  let first = Number.POSITIVE_INFINITY;
  for (const run of promisesOf(vol).get(ino) ?? []) if (run.lblk >= lblk) first = Math.min(first, run.lblk);
  return first;
}

/** The data is on the device: the promised blocks of [lblk, lblk + count) become the file's. Up to KEEP_CREDITS a run. */
export function keepPromises(handle: Handle, vol: Volume, ino: Ino, lblk: number, count: number): void {
  for (const run of take(vol, ino, lblk, count)) {
    handle.ensureCredits(KEEP_CREDITS);
    handle.onRollback(() => promisesOf(vol).set(ino, [...(promisesOf(vol).get(ino) ?? []), run]));
    keepPromise(handle, vol, run.pblk, run.count);
    setPointers(handle, Inode.get(vol, ino), run.lblk, run.pblk, run.count);
  }
}

/** What is promised of [lblk, lblk + count) is not needed: free for all, once no write that is under way can reach it. */
export function breakPromises(vol: Volume, ino: Ino, lblk: number, count: number): void {
  const runs = take(vol, ino, lblk, count);
  if (runs.length === 0 || vol.journal.aborted !== null) return;
  vol.journal.run(0, (handle) => {
    handle.onRollback(() => promisesOf(vol).set(ino, [...(promisesOf(vol).get(ino) ?? []), ...runs]));
    handle.onCommit(() => {
      for (const { pblk, count } of runs) breakPromise(vol, pblk, count);
    });
  });
}

/** Takes what lies in [lblk, lblk + count) out of the promises. */
function take(vol: Volume, ino: Ino, lblk: number, count: number): PromisedRun[] {
  const map = promisesOf(vol);
  const kept: PromisedRun[] = [];
  const taken: PromisedRun[] = [];
  for (const run of map.get(ino) ?? []) {
    const from = Math.max(run.lblk, lblk);
    const to = Math.min(run.lblk + run.count, lblk + count);
    if (from >= to) {
      kept.push(run);
      continue;
    }
    const piece = (start: number, end: number) => ({
      lblk: start,
      count: end - start,
      pblk: run.pblk + start - run.lblk,
    });
    if (run.lblk < from) kept.push(piece(run.lblk, from));
    taken.push(piece(from, to));
    if (to < run.lblk + run.count) kept.push(piece(to, run.lblk + run.count));
  }
  if (kept.length > 0) map.set(ino, kept);
  else map.delete(ino);
  return taken;
}
