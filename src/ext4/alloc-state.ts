/**
 * What the allocator knows beyond the disk (kernel: ext4_group_info and prealloc spaces): blocks that are free on disk
 * but not to be handed out, and hints that keep a search from looking twice.
 *
 * A block is `held` while it was freed by a transaction that has not committed (a crash would give it back to its old
 * owner), or while it lies in the window that some file is growing into. What is said of a group counts clusters, the bits
 * of its bitmap; what is said of files and of the whole filesystem counts blocks, always those of whole clusters.
 */
import { fillWords } from './bitmap.js';
import type { Ino } from './inode.js';
import type { Volume } from './volume.js';

/** Blocks after the end of a growing file that others stay away from: [start, end), all in one group. */
export interface Reservation {
  start: number;
  end: number;
}

/** Files growing at the same time that keep a window; the one that grew least recently loses it. */
const MAX_RESERVATIONS = 1024;
const UNKNOWN = 0x7fffffff;
/** Groups, as a power of two, that a search passes over at once if none of them has what it wants. */
const CHUNK_BITS = 8;

export class AllocatorState {
  private readonly vol: Volume;
  /** Per group: no run of free clusters is longer than this. */
  private readonly longestRun: Int32Array;
  /** Per chunk of groups: no run in any of them is longer than this. */
  private readonly longestInChunk: Int32Array;
  /** Per group: no cluster before this one is free. */
  private readonly firstFree: Int32Array;
  private readonly corrupt = new Set<number>();
  private readonly held = new Map<number, Uint32Array>();
  private readonly heldCount: Int32Array;
  private readonly reservations = new Map<Ino, Reservation>();
  /** Blocks freed by transactions that have not committed. */
  freedUncommitted = 0;
  /** Blocks held for writes that are under way, and free on disk. */
  promised = 0;
  /** Recovery: what was there before the crash gets its place, out of whatever reserve. */
  ignoresReserves = false;

  constructor(vol: Volume) {
    const { groupCount } = vol.geometry;
    this.vol = vol;
    this.longestRun = new Int32Array(groupCount).fill(UNKNOWN);
    this.longestInChunk = new Int32Array((groupCount >> CHUNK_BITS) + 1).fill(UNKNOWN);
    this.firstFree = new Int32Array(groupCount);
    this.heldCount = new Int32Array(groupCount);
    this.holdCutCluster();
  }

  /** A cluster that the end of the filesystem cuts is nobody's, whatever its bit says. */
  private holdCutCluster(): void {
    const { blocksCount, clusterRatio } = this.vol.geometry;
    if (blocksCount % clusterRatio !== 0) this.holdBlocks(this.vol.geometry.clusterStart(blocksCount), clusterRatio);
  }

  runLimit(group: number): number {
    return this.longestRun[group];
  }

  /** The first group from `group` on, below `end`, that may have a run of `wanted` clusters; or `end`. */
  nextWithRun(group: number, end: number, wanted: number): number {
    const { longestRun, longestInChunk } = this;
    while (group < end) {
      const chunk = group >> CHUNK_BITS;
      const first = chunk << CHUNK_BITS;
      const behind = Math.min((chunk + 1) << CHUNK_BITS, longestRun.length);
      if (longestInChunk[chunk] >= wanted) {
        let longest = 0;
        for (let at = group; at < behind; at++) {
          const limit = longestRun[at];
          if (limit >= wanted) return Math.min(at, end);
          if (limit > longest) longest = limit;
        }
        if (group === first) longestInChunk[chunk] = longest;
      }
      group = behind;
    }
    return end;
  }

  searchFrom(group: number): number {
    return this.firstFree[group];
  }
  heldIn(group: number): Uint32Array | null {
    return this.held.get(group) ?? null;
  }
  heldClusters(group: number): number {
    return this.heldCount[group];
  }

  /** A search of the whole group found no run longer than `length`. */
  noteLongestRun(group: number, length: number): void {
    this.longestRun[group] = length;
    const chunk = group >> CHUNK_BITS;
    if (length > this.longestInChunk[chunk]) this.longestInChunk[chunk] = length;
  }
  noteFirstFree(group: number, bit: number): void {
    this.firstFree[group] = bit;
  }
  /** Clusters from `bit` on have become free. */
  noteFree(group: number, bit: number): void {
    if (this.corrupt.has(group)) return;
    this.noteLongestRun(group, UNKNOWN);
    if (bit < this.firstFree[group]) this.firstFree[group] = bit;
  }
  /** Nothing is allocated from this group any more (EXT4_MB_GRP_BBITMAP_CORRUPT). */
  noteCorrupt(group: number): void {
    this.corrupt.add(group);
    this.longestRun[group] = 0;
  }

  hold(group: number, bit: number, count: number): void {
    let words = this.held.get(group);
    if (words === undefined) {
      words = new Uint32Array(Math.ceil(this.vol.geometry.clustersPerGroup / 32));
      this.held.set(group, words);
    }
    fillWords(words, bit, count, true);
    this.heldCount[group] += count;
  }

  release(group: number, bit: number, count: number): void {
    const words = this.held.get(group);
    if (words === undefined) throw new Error(`group ${group} holds no blocks`);
    fillWords(words, bit, count, false);
    this.heldCount[group] -= count;
    if (this.heldCount[group] === 0) this.held.delete(group);
    this.noteFree(group, bit);
  }

  /** {@link hold} for whole clusters of one group, named by their blocks. */
  holdBlocks(start: number, count: number): void {
    const { geometry } = this.vol;
    this.hold(geometry.groupOf(start), geometry.bitOf(start), count / geometry.clusterRatio);
  }

  releaseBlocks(start: number, count: number): void {
    const { geometry } = this.vol;
    this.release(geometry.groupOf(start), geometry.bitOf(start), count / geometry.clusterRatio);
  }

  reservationOf(ino: Ino): Reservation | undefined {
    return this.reservations.get(ino);
  }

  /** Keeps [start, start + count), just found free, for `ino`. */
  reserve(ino: Ino, start: number, count: number): void {
    this.discard(ino);
    if (this.reservations.size >= MAX_RESERVATIONS) {
      for (const oldest of this.reservations.keys()) {
        this.discard(oldest);
        break;
      }
    }
    this.holdBlocks(start, count);
    this.reservations.set(ino, { start, end: start + count });
  }

  /** The window begins at `start` from now on. */
  shrinkReservation(ino: Ino, reservation: Reservation, start: number): void {
    this.releaseBlocks(reservation.start, start - reservation.start);
    reservation.start = start;
    this.reservations.delete(ino);
    if (reservation.start < reservation.end) this.reservations.set(ino, reservation);
  }

  discard(ino: Ino): void {
    const reservation = this.reservations.get(ino);
    if (reservation !== undefined) this.shrinkReservation(ino, reservation, reservation.end);
  }

  discardAll(): boolean {
    if (this.reservations.size === 0) return false;
    for (const ino of [...this.reservations.keys()]) this.discard(ino);
    return true;
  }
}

const states = new WeakMap<Volume, AllocatorState>();

export function allocatorState(vol: Volume): AllocatorState {
  let state = states.get(vol);
  if (state === undefined) {
    state = new AllocatorState(vol);
    states.set(vol, state);
  }
  return state;
}
