/** One compound transaction: everything that handles changed between two seals (struct transaction_s). */
import type { FsError } from '../errors.js';
import type { CachedBlock } from './block-cache.js';
import type { Tid } from './tid.js';

/**
 * RUNNING: handles join it. SEALED: content frozen, waiting for or in its log I/O. COMMITTED: durable in the log, some
 * blocks not yet home. FINISHED: checkpointed, its log space is free.
 */
export type TransactionState = 'RUNNING' | 'SEALED' | 'COMMITTED' | 'FINISHED';

export class Transaction {
  readonly tid: Tid;
  readonly startedAtMs: number;
  state: TransactionState = 'RUNNING';
  /** Every metadata block that a handle changed, by block number: what the log will hold. */
  readonly blocks = new Map<number, CachedBlock>();
  /** Blocks freed here: not logged, and dropped from memory once this transaction is durable. */
  readonly forgotten = new Set<CachedBlock>();
  /** Blocks freed here that earlier transactions may have logged: replay must not bring them back. */
  readonly revoked = new Set<number>();
  /** Run once the transaction is durable and no I/O that started before its seal is still under way. */
  readonly onCommit: (() => void)[] = [];
  /** Told when the transaction is durable, or that it never will be. */
  readonly waiters: ((error: FsError | null) => void)[] = [];
  /** Handles that changed something, and how many of them a durable fast commit covers. */
  changes = 0;
  fastCommitted = 0;
  /** Something was changed that no fast commit can say. */
  needsFullCommit = false;
  /** First block of this transaction in the log, once sealed. */
  logStart = 0;
  /** Log blocks it occupies, once sealed. */
  logBlocks = 0;

  constructor(tid: Tid, nowMs: number) {
    this.tid = tid;
    this.startedAtMs = nowMs;
  }

  /** Nothing to commit: no block changed, nothing revoked, nothing to run and nobody to tell. */
  get empty(): boolean {
    return this.blocks.size === 0 && this.revoked.size === 0 && this.onCommit.length === 0 && this.waiters.length === 0;
  }
}
