/** How a server stays small: garbage does not pile up, and what can be done without is given back when programs wait for memory (psi(5)). */
import { existsSync, readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { requireNative } from '../native.js';

const MACHINE = '/proc/pressure/memory';
/** Some task has waited for memory for a tenth of a second, in two. Anybody may ask for windows of two seconds. */
const TRIGGER = 'some 100000 2000000';

/**
 * V8 lets a heap of 20 MB grow to three times that before it looks for garbage, and blocks that nobody needs any more, which lie outside
 * of it, wait for the same. Collected more often it costs a few milliseconds a second at most: three million files are made as fast,
 * in 230 MB and not in 310.
 */
const GARBAGE_PERCENT = 40;

export function boundGarbage(): void {
  setFlagsFromString(`--heap-growing-percent=${GARBAGE_PERCENT}`);
}

/**
 * Calls back at most every second, while memory is short for this process's control group or for the machine: a group may be short of
 * it on a machine that is not, and is not told of others that are.
 */
export function whenMemoryIsShort(relieve: () => void, files: readonly string[] = [pressureFile(), MACHINE]): void {
  const collect = garbageCollector();
  const tell = () => {
    relieve();
    // What was let go is given back when it has been collected, and that would come later, or never.
    collect();
  };
  // One that may not be watched, as a control group's that is for its owner only, leaves the other.
  for (const file of new Set(files)) requireNative().watchPressure(file, TRIGGER, tell);
}

/** That of the control group where there is one: a job may be short of memory on a machine that is not. */
export function pressureFile(): string {
  const [, group] = /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'latin1')) ?? [];
  if (group === undefined) return MACHINE;
  // Beside the controllers of version 1 it has a directory of its own.
  const own = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].map((root) => `${root}${group}/memory.pressure`);
  return own.find((file) => existsSync(file)) ?? MACHINE;
}

function garbageCollector(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}
