/**
 * Fast commits (jbd2_fc_begin_commit, jbd2_fc_end_commit): what the running transaction has changed is made durable in
 * the area behind the log, in the words of the log's user, while the transaction goes on. A crash before it commits finds
 * the last transaction and the fast commits on top of it. One at a time, and never beside a commit: on top of a transaction
 * that is not durable they mean nothing.
 *
 * The first one on top of a transaction waits until the log is empty: e2fsck (1.47) replays them with the superblock and the
 * group descriptors that it read before it replayed the log, and would take back what the log said of them.
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
  /** Fsyncs in a row that a fast commit would have been enough for. */
  private inARow = 0;
  /** So many of them are worth a checkpoint. */
  private readonly worthCheckpoint: number;

  constructor(
    store: TransactionStore,
    data: FileData,
    build: BuildFastCommit | null,
    worthCheckpoint: number,
    over: (error: FsError | null) => void,
  ) {
    this.worthCheckpoint = worthCheckpoint;
    this.store = store;
    this.data = data;
    this.build = build;
    this.over = over;
  }

  /** Someone waits for this transaction. True if a fast commit should do, with `isLogEmpty` or once it is. */
  allows(transaction: Transaction, isLogEmpty: boolean): boolean {
    if (this.build === null || this.store.fastArea === null) return false;
    if (transaction.needsFullCommit) this.inARow = 0;
    else this.inARow++;
    return this.inARow > (isLogEmpty ? 0 : this.worthCheckpoint);
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
