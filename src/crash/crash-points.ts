/**
 * Which crash states of a history to look at. A state is a position, the entries issued so far, and for each write that
 * no flush had covered by then, whether the disk kept it: whole, not at all, or some of its sectors.
 */
import { type LogEntry, type LoggedMark, type LoggedWrite, SECTOR_BYTES } from './write-log.js';

export interface CrashPoint {
  /** Entries of the log that had been issued. */
  readonly position: number;
  /** Unflushed writes that the disk kept, by index in the log, ascending. */
  readonly kept: readonly number[];
  /** Of a kept write only these sectors; bit n of word n/32 is sector n. Those not named are kept whole. */
  readonly torn: ReadonlyMap<number, Uint32Array>;
}

/** How many states each position gets. */
export interface Thoroughness {
  /** Up to so many unflushed writes every subset is tried. */
  readonly exhaustiveWrites: number;
  /** With more: random subsets. */
  readonly randomSubsets: number;
  /** States with single sectors lost. */
  readonly tornStates: number;
}

export const QUICK: Thoroughness = { exhaustiveWrites: 3, randomSubsets: 4, tornStates: 4 };
export const THOROUGH: Thoroughness = { exhaustiveWrites: 10, randomSubsets: 64, tornStates: 32 };

/** Small, fast, seeded: runs must repeat. */
export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0 || 1;
  }

  /** xorshift32 */
  next(): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x >>> 0;
    return this.state;
  }

  below(limit: number): number {
    return this.next() % limit;
  }
}

/** Indices of the writes among the first `position` entries that may be lost. */
export function unflushedAt(log: readonly LogEntry[], position: number): number[] {
  let covered = 0;
  for (let i = 0; i < position; i++) {
    const entry = log[i];
    if (entry.kind === 'flush') covered = Math.max(covered, entry.covers);
  }
  const unflushed: number[] = [];
  for (let i = covered; i < position; i++) if (log[i].kind === 'write') unflushed.push(i);
  return unflushed;
}

/** Positions worth looking at: before each flush ends, after each promise, and the end. In between the disk holds subsets of those. */
export function crashPositions(log: readonly LogEntry[]): number[] {
  const positions: number[] = [];
  for (let i = 0; i < log.length; i++) {
    if (log[i].kind === 'flush') positions.push(i);
    else if (log[i].kind === 'mark' && (log[i] as LoggedMark).promise) positions.push(i + 1);
  }
  positions.push(log.length);
  return [...new Set(positions)];
}

/** The states to try at one position, never the same twice. */
export function* crashPoints(
  log: readonly LogEntry[],
  position: number,
  { exhaustiveWrites, randomSubsets, tornStates }: Thoroughness,
  random: Random,
): Generator<CrashPoint> {
  const unflushed = unflushedAt(log, position);
  const count = unflushed.length;
  const seen = new Set<string>();
  const state = (kept: readonly number[], torn: CrashPoint['torn'] = new Map()): CrashPoint[] => {
    const point = { position, kept, torn };
    const name = nameOf(point, unflushed);
    if (seen.has(name)) return [];
    seen.add(name);
    return [point];
  };

  yield* state(unflushed);
  if (count === 0) return;
  yield* state([]);
  if (count <= exhaustiveWrites) {
    for (let mask = 1; mask < (1 << count) - 1; mask++) {
      yield* state(unflushed.filter((_, i) => (mask & (1 << i)) !== 0));
    }
  } else {
    // What a disk that keeps order leaves, and what finds most faults otherwise: one write missing, or one alone.
    const some = Math.min(count, 4 * exhaustiveWrites);
    for (let k = 0; k < some; k++) {
      const at = some === count ? k : random.below(count);
      yield* state(unflushed.slice(0, at));
      yield* state(unflushed.filter((_, i) => i !== at));
      yield* state([unflushed[at]]);
    }
    for (let k = 0; k < randomSubsets; k++) {
      const share = 1 + random.below(7);
      yield* state(unflushed.filter(() => random.below(8) < share));
    }
  }
  if (!unflushed.some((index) => sectorsOf(log[index] as LoggedWrite) > 1)) return;
  for (let k = 0; k < tornStates; k++) yield* state(...tear(log, unflushed, random));
}

/** Every unflushed write keeps some of its sectors; or, every other time, only one write is torn. */
function tear(
  log: readonly LogEntry[],
  unflushed: readonly number[],
  random: Random,
): [number[], Map<number, Uint32Array>] {
  const torn = new Map<number, Uint32Array>();
  const single = random.below(2) === 0 ? unflushed[random.below(unflushed.length)] : -1;
  const share = 1 + random.below(7);
  for (const index of unflushed) {
    if (single >= 0 && index !== single) continue;
    const sectors = sectorsOf(log[index] as LoggedWrite);
    const mask = new Uint32Array(Math.ceil(sectors / 32));
    for (let sector = 0; sector < sectors; sector++) {
      if (random.below(8) < share) mask[sector >>> 5] |= 1 << (sector & 31);
    }
    torn.set(index, mask);
  }
  return [[...unflushed], torn];
}

export function sectorsOf(write: LoggedWrite): number {
  const first = Math.floor(write.offsetBytes / SECTOR_BYTES);
  return Math.ceil((write.offsetBytes + write.bytes.length) / SECTOR_BYTES) - first;
}

/** Calls back with each range of bytes that the disk kept of a torn write. */
export function keptRanges(write: LoggedWrite, mask: Uint32Array, visit: (from: number, to: number) => void): void {
  const lead = write.offsetBytes % SECTOR_BYTES;
  for (let sector = 0; sector < sectorsOf(write); sector++) {
    if ((mask[sector >>> 5] & (1 << (sector & 31))) === 0) continue;
    visit(Math.max(0, sector * SECTOR_BYTES - lead), Math.min(write.bytes.length, (sector + 1) * SECTOR_BYTES - lead));
  }
}

/** `position`, `position:all`, `:none`, `:kept.kept.…`, a torn write as `index~hex words`. What `--crash` takes. */
export function nameOf({ position, kept, torn }: CrashPoint, unflushed: readonly number[]): string {
  if (torn.size === 0 && kept.length === unflushed.length) return `${position}:all`;
  if (kept.length === 0) return `${position}:none`;
  const parts = kept.map((index) => {
    const mask = torn.get(index);
    return mask === undefined ? `${index}` : `${index}~${[...mask].map((word) => word.toString(16)).join('-')}`;
  });
  return `${position}:${parts.join('.')}`;
}

/** The inverse of {@link nameOf}. Throws Error if it is no such name. */
export function pointNamed(log: readonly LogEntry[], name: string): CrashPoint {
  const match = /^(\d+):(all|none|[\d.~a-f-]+)$/.exec(name);
  if (match === null || Number(match[1]) > log.length) throw new Error(`${name} is no crash point of this history`);
  const position = Number(match[1]);
  const torn = new Map<number, Uint32Array>();
  if (match[2] === 'all') return { position, kept: unflushedAt(log, position), torn };
  if (match[2] === 'none') return { position, kept: [], torn };
  const kept = match[2].split('.').map((part) => {
    const [index, mask] = part.split('~');
    if (mask !== undefined) {
      torn.set(
        Number(index),
        Uint32Array.from(mask.split('-'), (word) => Number.parseInt(word, 16)),
      );
    }
    return Number(index);
  });
  return { position, kept, torn };
}
