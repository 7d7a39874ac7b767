/**
 * The journal's public face (journal_t): handles join the running transaction, commits seal it and write it to the log,
 * checkpoints bring it home.
 *
 *   RUNNING --startCommit()--> SEALED --finishCommit()--> COMMITTED --Checkpoints--> FINISHED
 *
 * Invariants:
 *  - at most one transaction runs and at most one is sealed and not yet committed;
 *  - no block goes home before the transaction that changed it is durable in the log;
 *  - log space is taken again only after the tail that leaves it behind is durable;
 *  - abort is one-way: nothing is written to the log or home after it, so that the next mount replays what was
 *    acknowledged and nothing else.
 */
import type { IoJob, IoStep } from '../block/device.js';
import { CorruptionError, FsError } from '../errors.js';
import type { BlockCache, CachedBlock } from './block-cache.js';
import { Checkpoints } from './checkpoints.js';
import type { BuildFastCommit } from './fast-area.js';
import { FastCommits } from './fast-commit.js';
import { FileData } from './file-data.js';
import { Handle } from './handle.js';
import { type Tid, tidGeq, tidNext } from './tid.js';
import { Transaction } from './transaction.js';
import type { TransactionStore } from './transaction-store.js';

export interface JournalHooks {
  /** Monotonic milliseconds. */
  monotonicMs(): number;
  /** Wall-clock time for commit blocks. */
  now(): { seconds: number; nanoseconds: number };
  /** Runs `action` after `delayMs`; returns what cancels it. */
  schedule(delayMs: number, action: () => void): () => void;
  /**
   * Steps that must be durable before the first record reaches the log: the filesystem superblock says needs_recovery.
   * Also marks the cached superblock, so that no later checkpoint clears the mark.
   */
  beforeFirstCommit(): IoStep[];
  /** What the running transaction has changed since the last fast commit on it, as whole blocks; null: it cannot be said. */
  fastCommit?: BuildFastCommit;
  /** After a transaction is durable. */
  committed(tid: Tid): void;
  /** The journal has given up. Called once. */
  aborted(error: FsError): void;
}

export interface JournalOptions {
  /** Age at which a running transaction commits by itself. */
  readonly commitIntervalMs: number;
  /** Metadata not yet home that is kept in memory before a checkpoint begins. */
  readonly checkpointBytes?: number;
  /** Fsyncs in a row that fast commits are enough for, before the log is emptied so that there can be some. */
  readonly worthCheckpoint?: number;
}

/** jbd2's JBD2_DEFAULT share of the log for one transaction. */
const TRANSACTION_SHARE = 4;
const DEFAULT_CHECKPOINT_BYTES = 16 << 20;
/** Metadata in a transaction that commits by itself. Sealing copies it: with large logs this is what bounds the memory for that. */
const COMMIT_BYTES = 8 << 20;
const DEFAULT_WORTH_CHECKPOINT = 2;
/** Undo copies kept for the next handle. */
const SPARE_COPIES = 64;

export class Journal {
  private readonly store: TransactionStore;
  private readonly cache: BlockCache;
  private readonly hooks: JournalHooks;
  private readonly commitIntervalMs: number;
  readonly maxTransactionBlocks: number;
  /** A running transaction of so many blocks commits. */
  private readonly commitAtBlocks: number;
  /** Blocks that every handle may change besides those it asks for. */
  extraCredits = 0;

  private handle: Handle | null = null;
  private running: Transaction | null = null;
  private sealed: Transaction | null = null;
  private commitJob: IoJob | null = null;
  private nextTid: Tid;
  private lastCommitted: Tid;
  private cancelTimer: (() => void) | null = null;
  private commitAgain = false;
  private failure: FsError | null = null;
  /** The log and the superblocks say so: there may be something to replay. */
  private begun = false;
  private readonly spareCopies: Uint8Array[] = [];
  private readonly data: FileData;
  private readonly fast: FastCommits;
  private readonly checkpoints: Checkpoints;

  constructor(store: TransactionStore, cache: BlockCache, hooks: JournalHooks, options: JournalOptions) {
    this.store = store;
    this.data = new FileData(store.device, (error) => this.abort(error));
    this.fast = new FastCommits(
      store,
      this.data,
      hooks.fastCommit ?? null,
      options.worthCheckpoint ?? DEFAULT_WORTH_CHECKPOINT,
      (error) => this.fastCommitOver(error),
    );
    this.cache = cache;
    this.hooks = hooks;
    this.commitIntervalMs = options.commitIntervalMs;
    this.checkpoints = new Checkpoints(store, cache, options.checkpointBytes ?? DEFAULT_CHECKPOINT_BYTES, {
      stopped: () => this.failure !== null,
      ended: (error) => this.checkpointEnded(error),
      freed: () => this.checkpointFreed(),
      returnCopy: (copy) => this.returnCopy(copy),
    });
    this.maxTransactionBlocks = Math.floor(store.capacity / TRANSACTION_SHARE);
    this.commitAtBlocks = Math.min(this.maxTransactionBlocks / 2, COMMIT_BYTES / store.blockSize);
    this.nextTid = store.firstTid;
    this.lastCommitted = (this.nextTid - 1) >>> 0;
  }

  /**
   * Runs one atomic step. `credits` is the most blocks it may change, {@link extraCredits} aside. The step must be synchronous; if it throws, its
   * changes are undone. Inside another step it joins that one. Throws FsError EROFS after an abort. `inFastCommits`: whatever
   * it changes is noted for fast commits; a step is the whole of one only if all that join it are.
   */
  run<T>(credits: number, step: (handle: Handle) => T, inFastCommits = false): T {
    if (this.handle !== null) {
      if (!inFastCommits) this.handle.refuseFastCommit();
      return step(this.handle);
    }
    if (this.failure !== null) throw new FsError('EROFS', this.failure.message);
    const all = Math.min(credits + this.extraCredits, this.maxTransactionBlocks);
    const handle = new Handle(this, this.cache, this.reserve(all), all, inFastCommits);
    this.handle = handle;
    try {
      const result = step(handle);
      if (result instanceof Promise) throw new Error('a journal step must not be asynchronous');
      handle.complete();
      return result;
    } catch (error) {
      handle.rollback();
      throw error;
    } finally {
      this.handle = null;
      this.afterStep();
    }
  }

  /** The transaction that a change made now would belong to. */
  get runningTid(): Tid {
    return this.running?.tid ?? this.nextTid;
  }

  get aborted(): FsError | null {
    return this.failure;
  }

  /** True while a step would have to wait for log I/O: callers that can should wait with {@link whenReady}. */
  get congested(): boolean {
    if (this.sealed === null && this.checkpoints.job === null) return false;
    const running = this.running?.blocks.size ?? 0;
    return (
      running >= this.commitAtBlocks * 1.5 ||
      this.checkpoints.isBehind ||
      this.store.blocksFor(running + 128, 0) > this.store.freeBlocks * 0.75
    );
  }

  /** Calls back when the commit or checkpoint under way is done. */
  whenReady(tell: () => void): void {
    this.readyWaiters.push(tell);
  }
  private readonly readyWaiters: (() => void)[] = [];

  /** Calls back once transaction `tid` is durable, or with the error that prevents it. Never inside the call. */
  whenCommitted(tid: Tid, tell: (error: FsError | null) => void): void {
    if (this.failure !== null || tidGeq(this.lastCommitted, tid)) {
      const { failure } = this;
      queueMicrotask(() => tell(failure));
      return;
    }
    // Nothing runs: what there is up to `tid` is being committed, or was.
    if (this.sealed !== null && (this.sealed.tid === tid || this.running === null)) {
      this.sealed.waiters.push(tell);
      return;
    }
    if (this.running === null) {
      queueMicrotask(() => tell(null));
      return;
    }
    this.running.waiters.push(tell);
    this.startCommit();
  }

  /** As {@link whenCommitted}, with a fast commit instead where that is enough. */
  whenDurable(tid: Tid, tell: (error: FsError | null) => void): void {
    const { running } = this;
    // Nobody looks for fast commits behind a log that is marked empty.
    if (running?.tid !== tid || !this.begun || this.failure !== null || !this.fast.allows(running, this.isLogEmpty)) {
      this.whenCommitted(tid, tell);
      return;
    }
    if (running.fastCommitted === running.changes) {
      queueMicrotask(() => tell(null));
      return;
    }
    this.fast.whenDone(tell);
    this.startFastCommit();
  }

  /** Every committed transaction is home, and the tail on disk behind it. */
  private get isLogEmpty(): boolean {
    return this.checkpoints.allHome && this.sealed === null;
  }

  private startFastCommit(): void {
    const { running } = this;
    if (running === null || this.sealed !== null || this.fast.busy || !this.fast.waiting) return;
    if (!this.isLogEmpty && !running.needsFullCommit) {
      // Which calls this again.
      this.checkpoints.start();
      return;
    }
    if (!this.fast.start(running)) this.startCommit();
  }

  private fastCommitOver(error: FsError | null): void {
    if (this.failure !== null) return;
    if (error !== null) {
      this.abort(error);
    } else if (this.commitAgain) {
      this.commitAgain = false;
      this.startCommit();
    } else {
      this.startFastCommit();
    }
  }

  /** Calls back once every data write noted so far is durable. Never inside the call. */
  whenDataFlushed(tell: (error: FsError | null) => void): void {
    const { failure } = this;
    if (this.data.isFlushed) queueMicrotask(() => tell(failure));
    else this.data.whenFlushed(tell);
  }

  /** File data was written to the device: the next fsync has something to flush. */
  noteDataWrite(): void {
    this.data.noteWrite();
  }

  /** Others write file data, too, and `count` how often they have. */
  countWritesBeside(count: () => number): void {
    this.data.countWritesBeside(count);
  }

  /** Data I/O that runs beside the engine begins; blocks freed from now on are not reused before {@link dataFinished}. */
  dataStarted(): number {
    return this.data.started();
  }

  dataFinished(token: number): void {
    this.data.finished(token);
    this.data.runDeferred(this.checkpoints.job);
  }

  /** Commits, and calls back, perhaps inside the call, once blocks freed by some commit may be used again. */
  whenFreed(tell: () => void): void {
    this.data.whenDeferredRun(tell);
    this.startCommit();
  }

  /** No data I/O is under way beside the engine. */
  get dataIdle(): boolean {
    return this.data.idle;
  }

  /** Seals the running transaction and writes it to the log in the background. */
  startCommit(): void {
    if (this.failure !== null) return;
    if (this.sealed !== null || this.fast.busy) {
      this.commitAgain = true;
      return;
    }
    const transaction = this.running;
    if (transaction === null) return;
    this.running = null;
    transaction.waiters.push(...this.fast.takeWaiters());
    this.disarmTimer();
    if (transaction.blocks.size === 0 && transaction.revoked.size === 0) {
      this.finishEmpty(transaction);
      return;
    }
    this.submitCommit(transaction);
  }

  /** Everything changed so far is durable and home when this returns; blocks the thread. For close, and a full log. */
  flushAll(): void {
    this.commitNow();
    this.checkpointNow();
    // Once more after a failure: the log still holds everything, and the device may have recovered.
    if (!this.checkpoints.allHome) this.checkpointNow();
    if (!this.checkpoints.allHome && this.failure === null) throw this.checkpoints.lastError;
  }

  /** Commits what is running; blocks the thread until it is durable. */
  commitNow(): void {
    this.waitForCommit();
    this.startCommit();
    this.waitForCommit();
  }

  /** Everything home: the log is empty but not marked so. */
  checkpointNow(): void {
    this.waitForCommit();
    this.checkpoints.wait();
    this.checkpoints.start();
    this.checkpoints.wait();
  }

  /** Begins a checkpoint as soon as no commit is under way. */
  requestCheckpoint(): void {
    this.checkpoints.request();
    if (this.sealed === null) this.checkpoints.start();
  }

  /**
   * Marks the log empty, after {@link flushAll}. Returns false if nothing was ever logged, so that nothing need be
   * written. The caller clears needs_recovery afterwards.
   */
  markEmpty(): boolean {
    if (!this.begun) return false;
    if (this.failure !== null || !this.checkpoints.allHome) throw new Error('the log is not empty');
    this.writeNow(this.store.markEmpty(this.nextTid));
    this.begun = false;
    return true;
  }

  /**
   * Gives up: nothing is logged or written home from here on. The errno is kept in the journal superblock, where the
   * next mount finds it (jbd2_journal_abort).
   */
  abort(error: FsError): void {
    if (this.failure !== null) return;
    this.halt(error);
    try {
      const steps = this.store.noteError(-error.errno);
      if (this.begun) this.writeNow(steps);
    } catch {
      // The device that made us give up need not take this write either; the log itself is what counts.
    }
    this.tellAborted(error);
  }

  /** Gives up and leaves no trace of it: as if the power had gone. */
  stop(error: FsError): void {
    if (this.failure !== null) return;
    this.halt(error);
    this.tellAborted(error);
  }

  /** What is under way goes no further: it may build on what is lost, or take back what is written from here on. */
  private halt(error: FsError): void {
    this.failure = error;
    this.disarmTimer();
    this.store.device.cancel?.();
    this.commitJob?.wait();
    this.checkpoints.wait();
    this.fast.wait();
  }

  private tellAborted(error: FsError): void {
    for (const transaction of [this.running, this.sealed]) {
      if (transaction !== null) for (const tell of transaction.waiters.splice(0)) queueMicrotask(() => tell(error));
    }
    for (const tell of this.fast.takeWaiters()) queueMicrotask(() => tell(error));
    this.data.giveUp(error);
    this.tellReady();
    this.hooks.aborted(error);
  }

  /** Something was logged, or will be, since the log was last marked empty. */
  get hasWork(): boolean {
    return this.begun || (this.running !== null && !this.running.empty);
  }

  /** A journal that takes no steps: the filesystem is read-only. */
  disable(): void {
    this.failure = new FsError('EROFS', 'the filesystem is read-only');
  }

  // For handles

  takeCopy(block: CachedBlock): Uint8Array {
    const copy = this.spareCopies.pop() ?? new Uint8Array(this.store.blockSize);
    copy.set(block.bytes as Uint8Array);
    return copy;
  }

  returnCopy(copy: Uint8Array): void {
    if (this.spareCopies.length < SPARE_COPIES) this.spareCopies.push(copy);
  }

  canExtend(handle: Handle, more: number): boolean {
    const wanted = handle.transaction.blocks.size + handle.credits + more;
    return (
      wanted <= this.maxTransactionBlocks &&
      this.store.blocksFor(wanted, handle.transaction.revoked.size) <= this.store.freeBlocks
    );
  }

  /** The part of a handle done so far stays in its transaction; the rest gets room in a new one. */
  restart(credits: number): Transaction {
    return this.reserve(Math.min(credits, this.maxTransactionBlocks));
  }

  /** The running transaction with room for `credits` more blocks, in it and in the log. */
  private reserve(creditsAsked: number): Transaction {
    const credits = Math.min(creditsAsked, this.maxTransactionBlocks);
    if (this.running !== null && this.running.blocks.size + credits > this.maxTransactionBlocks) {
      this.waitForCommit();
      this.startCommit();
    }
    const needed = () =>
      this.store.blocksFor((this.running?.blocks.size ?? 0) + credits, this.running?.revoked.size ?? 0);
    if (needed() > this.store.freeBlocks) {
      // The log is full: what is committed goes home first, then, if that is not enough, what is running as well.
      this.checkpointNow();
      if (needed() > this.store.freeBlocks) this.flushAll();
      if (this.failure !== null) throw new FsError('EROFS', 'the journal was aborted');
      if (needed() > this.store.freeBlocks) {
        this.abort(new FsError('EIO', 'the log is full and its blocks cannot be written home'));
        throw new FsError('EROFS', 'the journal was aborted');
      }
    }
    if (this.running === null) {
      this.running = new Transaction(this.nextTid, this.hooks.monotonicMs());
      this.nextTid = tidNext(this.nextTid);
    }
    return this.running;
  }

  private afterStep(): void {
    const { running } = this;
    if (running === null || this.failure !== null) return;
    if (running.blocks.size >= this.commitAtBlocks) this.startCommit();
    else if (this.cancelTimer === null && !running.empty) {
      this.cancelTimer = this.hooks.schedule(this.commitIntervalMs, () => {
        this.cancelTimer = null;
        this.startCommit();
      });
    }
  }

  private disarmTimer(): void {
    this.cancelTimer?.();
    this.cancelTimer = null;
  }

  private submitCommit(transaction: Transaction): void {
    if (!this.makeRoomFor(transaction)) return;
    this.sealed = transaction;
    this.data.sealed();
    let steps: IoStep[];
    try {
      steps = this.begun ? [] : this.begin(transaction);
    } catch (error) {
      if (!(error instanceof FsError || error instanceof CorruptionError)) throw error;
      this.abort(error instanceof FsError ? error : new FsError('EIO', error.message));
      this.sealed = null;
      return;
    }
    steps.push(...this.store.seal(transaction, this.hooks.now()));
    this.checkpoints.takeSealed(transaction);
    const covered = this.data.version;
    this.commitJob = this.store.device.submit(steps, (error) => {
      this.commitJob = null;
      if (this.failure !== null) {
        this.sealed = null;
        for (const tell of transaction.waiters.splice(0)) tell(this.failure);
      } else if (error !== null) {
        this.abort(error);
        this.sealed = null;
      } else {
        this.data.covered(covered);
        this.finishCommit(transaction);
      }
    });
  }

  /** Handles reserve log space for their blocks; what they revoke may take more. False: there is none, and never will be. */
  private makeRoomFor(transaction: Transaction): boolean {
    const needed = this.store.blocksFor(transaction.blocks.size, transaction.revoked.size);
    if (needed > this.store.freeBlocks) this.checkpointNow();
    if (needed <= this.store.freeBlocks && this.failure === null) return true;
    // Those who wait for it are told by the abort.
    this.sealed = transaction;
    this.abort(new FsError('EIO', 'the log is full and its blocks cannot be written home'));
    this.sealed = null;
    return false;
  }

  /** What comes before the first record: the image says that there is a log to replay, and the log where it starts. */
  private begin(transaction: Transaction): IoStep[] {
    const marks = this.hooks.beforeFirstCommit();
    this.begun = true;
    return [...marks, ...this.store.begin(transaction.tid)];
  }

  private finishCommit(transaction: Transaction): void {
    this.sealed = null;
    transaction.state = 'COMMITTED';
    this.lastCommitted = transaction.tid;
    this.store.fastArea?.reset();
    this.dropForgotten(transaction);
    this.checkpoints.takeCommitted(transaction);
    transaction.blocks.clear();
    this.hooks.committed(transaction.tid);
    this.data.defer(transaction.onCommit, this.checkpoints.job);
    this.data.runDeferred(this.checkpoints.job);
    for (const tell of transaction.waiters) tell(null);
    this.afterCommit();
  }

  /** Nothing changed, but someone waits or cleans up: everything before it is durable already. */
  private finishEmpty(transaction: Transaction): void {
    transaction.state = 'FINISHED';
    // The log must not miss a tid: replay would end at the gap.
    this.nextTid = transaction.tid;
    this.dropForgotten(transaction);
    this.data.defer(transaction.onCommit, this.checkpoints.job);
    this.data.runDeferred(this.checkpoints.job);
    for (const tell of transaction.waiters) queueMicrotask(() => tell(null));
  }

  private afterCommit(): void {
    this.tellReady();
    const again = this.commitAgain || (this.running !== null && this.running.waiters.length > 0);
    this.commitAgain = false;
    this.checkpoints.startIfDue();
    if (again) this.startCommit();
    else this.startFastCommit();
  }

  private checkpointEnded(error: FsError | null): void {
    this.data.runDeferred(null);
    if (error === null) return;
    // The log keeps everything; the tail on disk is the old one or the new one, and both are right. File data is not
    // in the log: if some was waiting for this flush, it may be lost.
    if (this.checkpoints.failures > 1 || !this.data.isFlushed || !this.data.idle) this.abort(error);
    this.tellReady();
    // Those who wait for an empty log get a commit instead.
    if (this.fast.waiting) this.startCommit();
  }

  private checkpointFreed(): void {
    this.tellReady();
    this.startFastCommit();
  }

  /** Freed blocks leave memory: their home may belong to file data from now on and must not be written. */
  private dropForgotten(transaction: Transaction): void {
    for (const block of transaction.forgotten) {
      if (block.transaction !== transaction) continue;
      block.transaction = null;
      this.checkpoints.forget(block);
      this.cache.drop(block);
    }
    transaction.forgotten.clear();
  }

  private waitForCommit(): void {
    while (this.commitJob !== null || this.fast.busy) {
      this.commitJob?.wait();
      this.fast.wait();
    }
  }

  private writeNow(steps: readonly IoStep[]): void {
    for (const step of steps) {
      if (step.kind === 'flush') this.store.device.flush();
      else this.store.device.write(step.offsetBytes, step.bytes);
    }
  }

  private tellReady(): void {
    for (const tell of this.readyWaiters.splice(0)) tell();
  }
}
