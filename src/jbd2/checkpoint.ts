/**
 * Checkpoint: committed blocks go to their home locations, so that the log space they hold can be used again. In order,
 * each step durable before the next begins:
 *
 *   1. home writes of every block of the committed transactions, sorted;
 *   2. flush;
 *   3. the journal superblock with the tail moved past them;
 *   4. flush. Only now is the log space free.
 *
 * Runs between commits, in the background: the running transaction goes on, and what it changes meanwhile is written
 * from the copy of the committed content.
 */
import type { IoStep } from '../block/device.js';
import type { CachedBlock } from './block-cache.js';
import type { Log } from './log.js';
import type { Tid } from './tid.js';
import type { Transaction } from './transaction.js';
import type { CheckpointPlan } from './transaction-store.js';

/** Most bytes in one home write: contiguous blocks are joined up to this. */
const MAX_WRITE_BYTES = 1 << 20;

/** The content that the last sealed transaction gave this block. */
function committedContent(block: CachedBlock): Uint8Array {
  const bytes = block.transaction === null ? block.bytes : block.committedCopy;
  if (bytes === null) throw new Error(`block ${block.nr} is being changed and its committed content was not kept`);
  return bytes as Uint8Array;
}

/** Writes of blocks to their homes, sorted, contiguous ones in one; the content is copied. */
export function homeWrites(
  blocks: CachedBlock[],
  blockSize: number,
  content: (block: CachedBlock) => Uint8Array,
): IoStep[] {
  blocks.sort((a, b) => a.nr - b.nr);
  const steps: IoStep[] = [];
  for (let i = 0; i < blocks.length; ) {
    let run = 1;
    while (
      i + run < blocks.length &&
      blocks[i + run].nr === blocks[i].nr + run &&
      (run + 1) * blockSize <= MAX_WRITE_BYTES
    ) {
      run++;
    }
    const bytes = new Uint8Array(run * blockSize);
    for (let k = 0; k < run; k++) bytes.set(content(blocks[i + k]), k * blockSize);
    steps.push({ kind: 'write', offsetBytes: blocks[i].nr * blockSize, bytes });
    i += run;
  }
  return steps;
}

/** What to write for `transactions`, all committed, the oldest first; the tail moves to `nextTid` at the log's head. */
export function planCheckpoint(
  log: Log,
  transactions: readonly Transaction[],
  pending: Iterable<CachedBlock>,
  nextTid: Tid,
): CheckpointPlan {
  const blocks = [...pending];
  const steps = homeWrites(blocks, log.blockSize, committedContent);
  steps.push({ kind: 'flush' });
  steps.push(log.tailStep(nextTid, log.head), { kind: 'flush' });
  let logBlocks = 0;
  for (const transaction of transactions) logBlocks += transaction.logBlocks;
  return { steps, blocks, logBlocks, nextTid, tail: log.head };
}
