/**
 * Recovery (fs/jbd2/recovery.c) in three passes over the log: scan() finds where it ends, revoke() collects what must
 * not come back, replay() says which block of the log goes home to which block of the filesystem. None of them writes:
 * every checksum is judged before the first block goes home, so that a corrupt log leaves the image as it was.
 */
import { crc32Be } from '../codec/crc.js';
import { CorruptionError } from '../errors.js';
import { BlockRuns } from './block-runs.js';
import {
  type CommitBlock,
  commitBlockMatches,
  decodeCommitBlock,
  transactionChecksumMatches,
  V1_CHECKSUM_START,
} from './commit-block.js';
import { tagChecksumMatches } from './descriptor-block.js';
import { TagFlag } from './format.js';
import { LogBlocks } from './log-blocks.js';
import { type LogRecord, type LogSource, LogWalker } from './log-walker.js';
import { decodeRevokes } from './revoke-block.js';
import { RevokeTable } from './revoke-table.js';
import { type Tid, tidNext } from './tid.js';

/** Where a block's newest copy is. */
export interface ReplayedBlock {
  readonly logBlock: number;
  /** Its first four bytes, the magic number, were zeroed in the log. */
  readonly escaped: boolean;
}

export interface RecoveryInfo {
  /** The first transaction in the log. */
  readonly startTid: Tid;
  /** The first that is not whole; replay ends before it. */
  readonly endTid: Tid;
  /** Log block after the last whole transaction. */
  readonly endLogBlock: number;
  /** Why the log ends there. */
  readonly endReason: string;
  /** Whole transactions. */
  readonly transactions: number;
  readonly revokes: RevokeTable;
  /** Copies in the log that a revoke record voids. */
  revokeHits: number;
  /** Copies in the log that count, several of one block included (nr_replays). */
  copies: number;
  /** What goes home: filesystem block to its newest copy. */
  readonly blocks: Map<number, ReplayedBlock>;
}

/**
 * What scan() has seen of the transaction it is in, and of those before. A transaction whose record checksums fail may
 * be one that an earlier use of the log left behind: its commit time, older than the last good one, tells.
 */
class Scan {
  readonly walker: LogWalker;
  tid: Tid;
  transactions = 0;
  /** Set when a commit block's checksum failed: the log ends before this one, whatever follows. */
  failed: { tid: Tid; endLogBlock: number; transactions: number } | null = null;
  endLogBlock: number;
  private unsoundAt: number | null = null;
  private lastCommitSeconds = 0;
  private crc32 = V1_CHECKSUM_START;

  constructor(source: LogSource) {
    this.walker = new LogWalker(source, source.superblock.start);
    this.tid = source.superblock.sequence;
    this.endLogBlock = source.superblock.start;
  }

  /** Takes one record; a string says that the log ends here and why. Throws CorruptionError where jbd2 gives up. */
  take(record: LogRecord): string | null {
    if (record.kind === 'commit') return this.takeCommit(record, decodeCommitBlock(record.view));
    // Stale blocks of an earlier log look like this, so it is no error before the commit block has been seen.
    if (!record.sound) this.unsoundAt ??= record.logBlock;
    if (record.kind === 'descriptor') this.passBlocks(record.bytes, record.tags.length);
    return null;
  }

  private passBlocks(descriptor: Uint8Array, count: number): void {
    const { walker } = this;
    if (walker.source.superblock.commitChecksum && this.failed === null) {
      this.crc32 = crc32Be(this.crc32, descriptor);
      const block = new Uint8Array(descriptor.length);
      for (let i = 0; i < count; i++) {
        this.crc32 = crc32Be(this.crc32, walker.read(walker.after(walker.position, i), block));
      }
    }
    walker.skip(count);
  }

  private takeCommit(record: LogRecord, commit: CommitBlock): string | null {
    const { superblock } = this.walker.source;
    if (this.unsoundAt !== null) {
      if (commit.seconds < this.lastCommitSeconds) return 'records left behind by an earlier use of the log';
      throw this.corrupt(`log block ${this.unsoundAt}`, `a record of transaction ${this.tid} has a wrong checksum`);
    }
    if (superblock.commitChecksum && this.failed !== null) {
      const { tid } = this.failed;
      throw this.corrupt(`transaction ${tid}`, 'its checksum does not match, and a commit block follows it');
    }
    if (!this.commitMatches(record, commit)) {
      if (commit.seconds < this.lastCommitSeconds) return 'a commit block left behind by an earlier use of the log';
      if (!superblock.hasIncompat('ASYNC_COMMIT')) {
        throw this.corrupt(`transaction ${this.tid}`, 'the checksum of its commit does not match');
      }
      // Written together with the blocks it commits, it may have overtaken them.
      this.failed ??= { tid: this.tid, endLogBlock: this.endLogBlock, transactions: this.transactions };
    }
    this.crc32 = V1_CHECKSUM_START;
    this.lastCommitSeconds = commit.seconds;
    this.endLogBlock = this.walker.position;
    this.transactions++;
    this.tid = tidNext(this.tid);
    return null;
  }

  private commitMatches(record: LogRecord, commit: CommitBlock): boolean {
    const { superblock } = this.walker.source;
    if (superblock.commitChecksum) return transactionChecksumMatches(commit, this.crc32);
    return !superblock.checksummed || commitBlockMatches(this.walker.shape.seed, record.bytes, record.view);
  }

  private corrupt(place: string, finding: string): CorruptionError {
    return new CorruptionError('log', place, finding, 'EBADMSG');
  }
}

/**
 * PASS_SCAN: where the log ends. A transaction without its commit block is not there. Throws CorruptionError where jbd2
 * refuses the log: a wrong checksum in a transaction that was committed.
 */
export function scan(source: LogSource): RecoveryInfo {
  const state = new Scan(source);
  let reason: string | null = null;
  while (reason === null) {
    const record = state.walker.next(state.tid);
    reason = record === null ? `${state.walker.end} where transaction ${state.tid} would go on` : state.take(record);
  }
  const { failed } = state;
  return {
    startTid: source.superblock.sequence,
    endTid: failed?.tid ?? state.tid,
    endLogBlock: failed?.endLogBlock ?? state.endLogBlock,
    endReason:
      failed === null ? reason : `the checksum of transaction ${failed.tid} does not match: its commit was interrupted`,
    transactions: failed?.transactions ?? state.transactions,
    revokes: new RevokeTable(),
    revokeHits: 0,
    copies: 0,
    blocks: new Map(),
  };
}

/** PASS_REVOKE: what later transactions freed. Throws CorruptionError for a malformed revoke block. */
export function revoke(source: LogSource, info: RecoveryInfo): void {
  forEachRecord(source, info, (record, walker) => {
    if (record.kind !== 'revoke') return;
    for (const block of decodeRevokes(walker.shape, record.view, record.logBlock)) {
      info.revokes.set(block, record.tid);
    }
  });
}

/**
 * PASS_REPLAY, as far as it can go without writing: fills `info.blocks`. Throws CorruptionError for a logged block
 * whose checksum is wrong, or whose home lies outside the device or inside the log.
 */
export function replay(source: LogSource, info: RecoveryInfo): void {
  const { superblock, device, blockMap } = source;
  const deviceBlocks = Math.floor(device.sizeBytes / superblock.blockSize);
  const log = new BlockRuns(blockMap);
  const logged = new LogBlocks(source);
  forEachRecord(source, info, (record, walker) => {
    if (record.kind !== 'descriptor') return;
    record.tags.forEach((tag, index) => {
      const logBlock = walker.after(record.logBlock, index + 1);
      if (info.revokes.revokes(tag.block, record.tid)) {
        info.revokeHits++;
        return;
      }
      const bad = (finding: string, code?: 'EBADMSG') =>
        new CorruptionError('logged block', `log block ${logBlock}`, finding, code);
      if (!tagChecksumMatches(walker.shape, record.tid, tag, logged.read(logBlock))) {
        throw bad(`the copy of block ${tag.block} has a wrong checksum`, 'EBADMSG');
      }
      if (tag.block >= deviceBlocks) throw bad(`block ${tag.block} is outside the device`);
      if (log.overlaps(tag.block, tag.block + 1)) throw bad(`block ${tag.block} is part of the log`);
      info.copies++;
      info.blocks.set(tag.block, { logBlock, escaped: (tag.flags & TagFlag.ESCAPE) !== 0 });
    });
  });
}

/** Every record of the whole transactions, in log order. */
export function forEachRecord(
  source: LogSource,
  info: Pick<RecoveryInfo, 'startTid' | 'endTid'>,
  visit: (record: LogRecord, walker: LogWalker) => void,
): void {
  const walker = new LogWalker(source, source.superblock.start);
  let tid = info.startTid;
  while (tid !== info.endTid) {
    const record = walker.next(tid);
    if (record === null) {
      throw new CorruptionError('log', `log block ${walker.position}`, `transaction ${tid} was there a moment ago`);
    }
    visit(record, walker);
    if (record.kind === 'descriptor') walker.skip(record.tags.length);
    if (record.kind === 'commit') tid = tidNext(tid);
  }
}
