/** One hostile image from damage to verdict: opened, walked, written to, closed or cut off, opened again, checked. */
import { getHeapStatistics } from 'node:v8';
import type { MountPolicy } from '../../../src/ext4/mount-policy.js';
import { apply, type Plan, targets } from './damage.js';
import { GuardDevice } from './guard-device.js';
import type { NamedImage } from './images.js';
import { check, live, lookAgain, type Outcome } from './life.js';
import { locate } from './locate.js';
import { ScratchImage } from './scratch-image.js';
import { Misbehaviour } from './session.js';
import type { Located } from './structures.js';
import { settled } from './use.js';

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
      const damage = () => void apply(this.located, this.image, plan);
      if (!plan.live) damage();
      const favourites = targets(this.located, plan).map(({ ino }) => ino);
      const { outcome } = await live(new GuardDevice(this.image), {
        ...plan,
        policy: this.policy,
        favourites,
        meanwhile: plan.live ? damage : undefined,
      });
      if (plan.seed % 3 === 0) lookAgain(new GuardDevice(this.image));
      if (plan.seed % 3 === 1) check(new GuardDevice(this.image));
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
}

/** Heap and buffers. */
function memoryInUse(): number {
  const { used_heap_size, external_memory } = getHeapStatistics();
  return used_heap_size + external_memory;
}
