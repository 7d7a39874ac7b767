/** What becomes of an image: opened, walked, written to, closed or cut off, looked at again. */
import { checkFilesystem } from '../../../src/ext4/check/check.js';
import { type ErrorsPolicy, Filesystem } from '../../../src/ext4/filesystem.js';
import { frozenVolume } from '../../../src/ext4/frozen-volume.js';
import type { MountPolicy } from '../../../src/ext4/mount-policy.js';
import { readGeometry } from '../../../src/ext4/open.js';
import type { GuardDevice } from './guard-device.js';
import { stillEnvironment } from './images.js';
import { isAnswer, Misbehaviour, Session } from './session.js';
import { settled, sync, use } from './use.js';
import { walk } from './walk.js';

/** refused: it cannot be opened. read: read-only. written: it was written to. */
export type Outcome = 'refused' | 'read' | 'written';

export interface Life {
  readonly outcome: Outcome;
  /** Why it was refused, or is read-only; empty if it was written to. */
  readonly reason: string;
  /** Corruptions that operations met. */
  readonly corruptions: number;
}

export interface LifeOptions {
  readonly policy?: Partial<MountPolicy>;
  /** null: what the superblock says. */
  readonly errors: ErrorsPolicy | null;
  /** It is left as after a crash, not closed. */
  readonly crash: boolean;
  /** What is done with it follows from this. */
  readonly seed: number;
  /** Inodes that are to be used whatever else is. */
  readonly favourites: readonly number[];
  /** Called when all has been looked at, before anything is written. */
  readonly meanwhile?: () => void;
}

const CACHE_BYTES = 64 << 10;

/** Throws whatever an image must not lead to. */
export async function live(device: GuardDevice, options: LifeOptions): Promise<Life> {
  let panics = 0;
  let fs: Filesystem;
  try {
    fs = Filesystem.open(device, {
      env: stillEnvironment(),
      cacheBytes: CACHE_BYTES,
      checkpointBytes: 32 << 10,
      policy: options.policy,
      errors: options.errors ?? undefined,
      panic: () => panics++,
    });
  } catch (error) {
    return { outcome: 'refused', reason: verdict(device, error), corruptions: 0 };
  }
  const session = new Session(fs, options.errors ?? fs.errors, () => panics);
  try {
    const met = walk(session, true);
    options.meanwhile?.();
    const writable = !fs.readOnly;
    const reason = writable ? '' : [...fs.report.readOnlyReasons, session.firstCorruption].join('; ');
    if (writable) use(session, met, options.favourites, options.seed);
    if (options.meanwhile !== undefined) walk(session, true);
    await sync(session);
    if (options.crash) fs.volume.journal.disable();
    else closed(fs);
    await settled();
    if (device.violation !== null) throw device.violation;
    return { outcome: writable ? 'written' : 'read', reason, corruptions: session.corruptions };
  } catch (error) {
    // Nothing of it may go on beside the next trial.
    fs.volume.journal.disable();
    throw device.violation ?? error;
  }
}

/** A read-only mount of what was left: replays in memory, and must leave the image as it is. */
export function lookAgain(device: GuardDevice): void {
  guarded(device, () => {
    const fs = Filesystem.open(device, { readOnly: true, env: stillEnvironment(), cacheBytes: CACHE_BYTES });
    walk(new Session(fs, 'continue', () => 0), true);
    closed(fs);
  });
  if (device.writes > 0) throw new Misbehaviour(`a read-only mount wrote ${device.writes} times`);
}

/** `ext4d check` of what was left. */
export function check(device: GuardDevice): void {
  guarded(device, () => checkFilesystem(frozenVolume(device, readGeometry(device), CACHE_BYTES)));
}

function guarded(device: GuardDevice, look: () => void): void {
  try {
    look();
  } catch (error) {
    verdict(device, error);
  }
  if (device.violation !== null) throw device.violation;
}

function closed(fs: Filesystem): void {
  try {
    fs.closeSync();
  } catch (error) {
    if (!isAnswer(error)) throw error;
  }
}

/** What the answer says; throws what is none. */
function verdict(device: GuardDevice, error: unknown): string {
  if (device.violation !== null) throw device.violation;
  if (!isAnswer(error)) throw error;
  return `${error.name}: ${error.message}`;
}
