/**
 * The fast-commit area behind the log (jbd2_fc_get_buf): blocks that are written one after the other on top of the last
 * transaction, and again from the start once the next one is durable. What is in them is not the log's business.
 */
import type { IoStep } from '../block/device.js';
import type { JournalSuperblock } from './journal-superblock.js';

export class FastArea {
  readonly blockSize: number;
  private readonly superblock: JournalSuperblock;
  private readonly blockMap: Float64Array;
  /** Blocks that hold fast commits on top of the last transaction. */
  private used = 0;

  constructor(superblock: JournalSuperblock, blockMap: Float64Array) {
    this.superblock = superblock;
    this.blockMap = blockMap;
    this.blockSize = superblock.blockSize;
  }

  get isEmpty(): boolean {
    return this.used === 0;
  }

  get freeBlocks(): number {
    return this.superblock.maxLen - this.firstLogBlock - this.used;
  }

  /** Log block `end` lies between log and area and is in neither (j_fc_first = j_last + 1). */
  private get firstLogBlock(): number {
    return this.superblock.end + 1;
  }

  /** A transaction is durable: what was on top of the one before is void. */
  reset(): void {
    this.used = 0;
  }

  /**
   * Takes away the head of what is void. The kernel passes over the head of another transaction; e2fsck (1.47) calls it an
   * invalid argument, and then replays nothing of the log at all.
   */
  eraseStep(): IoStep {
    return this.write(this.firstLogBlock, new Uint8Array(this.blockSize), 0);
  }

  /**
   * Takes blocks for `bytes`, one whole fast commit, and returns the steps after which it is durable. One block is written
   * when everything else is durable, file data included: the last, whose tail makes the fast commit count; of the first
   * one the head, for the kernel refuses to mount where a head is followed by something that is not whole.
   */
  steps(bytes: Uint8Array): IoStep[] {
    const count = bytes.length / this.blockSize;
    const last = this.isEmpty ? 0 : count - 1;
    const start = this.firstLogBlock + this.used;
    this.used += count;
    const writes: IoStep[] = [];
    for (let i = 0; i < count; i++) {
      if (i !== last) writes.push(this.write(start + i, bytes, i));
    }
    return [...writes, { kind: 'flush' }, this.write(start + last, bytes, last), { kind: 'flush' }];
  }

  private write(logBlock: number, bytes: Uint8Array, index: number): IoStep {
    const { blockSize } = this;
    return {
      kind: 'write',
      offsetBytes: this.blockMap[logBlock] * blockSize,
      bytes: bytes.subarray(index * blockSize, (index + 1) * blockSize),
    };
  }
}

/** What the log's user puts into the area. */
export interface FastCommitRequest {
  /** The running transaction. */
  readonly tid: number;
  /** The first one on top of the last transaction. */
  readonly isFirst: boolean;
  readonly blockSize: number;
  readonly maxBlocks: number;
}

export type BuildFastCommit = (request: FastCommitRequest) => Uint8Array | null;
