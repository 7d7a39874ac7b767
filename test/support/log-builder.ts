/**
 * Logs written by hand, transaction by transaction, at any place of the ring and with any tid: what a kernel could have
 * left, and what none would. The log lies behind the home blocks, scattered, so that nothing can take it for contiguous.
 */
import { MemoryDevice } from '../../src/block/memory-device.js';
import { crc32Be } from '../../src/codec/crc.js';
import { ownView } from '../../src/codec/view.js';
import {
  BlockType,
  CHECKSUM_TYPE,
  COMMIT_HEADER,
  JBD2_FEATURE_COMPAT_CHECKSUM,
  JBD2_FEATURE_INCOMPAT,
  JBD2_MAGIC,
  JOURNAL_HEADER,
  JOURNAL_SUPERBLOCK,
} from '../../src/jbd2/format.js';
import { JournalSuperblock } from '../../src/jbd2/journal-superblock.js';
import type { LogSource } from '../../src/jbd2/log-walker.js';
import { RecordShape, RecordWriter } from '../../src/jbd2/record-writer.js';
import type { Tid } from '../../src/jbd2/tid.js';

export const BLOCK_SIZE = 1024;
export const HOME_BLOCKS = 64;

export interface LogOptions {
  readonly logBlocks?: number;
  readonly sequence?: Tid;
  /** Log block of the first record. */
  readonly start?: number;
  readonly features?: readonly (keyof typeof JBD2_FEATURE_INCOMPAT)[];
  readonly checksumV1?: boolean;
}

export interface TransactionPlan {
  /** Home block, and the byte that fills its copy, or the copy itself. */
  readonly blocks?: readonly (readonly [number, number | Uint8Array])[];
  readonly revokes?: readonly number[];
  readonly seconds?: number;
  /** False leaves the commit block out. */
  readonly commit?: boolean;
}

export function filled(byte: number): Uint8Array {
  return new Uint8Array(BLOCK_SIZE).fill(byte);
}

export class LogBuilder {
  readonly image: Uint8Array;
  readonly blockMap: Float64Array;
  readonly superblock: JournalSuperblock;
  private readonly shape: RecordShape;
  private readonly checksumV1: boolean;
  /** Log block that the next record goes to. */
  head: number;
  private tid: Tid;

  constructor(options: LogOptions = {}) {
    const { logBlocks = 32, sequence = 1, start = 1, features = ['REVOKE'], checksumV1 = false } = options;
    this.image = new Uint8Array((HOME_BLOCKS + logBlocks) * BLOCK_SIZE);
    // Backwards: neighbours in the log are never neighbours in this order on the device.
    this.blockMap = Float64Array.from({ length: logBlocks }, (_, i) => HOME_BLOCKS + logBlocks - 1 - i);
    const bytes = new Uint8Array(1024);
    const view = ownView(bytes);
    JOURNAL_SUPERBLOCK.h_magic.set(view, 0, JBD2_MAGIC);
    JOURNAL_SUPERBLOCK.h_blocktype.set(view, 0, BlockType.SUPERBLOCK_V2);
    JOURNAL_SUPERBLOCK.s_blocksize.set(view, 0, BLOCK_SIZE);
    JOURNAL_SUPERBLOCK.s_maxlen.set(view, 0, logBlocks);
    JOURNAL_SUPERBLOCK.s_first.set(view, 0, 1);
    const superblock = new JournalSuperblock(bytes, BLOCK_SIZE, logBlocks);
    let incompat = 0;
    for (const feature of features) incompat |= JBD2_FEATURE_INCOMPAT[feature];
    JOURNAL_SUPERBLOCK.s_feature_incompat.set(view, 0, incompat);
    JOURNAL_SUPERBLOCK.s_feature_compat.set(view, 0, checksumV1 ? JBD2_FEATURE_COMPAT_CHECKSUM : 0);
    if (superblock.checksummed) JOURNAL_SUPERBLOCK.s_checksum_type.set(view, 0, CHECKSUM_TYPE.CRC32C);
    bytes.set([7, 7, 7, 7], JOURNAL_SUPERBLOCK.s_uuid.offset);
    superblock.setTail(sequence, start);
    this.superblock = superblock;
    this.shape = new RecordShape(superblock);
    this.checksumV1 = checksumV1;
    this.head = start;
    this.tid = sequence;
  }

  /** Appends a transaction with the next tid; returns its tid and the log block of its first record. */
  transaction(plan: TransactionPlan): { tid: Tid; first: number; end: number } {
    const { blocks = [], revokes = [], seconds = 1_700_000_000, commit = true } = plan;
    const { shape, tid } = this;
    const first = this.head;
    const writer = new RecordWriter(shape, tid, shape.logBlocks(blocks.length, revokes.length));
    for (let i = 0; i < revokes.length; i += shape.revokesPerBlock) {
      writer.revokeBlock(revokes.slice(i, i + shape.revokesPerBlock));
    }
    const summed = writer.blocksWritten;
    for (let i = 0; i < blocks.length; i += shape.tagsPerDescriptor) {
      writer.descriptorWithBlocks(
        blocks.slice(i, i + shape.tagsPerDescriptor).map(([nr, content]) => ({
          nr,
          bytes: typeof content === 'number' ? filled(content) : content,
        })),
      );
    }
    const commitAt = writer.blocksWritten;
    writer.commitBlock({ seconds, nanoseconds: 0 });
    if (this.checksumV1) {
      const covered = writer.buffer.subarray(summed * BLOCK_SIZE, commitAt * BLOCK_SIZE);
      const view = ownView(writer.buffer.subarray(commitAt * BLOCK_SIZE));
      COMMIT_HEADER.h_chksum_type.set(view, 0, CHECKSUM_TYPE.CRC32);
      COMMIT_HEADER.h_chksum_size.set(view, 0, 4);
      view.setUint32(COMMIT_HEADER.h_chksum.offset, crc32Be(0xffffffff, covered));
    }
    const count = commit ? commitAt + 1 : commitAt;
    for (let i = 0; i < count; i++) this.append(writer.buffer.subarray(i * BLOCK_SIZE, (i + 1) * BLOCK_SIZE));
    this.tid = (tid + 1) >>> 0;
    return { tid, first, end: this.head };
  }

  private append(block: Uint8Array): void {
    this.logBlock(this.head).set(block);
    this.head = this.head + 1 === this.superblock.end ? this.superblock.first : this.head + 1;
  }

  /** The memory of a log block, to be damaged. */
  logBlock(logBlock: number): Uint8Array {
    const at = this.blockMap[logBlock] * BLOCK_SIZE;
    return this.image.subarray(at, at + BLOCK_SIZE);
  }

  /** What kind of record a log block holds. */
  recordType(logBlock: number): number {
    return JOURNAL_HEADER.h_blocktype.get(ownView(this.logBlock(logBlock)), 0);
  }

  source(): LogSource {
    return { device: new MemoryDevice(this.image), superblock: this.superblock, blockMap: this.blockMap };
  }
}
