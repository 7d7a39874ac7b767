/**
 * Fast commits (jbd2_fc_begin_commit, jbd2_fc_end_commit): what the running transaction has changed is made durable in
 * the area behind the log, in the words of the log's user, while the transaction goes on. A crash before it commits finds
 * the last transaction and the fast commits on top of it. One at a time, and never beside a commit: on top of a transaction
 * that is not durable they mean nothing.
 */
import type { IoJob } from '../block/device.js';
import type { FsError } from '../errors.js';
import type { BuildFastCommit } from './fast-area.js';
import type { FileData } from './file-data.js';
import type { Transaction } from './transaction.js';
import type { TransactionStore } from './transaction-store.js';

type Tell = (error: FsError | null) => void;

export class FastCommits {
  private readonly store: TransactionStore;
  private readonly data: FileData;
  private readonly build: BuildFastCommit | null;
  /** One is over: null, or why nothing can be committed any more. */
  private readonly over: (error: FsError | null) => void;
  private waiters: Tell[] = [];
  private job: IoJob | null = null;

  constructor(
    store: TransactionStore,
    data: FileData,
    build: BuildFastCommit | null,
    over: (error: FsError | null) => void,
  ) {
    this.store = store;
    this.data = data;
    this.build = build;
    this.over = over;
  }

  /** Changes of this transaction may be made durable without committing it. */
  allows(transaction: Transaction): boolean {
    return this.build !== null && this.store.fastArea !== null && !transaction.needsFullCommit;
  }

  /** One is being written. */
  get busy(): boolean {
    return this.job !== null;
  }

  wait(): void {
    this.job?.wait();
  }

  get waiting(): boolean {
    return this.waiters.length > 0;
  }

  whenDone(tell: Tell): void {
    this.waiters.push(tell);
  }

  /** Those whom no fast commit under way will tell. */
  takeWaiters(): Tell[] {
    return this.waiters.splice(0);
  }

  /**
   * Begins one for all who wait, on the running transaction. False: it must be committed as a whole, because of what it
   * changed, or because the area is full.
   */
  start(transaction: Transaction): boolean {
    const { fastArea: area, device } = this.store;
    if (this.build === null || area === null || transaction.needsFullCommit) return false;
    const bytes = this.build({
      tid: transaction.tid,
      isFirst: area.isEmpty,
      blockSize: area.blockSize,
      maxBlocks: area.freeBlocks,
    });
    if (bytes === null) {
      // What was to be in it is in no later one.
      transaction.needsFullCommit = true;
      return false;
    }
    const { changes } = transaction;
    const told = this.takeWaiters();
    const covered = this.data.version;
    if (bytes.length === 0) {
      transaction.fastCommitted = changes;
      for (const tell of told) queueMicrotask(() => tell(null));
      return true;
    }
    this.job = device.submit(area.steps(bytes), (error) => {
      this.job = null;
      if (error === null) {
        transaction.fastCommitted = changes;
        this.data.covered(covered);
      }
      for (const tell of told) tell(error);
      this.over(error);
    });
    return true;
  }
}
