/** Where sealed transactions go: into a log (log.ts), or, in a filesystem that has none, straight home (home-store.ts). */
import type { BlockDevice, IoStep } from '../block/device.js';
import type { CachedBlock } from './block-cache.js';
import type { FastArea } from './fast-area.js';
import type { Tid } from './tid.js';
import type { Transaction } from './transaction.js';

export interface CheckpointPlan {
  readonly steps: IoStep[];
  readonly blocks: readonly CachedBlock[];
  /** Log space that is free once the steps are done. */
  readonly logBlocks: number;
  /** Where the log then begins. */
  readonly nextTid: Tid;
  readonly tail: number;
}

export interface TransactionStore {
  readonly device: BlockDevice;
  readonly blockSize: number;
  /** Committed blocks wait for a checkpoint to bring them home. If false they are there when their commit is durable. */
  readonly logged: boolean;
  readonly firstTid: Tid;
  /** Blocks it can hold at most. */
  readonly capacity: number;
  /** Blocks not held by a transaction that replay would need. */
  readonly freeBlocks: number;
  /** Where fast commits go; null: there are none. */
  readonly fastArea: FastArea | null;
  /** Blocks that a transaction of so many metadata blocks and revokes takes. */
  blocksFor(blocks: number, revokes: number): number;
  /** What must be durable before `tid`, the first transaction since it was empty, is written. */
  begin(tid: Tid): IoStep[];
  /** Seals the transaction: takes its space, and returns the steps after which it is durable. */
  seal(transaction: Transaction, now: { seconds: number; nanoseconds: number }): IoStep[];
  /** What to write for `transactions`, all committed, the oldest first, so that the log begins at `nextTid`. */
  planCheckpoint(transactions: readonly Transaction[], pending: Iterable<CachedBlock>, nextTid: Tid): CheckpointPlan;
  /** The steps of the plan are durable: its space is free. */
  checkpointed(plan: CheckpointPlan): void;
  /** Steps that mark it empty; `nextTid` comes next. */
  markEmpty(nextTid: Tid): IoStep[];
  /** Steps that keep an errno for the next mount. */
  noteError(errno: number): IoStep[];
}
