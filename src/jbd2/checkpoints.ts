/**
 * Committed transactions whose blocks are not home yet, and the checkpoint under way (jbd2_log_do_checkpoint). What a
 * checkpoint writes, and in which order, is in checkpoint.ts; when there is one is for the journal to say.
 */
import type { IoJob } from '../block/device.js';
import type { FsError } from '../errors.js';
import type { BlockCache, CachedBlock } from './block-cache.js';
import { tidGt, tidNext } from './tid.js';
import type { Transaction } from './transaction.js';
import type { TransactionStore } from './transaction-store.js';

export interface CheckpointHooks {
  /** The journal has given up: nothing goes home any more. */
  stopped(): boolean;
  /** A checkpoint has ended, before its blocks are let go; `error`: nothing of it counts, and all of it can be tried again. */
  ended(error: FsError | null): void;
  /** The log space of what went home is free. */
  freed(): void;
  /** The copy of a block's content is not needed any more. */
  returnCopy(copy: Uint8Array): void;
}

export class Checkpoints {
  private readonly store: TransactionStore;
  private readonly cache: BlockCache;
  private readonly hooks: CheckpointHooks;
  /** Metadata not yet home that is kept in memory before a checkpoint is due. */
  private readonly mostBytes: number;
  /** The oldest first. */
  private readonly transactions: Transaction[] = [];
  /** Every block whose `checkpoint` is set. */
  private readonly pending = new Set<CachedBlock>();
  private wanted = false;
  /** In a row. */
  failures = 0;
  lastError: FsError | null = null;
  job: IoJob | null = null;

  constructor(store: TransactionStore, cache: BlockCache, mostBytes: number, hooks: CheckpointHooks) {
    this.store = store;
    this.cache = cache;
    this.mostBytes = mostBytes;
    this.hooks = hooks;
  }

  /** Every committed transaction is home, and the tail on disk behind it. */
  get allHome(): boolean {
    return this.transactions.length === 0;
  }

  startIfDue(): void {
    if (this.wanted || this.isDue()) this.start();
  }

  /** The log is half full, or too much is in memory. */
  private isDue(): boolean {
    return this.pendingBytes > this.mostBytes || this.store.freeBlocks < this.store.capacity / 2;
  }

  /** Commits bring more than the checkpoint under way takes home: whoever can should wait. */
  get isBehind(): boolean {
    return this.job !== null && this.pendingBytes > this.mostBytes * 2;
  }

  private get pendingBytes(): number {
    return this.pending.size * this.store.blockSize;
  }

  request(): void {
    this.wanted = true;
  }

  /** The sealed content is what the next checkpoint writes; changes from here on belong to the next transaction. */
  takeSealed(transaction: Transaction): void {
    for (const block of transaction.blocks.values()) {
      block.transaction = null;
      block.dirty = false;
      this.returnCopy(block);
      block.checkpoint = transaction;
      this.pending.add(block);
    }
  }

  /** The transaction is durable. Without a log that is a checkpoint as well. */
  takeCommitted(transaction: Transaction): void {
    if (this.store.logged) {
      this.transactions.push(transaction);
      return;
    }
    transaction.state = 'FINISHED';
    for (const block of transaction.blocks.values()) if (block.checkpoint === transaction) this.release(block);
  }

  /** Begins one, unless one is under way or there is nothing to bring home. */
  start(): void {
    if (this.job !== null || this.hooks.stopped()) return;
    this.wanted = false;
    if (this.transactions.length === 0) return;
    const transactions = [...this.transactions];
    const last = transactions[transactions.length - 1];
    const plan = this.store.planCheckpoint(transactions, this.pending, tidNext(last.tid));
    this.job = this.store.device.submit(plan.steps, (error) => {
      this.job = null;
      if (this.hooks.stopped()) return;
      this.lastError = error;
      this.failures = error === null ? 0 : this.failures + 1;
      this.hooks.ended(error);
      if (error !== null) return;
      this.transactions.splice(0, transactions.length);
      for (const transaction of transactions) transaction.state = 'FINISHED';
      for (const block of plan.blocks) {
        // A block sealed again meanwhile waits for the next checkpoint.
        if (block.checkpoint !== null && tidGt(block.checkpoint.tid, last.tid)) continue;
        this.release(block);
      }
      this.store.checkpointed(plan);
      this.hooks.freed();
    });
  }

  /** Blocks the thread until the one under way is over. */
  wait(): void {
    this.job?.wait();
  }

  private release(block: CachedBlock): void {
    block.checkpoint = null;
    this.returnCopy(block);
    this.pending.delete(block);
    this.cache.unpin(block);
  }

  private returnCopy(block: CachedBlock): void {
    if (block.committedCopy === null) return;
    this.hooks.returnCopy(block.committedCopy);
    block.committedCopy = null;
  }

  /** A freed block leaves memory: its home may belong to file data from now on and must not be written. */
  forget(block: CachedBlock): void {
    block.checkpoint = null;
    block.committedCopy = null;
    this.pending.delete(block);
  }
}
