/**
 * A filesystem without a journal (ext2, and what an allocator test needs): a commit flushes file data, writes its blocks
 * home, and flushes. What was synced is there after a crash, but a crash in between leaves a part of the transaction,
 * for e2fsck to mend.
 */
import type { BlockDevice, IoStep } from '../block/device.js';
import { homeWrites } from './checkpoint.js';
import { stampChecksums } from './commit.js';
import type { Transaction } from './transaction.js';
import type { CheckpointPlan, TransactionStore } from './transaction-store.js';

/** Blocks of one transaction: what is kept in memory for it. */
const CAPACITY_BLOCKS = 1 << 16;

export class HomeStore implements TransactionStore {
  readonly device: BlockDevice;
  readonly blockSize: number;
  readonly logged = false;
  readonly fastArea = null;
  readonly firstTid = 1;
  readonly capacity = CAPACITY_BLOCKS;
  readonly freeBlocks = CAPACITY_BLOCKS;

  constructor(device: BlockDevice, blockSize: number) {
    this.device = device;
    this.blockSize = blockSize;
  }

  blocksFor(blocks: number): number {
    return blocks;
  }

  begin(): IoStep[] {
    return [{ kind: 'flush' }];
  }

  seal(transaction: Transaction): IoStep[] {
    const blocks = [...transaction.blocks.values()];
    stampChecksums(blocks);
    transaction.state = 'SEALED';
    const content = (block: { readonly bytes: unknown }) => block.bytes as Uint8Array;
    return [{ kind: 'flush' }, ...homeWrites(blocks, this.blockSize, content), { kind: 'flush' }];
  }

  planCheckpoint(): CheckpointPlan {
    throw new Error('without a log there is nothing to bring home');
  }

  checkpointed(): void {}

  markEmpty(): IoStep[] {
    return [];
  }

  noteError(): IoStep[] {
    return [];
  }
}
