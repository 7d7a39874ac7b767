import { randomInt } from 'node:crypto';
import { loadNative } from '../native.js';
import type { Environment } from './volume.js';

/** Seconds and nanoseconds. */
const clock = new Float64Array(2);

/** Time and randomness of the real world, with timers as given. */
export const environmentWith = (schedule: Environment['schedule']): Environment => ({
  now() {
    // The kernel's own stamps are as coarse: a finer one here could be later than one it takes after it.
    const native = loadNative();
    if (native !== null) {
      native.clockCoarse(clock);
      return { seconds: clock[0], nanoseconds: clock[1] };
    }
    const ms = Date.now();
    return { seconds: Math.floor(ms / 1000), nanoseconds: (ms % 1000) * 1_000_000 };
  },
  monotonicMs: () => performance.now(),
  random32: () => randomInt(0x1_0000_0000),
  sleep(delayMs) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, delayMs);
  },
  schedule,
});

export const realEnvironment = environmentWith((delayMs, action) => {
  const timer = setTimeout(action, delayMs);
  return () => clearTimeout(timer);
});
