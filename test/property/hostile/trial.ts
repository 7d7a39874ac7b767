/** One hostile image from damage to verdict: opened, walked, written to, closed or cut off, opened again, checked. */
import { getHeapStatistics } from 'node:v8';
import { checkFilesystem } from '../../../src/ext4/check/check.js';
import { Filesystem } from '../../../src/ext4/filesystem.js';
import { frozenVolume } from '../../../src/ext4/frozen-volume.js';
import type { MountPolicy } from '../../../src/ext4/mount-policy.js';
import { readGeometry } from '../../../src/ext4/open.js';
import { apply, type Plan, targets } from './damage.js';
import { GuardDevice } from './guard-device.js';
import { type NamedImage, stillEnvironment } from './images.js';
import { locate } from './locate.js';
import { ScratchImage } from './scratch-image.js';
import { isAnswer, Misbehaviour, Session } from './session.js';
import type { Located } from './structures.js';
import { settled, sync, use } from './use.js';
import { walk } from './walk.js';

/** refused: it cannot be opened. read: read-only. written: it was written to. */
export type Outcome = 'refused' | 'read' | 'written';

const CACHE_BYTES = 64 << 10;
/** More than any of these images can need, with everything that the last trials left to be collected. */
const MAX_GROWTH_BYTES = 96 << 20;
/** No walk over such an image takes that long. */
const MAX_MS = 5000;

/** What went wrong in the trial under way where no caller could catch it: in a microtask. Null between trials. */
let strays: unknown[] | null = null;

/** Call once in a process that runs trials. */
export function catchStrays(): void {
  const stray = (error: unknown) => {
    if (strays !== null) strays.push(error);
    else {
      console.error(error);
      process.exit(1);
    }
  };
  process.on('uncaughtException', stray);
  process.on('unhandledRejection', stray);
}

export class Trial {
  readonly located: Located;
  private readonly image: ScratchImage;
  private readonly policy: Partial<MountPolicy>;

  constructor(sound: NamedImage) {
    this.image = new ScratchImage(sound);
    this.located = locate(sound);
    this.policy = sound.policy;
  }

  /** What a plan does, in words. */
  describe(plan: Plan): string[] {
    const words = apply(this.located, this.image, plan);
    this.image.restore();
    return words;
  }

  /** The image that a plan makes of the sound one. */
  damaged(plan: Plan): Uint8Array {
    apply(this.located, this.image, plan);
    const bytes = this.image.bytes.slice();
    this.image.restore();
    return bytes;
  }

  /** Throws whatever an image must not lead to. */
  async run(plan: Plan): Promise<Outcome> {
    const started = performance.now();
    const memory = memoryInUse();
    const mine: unknown[] = [];
    strays = mine;
    try {
      apply(this.located, this.image, plan);
      const outcome = await this.live(plan);
      if (plan.seed % 3 === 0) this.guarded((device) => this.lookAgain(device));
      if (plan.seed % 3 === 1)
        this.guarded((device) => checkFilesystem(frozenVolume(device, readGeometry(device), CACHE_BYTES)));
      await settled();
      if (mine.length > 0) throw mine[0];
      const growth = memoryInUse() - memory;
      if (growth > MAX_GROWTH_BYTES) throw new Misbehaviour(`memory grew by ${Math.round(growth / 2 ** 20)} MiB`);
      const ms = performance.now() - started;
      if (ms > MAX_MS) throw new Misbehaviour(`it took ${Math.round(ms)} ms`);
      return outcome;
    } finally {
      strays = null;
      this.image.restore();
    }
  }

  private async live(plan: Plan): Promise<Outcome> {
    const device = new GuardDevice(this.image);
    let panics = 0;
    let fs: Filesystem;
    try {
      fs = Filesystem.open(device, {
        env: stillEnvironment(),
        cacheBytes: CACHE_BYTES,
        checkpointBytes: 32 << 10,
        policy: this.policy,
        errors: plan.errors ?? undefined,
        panic: () => panics++,
      });
    } catch (error) {
      verdict(device, error);
      return 'refused';
    }
    const session = new Session(fs, plan.errors ?? fs.errors, () => panics);
    try {
      const damaged = targets(this.located, plan).map(({ ino }) => ino);
      const met = walk(session, true);
      const writable = !fs.readOnly;
      if (writable) use(session, met, damaged, plan.seed);
      await sync(session);
      if (plan.crash) fs.volume.journal.disable();
      else closed(fs);
      await settled();
      if (device.violation !== null) throw device.violation;
      return writable ? 'written' : 'read';
    } catch (error) {
      // Nothing of it may go on beside the next trial.
      fs.volume.journal.disable();
      throw device.violation ?? error;
    }
  }

  /** A read-only mount of what was left: replays in memory, and must leave the image as it is. */
  private lookAgain(device: GuardDevice): void {
    const fs = Filesystem.open(device, { readOnly: true, env: stillEnvironment(), cacheBytes: CACHE_BYTES });
    walk(new Session(fs, 'continue', () => 0), true);
    closed(fs);
    if (device.writes > 0) throw new Misbehaviour(`a read-only mount wrote ${device.writes} times`);
  }

  private guarded(look: (device: GuardDevice) => void): void {
    const device = new GuardDevice(this.image);
    try {
      look(device);
    } catch (error) {
      verdict(device, error);
    }
    if (device.violation !== null) throw device.violation;
  }
}

function closed(fs: Filesystem): void {
  try {
    fs.closeSync();
  } catch (error) {
    if (!isAnswer(error)) throw error;
  }
}

function verdict(device: GuardDevice, error: unknown): void {
  if (device.violation !== null) throw device.violation;
  if (!isAnswer(error)) throw error;
}

/** Heap and buffers. */
function memoryInUse(): number {
  const { used_heap_size, external_memory } = getHeapStatistics();
  return used_heap_size + external_memory;
}
