/**
 * How long to look for the next request before going to sleep. Callers that wait for one answer before they ask again
 * are the common case (stat, open, unlink in a loop), and waking an idle processor for each request takes several times
 * as long as answering it. As the kernel's haltpoll does: more patience while it pays, none while it does not.
 */
import { availableParallelism } from 'node:os';

const MOST_US = 100;
const LEAST_US = 10;
/** A request this soon after the last one would have been worth waiting for. */
const SOON_MS = 0.2;

export class Patience {
  private readonly most: number;
  private us: number;
  private sleptAt = 0;

  constructor(processors = availableParallelism()) {
    // With one processor the caller cannot ask while we look.
    this.most = processors > 1 ? MOST_US : 0;
    this.us = 0;
  }

  /** Microseconds to wait now. */
  get microseconds(): number {
    return this.us;
  }

  /** It was in vain: going to sleep at `nowMs`. */
  gaveUp(nowMs: number): void {
    this.sleptAt = nowMs;
    this.us = this.us <= LEAST_US ? 0 : this.us >> 1;
  }

  /** Woken by a request at `nowMs`. */
  woken(nowMs: number): void {
    if (nowMs - this.sleptAt < SOON_MS) this.us = this.most;
  }
}
