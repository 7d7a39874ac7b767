/**
 * Every crash state of a recorded workload, and what became of it. States that a mount recovers to the same tree, for a
 * program that had said the same by then, are one and the same to whoever verifies: one of them is shown to it.
 */
import { createHash } from 'node:crypto';
import { CorruptionError, FsError, UnsupportedError } from '../errors.js';
import { type CrashPoint, crashPoints, crashPositions, nameOf, Random, type Thoroughness } from './crash-points.js';
import { History } from './history.js';
import { contradictions, openState, type RecoveredFile, readTree } from './recovered.js';
import type { StateImage } from './state-image.js';
import type { LogEntry } from './write-log.js';

/** kept: verified, and fine. unverified: recovered, and nobody was asked. */
export type Outcome = 'kept' | 'unverified' | 'broken' | 'not recovered';

export interface CrashState {
  readonly point: CrashPoint;
  readonly name: string;
  /** What is the same to a verifier has the same number. */
  readonly kind: number;
}

/** Crash states that lead to one and the same tree. */
export interface StateKind {
  readonly states: CrashState[];
  outcome: Outcome;
  /** What the verifier, or the recovery, said. */
  said: string;
}

export interface Explored {
  readonly states: readonly CrashState[];
  readonly kinds: readonly StateKind[];
}

export interface ExploreSettings {
  readonly thoroughness: Thoroughness;
  readonly seed: number;
  /** What the program had printed once so many entries were logged. */
  readonly sayings: (position: number) => string;
  /** Called now and then, with what is done of the log's entries; the exploration waits for it, and ends if it throws. */
  readonly pause: (done: number, total: number) => Promise<void>;
}

/** Recovers every crash state of `log` that `thoroughness` asks for. */
export async function exploreStates(
  image: StateImage,
  log: readonly LogEntry[],
  { thoroughness, seed, sayings, pause }: ExploreSettings,
): Promise<Explored> {
  const random = new Random(seed);
  const history = new History(image, log);
  const start = image.level;
  const states: CrashState[] = [];
  const kinds: StateKind[] = [];
  const numbers = new Map<string, number>();
  for (const position of crashPositions(log)) {
    await pause(position, log.length);
    history.advanceTo(position);
    for (const point of crashPoints(log, position, thoroughness, random)) {
      const level = image.level;
      history.apply(point);
      const { fingerprint, complaint } = recover(image);
      image.undoTo(level);
      const key = `${fingerprint} ${sayings(position)}`;
      let kind = numbers.get(key);
      if (kind === undefined) {
        kind = kinds.length;
        numbers.set(key, kind);
        kinds.push({ states: [], outcome: complaint === '' ? 'unverified' : 'not recovered', said: complaint });
      }
      const state = { point, name: nameOf(point, history.unflushedAt(position)), kind };
      states.push(state);
      kinds[kind].states.push(state);
    }
  }
  image.undoTo(start);
  return { states, kinds };
}

function recover(image: StateImage): { fingerprint: string; complaint: string } {
  try {
    const fs = openState(image);
    const fingerprint = fingerprintOf(readTree(fs));
    fs.closeSync();
    const findings = contradictions(image);
    return findings.length === 0
      ? { fingerprint, complaint: '' }
      : { fingerprint: `contradictions ${findings[0]}`, complaint: findings.join('; ') };
  } catch (error) {
    if (!(error instanceof FsError || error instanceof CorruptionError || error instanceof UnsupportedError))
      throw error;
    return { fingerprint: `error ${error.message}`, complaint: `it cannot be mounted: ${error.message}` };
  }
}

/** Everything that a program could see, but times. */
function fingerprintOf(files: readonly RecoveredFile[]): string {
  const hash = createHash('sha256');
  for (const { path, stat, first, content, xattrs } of files) {
    hash.update(
      `${path}\0${stat.mode}\0${stat.nlink}\0${stat.uid}\0${stat.gid}\0${stat.size}\0${stat.rdev}\0${first}\0`,
    );
    if (content !== null) hash.update(content);
    for (const [name, value] of xattrs) hash.update(`${name}\0`).update(value);
  }
  return hash.digest('base64');
}

/** The image as the disk held it at a crash point: what a mount has to recover. */
export function imageAt(image: StateImage, log: readonly LogEntry[], point: CrashPoint): Uint8Array {
  const history = new History(image, log);
  const level = image.level;
  history.apply(point);
  const bytes = image.bytes.slice();
  image.undoTo(level);
  return bytes;
}
