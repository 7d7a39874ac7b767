/**
 * The log as a ring of blocks [first, end): where its blocks lie on the device, how much of it is free, and the journal
 * superblock that says where its tail is.
 */
import type { BlockDevice, IoStep } from '../block/device.js';
import type { CachedBlock } from './block-cache.js';
import { planCheckpoint } from './checkpoint.js';
import { sealTransaction } from './commit.js';
import { FastArea } from './fast-area.js';
import type { JournalSuperblock } from './journal-superblock.js';
import { RecordShape } from './record-writer.js';
import type { Tid } from './tid.js';
import type { Transaction } from './transaction.js';
import type { CheckpointPlan, TransactionStore } from './transaction-store.js';

export class Log implements TransactionStore {
  readonly device: BlockDevice;
  readonly superblock: JournalSuperblock;
  readonly blockSize: number;
  readonly logged = true;
  readonly firstTid: Tid;
  /** Filesystem block of each log block (jbd2's bmap). */
  private readonly blockMap: Float64Array;
  /** How records are laid out; fixed by {@link prepareForWriting}. */
  shape: RecordShape;
  fastArea: FastArea | null = null;
  /** Log block that the next transaction starts at. */
  head: number;
  /** Blocks not held by a transaction that replay would need. */
  freeBlocks: number;

  /** An empty log: recovery has run, or the log was clean. */
  constructor(device: BlockDevice, superblock: JournalSuperblock, blockMap: Float64Array) {
    this.device = device;
    this.superblock = superblock;
    this.blockSize = superblock.blockSize;
    this.firstTid = superblock.sequence;
    this.blockMap = blockMap;
    this.shape = new RecordShape(superblock);
    this.head = superblock.first;
    this.freeBlocks = this.capacity;
  }

  /** Sets the features this program writes; only while the log is empty. */
  prepareForWriting(filesystem: { is64bit: boolean; metadataCsum: boolean }): void {
    this.superblock.prepareForWriting(filesystem);
    this.shape = new RecordShape(this.superblock);
  }

  /** Fast commits may be written behind the log; only while it is empty. Does nothing if that leaves less than `minLogBlocks`. */
  allowFastCommits(minLogBlocks: number): void {
    if (!this.superblock.makeFastCommitArea(minLogBlocks)) return;
    this.fastArea = new FastArea(this.superblock, this.blockMap);
    this.freeBlocks = this.capacity;
  }

  get capacity(): number {
    return this.superblock.end - this.superblock.first;
  }

  blocksFor(blocks: number, revokes: number): number {
    return this.shape.logBlocks(blocks, revokes);
  }

  /** The superblock says where the log begins. */
  begin(tid: Tid): IoStep[] {
    this.superblock.setTail(tid, this.head);
    // Fast commits of an earlier use of the log mean nothing any more.
    const erase = this.fastArea === null ? [] : [this.fastArea.eraseStep()];
    return [...erase, this.superblockStep(), { kind: 'flush' }];
  }

  seal(transaction: Transaction, now: { seconds: number; nanoseconds: number }): IoStep[] {
    const steps = sealTransaction(this, transaction, now);
    // Not before the commit block is durable: until then they are what has been promised.
    if (this.fastArea !== null && !this.fastArea.isEmpty) steps.push(this.fastArea.eraseStep(), { kind: 'flush' });
    return steps;
  }

  planCheckpoint(transactions: readonly Transaction[], pending: Iterable<CachedBlock>, nextTid: Tid): CheckpointPlan {
    return planCheckpoint(this, transactions, pending, nextTid);
  }

  checkpointed(plan: CheckpointPlan): void {
    this.superblock.setTail(plan.nextTid, plan.tail);
    this.freeBlocks += plan.logBlocks;
  }

  markEmpty(nextTid: Tid): IoStep[] {
    this.superblock.setTail(nextTid, 0);
    if (this.fastArea !== null) this.superblock.setFastCommit(false);
    const steps: IoStep[] = [this.superblockStep(), { kind: 'flush' }];
    if (this.fastArea !== null) this.superblock.setFastCommit(true);
    return steps;
  }

  /** jbd2_journal_abort: s_errno, where the next mount finds it. */
  noteError(errno: number): IoStep[] {
    this.superblock.setErrno(errno);
    return [this.superblockStep(), { kind: 'flush' }];
  }

  /** Takes `count` blocks at the head; returns the first. The caller has checked `freeBlocks`. */
  take(count: number): number {
    if (count > this.freeBlocks) throw new Error(`the log has ${this.freeBlocks} free blocks, ${count} were taken`);
    const start = this.head;
    this.head = this.wrap(this.head + count);
    this.freeBlocks -= count;
    return start;
  }

  wrap(logBlock: number): number {
    const { end } = this.superblock;
    return logBlock >= end ? logBlock - this.capacity : logBlock;
  }

  /** Writes for `bytes` (whole blocks) laid out from log block `start` on: one for each run contiguous on the device. */
  writeSteps(start: number, bytes: Uint8Array): IoStep[] {
    const steps: IoStep[] = [];
    const count = bytes.length / this.blockSize;
    let done = 0;
    while (done < count) {
      const firstFsBlock = this.blockMap[this.wrap(start + done)];
      let run = 1;
      while (done + run < count && this.blockMap[this.wrap(start + done + run)] === firstFsBlock + run) run++;
      steps.push({
        kind: 'write',
        offsetBytes: firstFsBlock * this.blockSize,
        bytes: bytes.subarray(done * this.blockSize, (done + run) * this.blockSize),
      });
      done += run;
    }
    return steps;
  }

  /** A write of the journal superblock as it is now: its content is copied. */
  superblockStep(): IoStep {
    return { kind: 'write', offsetBytes: this.blockMap[0] * this.blockSize, bytes: this.superblock.bytes.slice() };
  }

  /** A write of the journal superblock with another tail; what is in memory keeps the old one until that is durable. */
  tailStep(sequence: Tid, start: number): IoStep {
    const { sequence: oldSequence, start: oldStart } = this.superblock;
    this.superblock.setTail(sequence, start);
    const step = this.superblockStep();
    this.superblock.setTail(oldSequence, oldStart);
    return step;
  }
}
