import { randomInt } from 'node:crypto';
import type { Environment } from './volume.js';

/** Time and randomness of the real world. */
export const realEnvironment: Environment = {
  now() {
    const ms = Date.now();
    return { seconds: Math.floor(ms / 1000), nanoseconds: (ms % 1000) * 1_000_000 };
  },
  monotonicMs: () => performance.now(),
  random32: () => randomInt(0x1_0000_0000),
  schedule(delayMs, action) {
    const timer = setTimeout(action, delayMs);
    return () => clearTimeout(timer);
  },
};
