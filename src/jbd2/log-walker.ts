/**
 * Reads the log record by record, the way recovery meets it: from a starting block around the ring, for as long as each
 * record carries the expected tid. Only descriptor, revoke and commit blocks are records; the blocks that a descriptor
 * names are skipped or read by number. No checksum is judged here: which ones count depends on who reads.
 */
import type { BlockDevice } from '../block/device.js';
import { type ReadView, readView } from '../codec/view.js';
import { type BlockTag, decodeTags, tailMatches } from './descriptor-block.js';
import { BlockType, JBD2_MAGIC, JOURNAL_HEADER } from './format.js';
import type { JournalSuperblock } from './journal-superblock.js';
import { RecordShape } from './record-writer.js';
import type { Tid } from './tid.js';

/** A log on a device: what recovery and the `journal` command read. */
export interface LogSource {
  readonly device: BlockDevice;
  readonly superblock: JournalSuperblock;
  /** Filesystem block of each log block. */
  readonly blockMap: Float64Array;
}

interface RecordBase {
  readonly logBlock: number;
  readonly tid: Tid;
  readonly bytes: Uint8Array;
  readonly view: ReadView;
}

/** One record. `sound` is false if the checksum of its tail does not match. */
export type LogRecord =
  | (RecordBase & { readonly kind: 'descriptor'; readonly tags: readonly BlockTag[]; readonly sound: boolean })
  | (RecordBase & { readonly kind: 'revoke'; readonly sound: boolean })
  | (RecordBase & { readonly kind: 'commit' });

export class LogWalker {
  readonly source: LogSource;
  readonly shape: RecordShape;
  /** Log block that is read next. */
  position: number;
  /** Why {@link next} returned null. */
  end = '';
  /** Blocks passed since the start. */
  private passed = 0;
  private readonly capacity: number;

  constructor(source: LogSource, start: number) {
    this.source = source;
    this.shape = new RecordShape(source.superblock);
    this.position = start;
    this.capacity = source.superblock.end - source.superblock.first;
  }

  /**
   * The record at the current position if it belongs to `tid`; null, with the reason in {@link end}, if it does not.
   * Leaves the position after it; after a descriptor that is the first block it names.
   */
  next(tid: Tid): LogRecord | null {
    if (this.passed >= this.capacity) {
      this.end = 'the record that the log starts with';
      return null;
    }
    const logBlock = this.position;
    const bytes = this.read(logBlock);
    const view = readView(bytes);
    if (JOURNAL_HEADER.h_magic.get(view, 0) !== JBD2_MAGIC) {
      this.end = 'no record';
      return null;
    }
    const sequence = JOURNAL_HEADER.h_sequence.get(view, 0);
    if (sequence !== tid) {
      this.end = `a record of transaction ${sequence}`;
      return null;
    }
    const record = this.decode({ logBlock, tid, bytes, view });
    if (record !== null) this.skip(1);
    return record;
  }

  private decode(base: RecordBase): LogRecord | null {
    const { shape } = this;
    const type = JOURNAL_HEADER.h_blocktype.get(base.view, 0);
    const sound = () => tailMatches(shape, base.bytes, base.view);
    switch (type) {
      case BlockType.DESCRIPTOR:
        return { ...base, kind: 'descriptor', tags: decodeTags(shape, base.view), sound: sound() };
      case BlockType.REVOKE:
        return { ...base, kind: 'revoke', sound: sound() };
      case BlockType.COMMIT:
        return { ...base, kind: 'commit' };
      default:
        this.end = `a record of unknown type ${type}`;
        return null;
    }
  }

  /** Passes over `count` blocks. */
  skip(count: number): void {
    this.passed += count;
    this.position = this.after(this.position, count);
  }

  /** The log block `count` places after `logBlock`, around the end of the ring. */
  after(logBlock: number, count: number): number {
    const { first } = this.source.superblock;
    return first + ((logBlock - first + count) % this.capacity);
  }

  /** The content of a log block. */
  read(logBlock: number, into = new Uint8Array(this.source.superblock.blockSize)): Uint8Array {
    const { device, superblock, blockMap } = this.source;
    device.read(blockMap[logBlock] * superblock.blockSize, into);
    return into;
  }
}
