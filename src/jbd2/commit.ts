/**
 * Commit: a running transaction is sealed and becomes I/O, in this order, each step done before the next begins:
 *
 *   1. (first commit after the log was empty) superblock with needs_recovery, journal superblock with the tail; flush
 *   2. revoke blocks, then descriptor blocks each followed by copies of the blocks it names
 *   3. flush: data written before the seal and everything of step 2 is durable
 *   4. the commit block
 *   5. flush: the transaction is durable, its waiters are told
 *
 * Sealing copies every block into the log's I/O buffer. That copy is jbd2's frozen data: the next transaction may change
 * the blocks at once, while this one is still being written.
 */
import type { IoStep } from '../block/device.js';
import type { CachedBlock, WritableBlock } from './block-cache.js';
import type { Log } from './log.js';
import { RecordWriter } from './record-writer.js';
import type { Transaction } from './transaction.js';

/** Seals the transaction, takes its log space, and returns steps 2 to 5. */
export function sealTransaction(
  log: Log,
  transaction: Transaction,
  now: { seconds: number; nanoseconds: number },
): IoStep[] {
  const { shape } = log;
  const blocks = [...transaction.blocks.values()];
  const revoked = [...transaction.revoked];
  stampChecksums(blocks);
  transaction.state = 'SEALED';
  transaction.logBlocks = shape.logBlocks(blocks.length, revoked.length);
  transaction.logStart = log.take(transaction.logBlocks);

  const writer = new RecordWriter(shape, transaction.tid, transaction.logBlocks);
  for (let i = 0; i < revoked.length; i += shape.revokesPerBlock) {
    writer.revokeBlock(revoked.slice(i, i + shape.revokesPerBlock));
  }
  for (let i = 0; i < blocks.length; i += shape.tagsPerDescriptor) {
    writer.descriptorWithBlocks(blocks.slice(i, i + shape.tagsPerDescriptor));
  }
  const commitAt = writer.blocksWritten;
  writer.commitBlock(now);
  if (writer.blocksWritten !== transaction.logBlocks)
    throw new Error('a transaction took other log space than it reserved');

  const commitOffset = commitAt * shape.blockSize;
  return [
    ...log.writeSteps(transaction.logStart, writer.buffer.subarray(0, commitOffset)),
    { kind: 'flush' },
    ...log.writeSteps(log.wrap(transaction.logStart + commitAt), writer.buffer.subarray(commitOffset)),
    { kind: 'flush' },
  ];
}

/** All of them before any is copied: a group descriptor's covers the bitmaps that are sealed with it. */
export function stampChecksums(blocks: readonly CachedBlock[]): void {
  for (const block of blocks) block.kind.beforeCommit?.(block as WritableBlock);
}
