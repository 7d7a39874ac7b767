/**
 * Takes a history apart into crash states, recovers each as a mount would, and asks the oracle, the project's checker
 * and, now and then, e2fsck. Some recoveries crash as well, up to three deep: the next must come to the same end.
 */

import {
  type CrashPoint,
  crashPoints,
  crashPositions,
  nameOf,
  pointNamed,
  QUICK,
  Random,
  type Thoroughness,
} from '../../../src/crash/crash-points.js';
import { History } from '../../../src/crash/history.js';
import { contradictions, openState, readTree } from '../../../src/crash/recovered.js';
import type { StateImage } from '../../../src/crash/state-image.js';
import type { LogEntry } from '../../../src/crash/write-log.js';
import type { Filesystem } from '../../../src/ext4/filesystem.js';
import { fsck } from '../../support/mke2fs.js';
import { treeText } from './model.js';
import { allowedAt, judge } from './oracle.js';
import type { Recorded } from './workload.js';

export interface ExploreOptions {
  readonly thoroughness?: Thoroughness;
  readonly seed?: number;
  /** One of so many states also crashes in its recovery; 0: none. */
  readonly nestedEach?: number;
  /** One of so many states is also shown to e2fsck; 0: none. */
  readonly e2fsckEach?: number;
  /** Positions before this one are not looked at. */
  readonly from?: number;
  /** Only this one. */
  readonly only?: string;
}

export class Tally {
  workloads = 0;
  states = 0;
  nested = 0;
  e2fsck = 0;

  counts(): string {
    return (
      `${this.workloads} workloads, ${this.states + this.nested} crash states (${this.nested} of them inside a recovery), ` +
      `${this.e2fsck} shown to e2fsck`
    );
  }

  summary(seconds: number): string {
    return `${this.counts()}, ${Math.round((this.states + this.nested) / seconds)} states/s`;
  }

  clear(): void {
    this.workloads = 0;
    this.states = 0;
    this.nested = 0;
    this.e2fsck = 0;
  }

  add(other: Tally): void {
    this.workloads += other.workloads;
    this.states += other.states;
    this.nested += other.nested;
    this.e2fsck += other.e2fsck;
  }
}

/** A crash that a mount did not get over. */
export class CrashFailure extends Error {
  readonly point: string;

  constructor(point: string, complaint: string) {
    super(complaint);
    this.point = point;
  }
}

const MAX_DEPTH = 3;
/** States tried inside one recovery; inside those, one each. */
const NESTED_STATES = 6;
const NESTED: Thoroughness = { exhaustiveWrites: 2, randomSubsets: 1, tornStates: 1 };

/** Explores on `image`, which must be as it was when the recording began, and is again afterwards. Throws CrashFailure. */
export function explore(image: StateImage, recorded: Recorded, options: ExploreOptions, tally: Tally): void {
  const { thoroughness = QUICK, seed = 1, nestedEach = 0, e2fsckEach = 0, from = 0, only } = options;
  const random = new Random(seed);
  const history = new History(image, recorded.log);
  const start = image.level;
  tally.workloads++;
  try {
    const positions = only === undefined ? crashPositions(recorded.log) : [pointNamed(recorded.log, only).position];
    for (const position of positions) {
      if (position < from) continue;
      const allowed = allowedAt(recorded, position);
      history.advanceTo(position);
      const points =
        only === undefined
          ? crashPoints(recorded.log, position, thoroughness, random)
          : [pointNamed(recorded.log, only)];
      for (const point of points) {
        const level = image.level;
        const judged = (complaint: string | null) => {
          if (complaint !== null) throw new CrashFailure(nameOf(point, history.unflushedAt(position)), complaint);
        };
        history.apply(point);
        tally.states++;
        const nests = nestedEach > 0 && random.below(nestedEach) === 0;
        const asks = e2fsckEach > 0 && random.below(e2fsckEach) === 0;
        judged(
          recoverAndJudge(
            image,
            nests || only !== undefined,
            (files) => judge(recorded, allowed, files),
            random,
            tally,
          ),
        );
        if (asks || only !== undefined) judged(askE2fsck(image, tally));
        image.undoTo(level);
      }
    }
  } finally {
    image.undoTo(start);
  }
}

type Judge = (files: ReturnType<typeof readTree>) => string | null;

/** Leaves the image recovered and closed. */
function recoverAndJudge(
  image: StateImage,
  nests: boolean,
  judgeTree: Judge,
  random: Random,
  tally: Tally,
  depth = 1,
): string | null {
  const level = image.level;
  const log: LogEntry[] = [];
  if (nests) image.recording = log;
  let tree: ReturnType<typeof readTree>;
  try {
    const fs: Filesystem = openState(image);
    tree = readTree(fs);
    fs.closeSync();
  } catch (error) {
    return `the mount failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
  } finally {
    image.recording = null;
  }
  const complaint = judgeTree(tree) ?? judgeFindings(image);
  if (complaint !== null || !nests || log.length === 0) return complaint;
  const expected = treeText(tree);
  const sameTree: Judge = (again) =>
    treeText(again) === expected && sameContents(tree, again)
      ? null
      : `after a crash in its recovery another tree is found:\n${treeText(again)}\ninstead of\n${expected}`;
  const inner = nestedFailure(image, level, log, sameTree, random, tally, depth);
  return inner;
}

/** Crashes inside the recovery that `log` recorded and that began at `level`; leaves the image recovered. */
function nestedFailure(
  image: StateImage,
  level: number,
  log: readonly LogEntry[],
  sameTree: Judge,
  random: Random,
  tally: Tally,
  depth: number,
): string | null {
  image.undoTo(level);
  const points: CrashPoint[] = [];
  for (const position of crashPositions(log)) points.push(...crashPoints(log, position, NESTED, random));
  const history = new History(image, log);
  for (let k = 0; k < Math.min(depth === 1 ? NESTED_STATES : 1, points.length); k++) {
    const point = points[random.below(points.length)];
    history.rewind();
    history.apply(point);
    tally.nested++;
    const complaint = recoverAndJudge(image, depth < MAX_DEPTH, sameTree, random, tally, depth + 1);
    if (complaint !== null)
      return `crashed again in the recovery, at ${nameOf(point, history.unflushedAt(point.position))}: ${complaint}`;
  }
  history.rewind();
  openState(image).closeSync();
  return null;
}

function sameContents(a: ReturnType<typeof readTree>, b: ReturnType<typeof readTree>): boolean {
  return a.every(({ content }, i) => {
    const other = b[i]?.content ?? null;
    return content === null || other === null ? content === other : Buffer.compare(content, other) === 0;
  });
}

function judgeFindings(image: StateImage): string | null {
  const findings = contradictions(image);
  return findings.length === 0 ? null : `after recovery and unmount: ${findings.join('; ')}`;
}

function askE2fsck(image: StateImage, tally: Tally): string | null {
  tally.e2fsck++;
  const { code, output } = fsck(image.bytes);
  return code === 0 ? null : `after recovery and unmount e2fsck -fn has complaints: ${output}`;
}
