/**
 * What the journal has to know of file data, which others write to the same device: what of it an fsync still has to
 * flush, and what is under way, so that blocks it is going to are not reused yet.
 */
import type { BlockDevice, IoJob } from '../block/device.js';
import type { FsError } from '../errors.js';

type Tell = (error: FsError | null) => void;

interface Waiter {
  readonly version: number;
  readonly tell: Tell;
}

interface Deferred {
  /** Data I/O that began before this seal must have ended. */
  readonly seal: number;
  /** So must this checkpoint. */
  readonly checkpoint: IoJob | null;
  readonly actions: readonly (() => void)[];
}

export class FileData {
  private readonly device: BlockDevice;
  /** Counts data writes; what of them a flush has covered. */
  private noted = 0;
  private beside = () => 0;
  private flushed = 0;
  private flushJob: IoJob | null = null;
  private waiters: Waiter[] = [];
  /** Data I/O under way, by the number of the seal it started after. */
  private readonly inFlight = new Map<number, number>();
  private seals = 0;
  private readonly deferred: Deferred[] = [];
  private deferredWaiters: (() => void)[] = [];

  private readonly flushFailed: (error: FsError) => void;

  /**
   * `flushFailed`: what was written since the last flush may be lost, and later flushes will not say so (the page cache
   * forgets what it could not write). Nothing may be committed any more that calls those blocks written.
   */
  constructor(device: BlockDevice, flushFailed: (error: FsError) => void) {
    this.device = device;
    this.flushFailed = flushFailed;
  }

  noteWrite(): void {
    this.noted++;
  }

  /** Writes that nobody notes here: `count` knows how many there have been. */
  countWritesBeside(count: () => number): void {
    this.beside = count;
  }

  private get written(): number {
    return this.noted + this.beside();
  }

  /** What a flush that begins now will cover: see {@link covered}. */
  get version(): number {
    return this.written;
  }

  /** A flush that began when `version` had been written is over. */
  covered(version: number): void {
    this.flushed = Math.max(this.flushed, version);
  }

  /** Every write noted so far is durable. */
  get isFlushed(): boolean {
    return this.flushed >= this.written;
  }

  /** Calls back once every write noted so far is durable. */
  whenFlushed(tell: Tell): void {
    this.waiters.push({ version: this.written, tell });
    this.startFlush();
  }

  /** Nothing will be flushed any more. */
  giveUp(error: FsError): void {
    for (const { tell } of this.waiters.splice(0)) queueMicrotask(() => tell(error));
    this.tellDeferred();
  }

  /** I/O beside the engine begins; the token is for {@link finished}. */
  started(): number {
    this.inFlight.set(this.seals, (this.inFlight.get(this.seals) ?? 0) + 1);
    return this.seals;
  }

  finished(token: number): void {
    const left = (this.inFlight.get(token) ?? 1) - 1;
    if (left > 0) this.inFlight.set(token, left);
    else this.inFlight.delete(token);
  }

  get idle(): boolean {
    return this.inFlight.size === 0;
  }

  /** A transaction was sealed: I/O that begins from now on is not told of the blocks it freed. */
  sealed(): void {
    this.seals++;
  }

  /**
   * The actions of a commit wait for what may still touch blocks freed there: data I/O that began before its seal, and a
   * checkpoint that began before it was durable and may be bringing those very blocks home.
   */
  defer(actions: readonly (() => void)[], checkpoint: IoJob | null): void {
    this.deferred.push({ seal: this.seals, checkpoint, actions });
  }

  /** Calls back once some deferred actions have run, or none will any more. */
  whenDeferredRun(tell: () => void): void {
    this.deferredWaiters.push(tell);
  }

  private tellDeferred(): void {
    for (const tell of this.deferredWaiters.splice(0)) tell();
  }

  /** Runs what need not wait any longer, in order; `checkpoint` is the one under way. */
  runDeferred(checkpoint: IoJob | null): void {
    const before = this.deferred.length;
    this.runReady(checkpoint);
    if (this.deferred.length < before) this.tellDeferred();
  }

  private runReady(checkpoint: IoJob | null): void {
    while (this.deferred.length > 0) {
      const next = this.deferred[0];
      if (next.checkpoint !== null && next.checkpoint === checkpoint) return;
      for (const started of this.inFlight.keys()) if (started < next.seal) return;
      this.deferred.shift();
      for (const action of next.actions) action();
    }
  }

  private startFlush(): void {
    if (this.flushJob !== null) return;
    const version = this.written;
    this.flushJob = this.device.submit([{ kind: 'flush' }], (error) => {
      this.flushJob = null;
      if (error === null) this.covered(version);
      else this.flushFailed(error);
      const waiters = this.waiters.splice(0);
      for (const waiter of waiters) {
        if (error !== null || waiter.version <= this.flushed) waiter.tell(error);
        else this.waiters.push(waiter);
      }
      if (this.waiters.length > 0) this.startFlush();
    });
  }
}
