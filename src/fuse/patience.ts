/**
 * How long to look for the next request before going to sleep. Callers that wait for one answer before they ask again
 * are the common case (stat, open, unlink in a loop), and waking an idle processor for each request takes several times
 * as long as answering it. As the kernel's haltpoll does: more patience while it pays, none while it does not.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';

const MOST_US = 100;
const LEAST_US = 10;
/** A request this soon after the last one would have been worth waiting for. */
const SOON_MS = 0.2;

function firstWord(path: string): string {
  try {
    return readFileSync(path, 'utf8').split(/\s/)[0];
  } catch {
    return '';
  }
}

/** True in a control group with a quota of processor time (docker --cpus, Slurm): waiting would use it up. */
export function hasProcessorQuota(proc = '/proc/self/cgroup', mounted = '/sys/fs/cgroup'): boolean {
  let groups: string[];
  try {
    groups = readFileSync(proc, 'utf8').split('\n');
  } catch {
    return false;
  }
  for (const group of groups) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(group) ?? [];
    if (controllers === '') {
      for (let at = path; ; at = dirname(at)) {
        const quota = firstWord(join(mounted, at, 'cpu.max'));
        if (quota !== '' && quota !== 'max') return true;
        if (at === dirname(at)) break;
      }
    } else if (controllers?.split(',').includes('cpu')) {
      if (Number(firstWord(join(mounted, controllers, path, 'cpu.cfs_quota_us'))) > 0) return true;
    }
  }
  return false;
}

export class Patience {
  private readonly most: number;
  private us = 0;
  private waitingSinceMs = 0;

  constructor(processors = availableParallelism(), quota = hasProcessorQuota()) {
    // With one processor the caller cannot ask while we look.
    this.most = processors > 1 && !quota ? MOST_US : 0;
  }

  /** There is nothing to do at `nowMs`: microseconds to wait for more before going to sleep. */
  wait(nowMs: number): number {
    this.waitingSinceMs = nowMs;
    return this.us;
  }

  /** A request has come at `nowMs`. */
  woken(nowMs: number): void {
    if (nowMs - this.waitingSinceMs < SOON_MS) this.us = this.most;
    else this.us = this.us <= LEAST_US ? 0 : this.us >> 1;
  }
}
