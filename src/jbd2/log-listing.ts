/** The log as a report: what recovery passes over in silence, transaction by transaction. */
import { CorruptionError } from '../errors.js';
import { type CommitBlock, decodeCommitBlock } from './commit-block.js';
import { JBD2_FEATURE_INCOMPAT, TagFlag } from './format.js';
import type { JournalSuperblock } from './journal-superblock.js';
import { type LogSource, LogWalker } from './log-walker.js';
import { scan } from './recovery.js';
import { decodeRevokes } from './revoke-block.js';
import { RevokeTable } from './revoke-table.js';
import { type Tid, tidGeq, tidNext } from './tid.js';

export interface LoggedBlock {
  readonly block: number;
  readonly logBlock: number;
  readonly escaped: boolean;
}

export interface LoggedTransaction {
  readonly tid: Tid;
  /** Log block of its first record. */
  readonly firstLogBlock: number;
  /** Log blocks it takes, its records included. */
  readonly logBlocks: number;
  /** Null for the transaction that the log ends in. */
  readonly commit: CommitBlock | null;
  readonly blocks: readonly LoggedBlock[];
  readonly revokes: readonly number[];
}

export interface LogListing {
  readonly transactions: readonly LoggedTransaction[];
  /** Replay ends before this transaction; null where it refuses the log. */
  readonly endTid: Tid | null;
  /** Why it ends there, or why the log is refused. */
  readonly endReason: string;
  /** What revoke records void, from transactions that replay reaches. */
  readonly revokes: RevokeTable;
}

/** Every transaction from the tail on, as far as records follow each other; the one that was interrupted is the last. */
export function listLog(source: LogSource): LogListing {
  const transactions: LoggedTransaction[] = [];
  const revokeTable = new RevokeTable();
  if (source.superblock.start === 0)
    return { transactions, endTid: null, endReason: 'the log is empty', revokes: revokeTable };
  const { endTid, endReason } = verdict(source);
  const walker = new LogWalker(source, source.superblock.start);
  for (let tid = source.superblock.sequence; ; tid = tidNext(tid)) {
    const transaction = readTransaction(walker, tid);
    if (transaction === null) break;
    transactions.push(transaction);
    if (transaction.commit === null) break;
    if (endTid === null || !tidGeq(tid, endTid)) for (const block of transaction.revokes) revokeTable.set(block, tid);
  }
  return { transactions, endTid, endReason, revokes: revokeTable };
}

function verdict(source: LogSource): { endTid: Tid | null; endReason: string } {
  try {
    return scan(source);
  } catch (error) {
    if (!(error instanceof CorruptionError)) throw error;
    return { endTid: null, endReason: error.message };
  }
}

/** Null if no record of it is there. */
function readTransaction(walker: LogWalker, tid: Tid): LoggedTransaction | null {
  const firstLogBlock = walker.position;
  const blocks: LoggedBlock[] = [];
  const revokes: number[] = [];
  let logBlocks = 0;
  for (;;) {
    const record = walker.next(tid);
    if (record === null) break;
    logBlocks++;
    if (record.kind === 'commit') {
      return { tid, firstLogBlock, logBlocks, commit: decodeCommitBlock(record.view), blocks, revokes };
    }
    if (record.kind === 'revoke') {
      for (const block of decodeRevokes(walker.shape, record.view, record.logBlock)) revokes.push(block);
      continue;
    }
    record.tags.forEach(({ block, flags }, index) => {
      blocks.push({
        block,
        logBlock: walker.after(record.logBlock, index + 1),
        escaped: (flags & TagFlag.ESCAPE) !== 0,
      });
    });
    walker.skip(record.tags.length);
    logBlocks += record.tags.length;
  }
  return logBlocks === 0 ? null : { tid, firstLogBlock, logBlocks, commit: null, blocks, revokes };
}

/** The journal's features, as dumpe2fs names them. */
export function journalFeatureNames(superblock: JournalSuperblock): string[] {
  const { REVOKE, ASYNC_COMMIT, CSUM_V2, CSUM_V3, FAST_COMMIT } = JBD2_FEATURE_INCOMPAT;
  const names: [number, string][] = [
    [REVOKE, 'journal_incompat_revoke'],
    [JBD2_FEATURE_INCOMPAT['64BIT'], 'journal_64bit'],
    [ASYNC_COMMIT, 'journal_async_commit'],
    [CSUM_V2, 'journal_checksum_v2'],
    [CSUM_V3, 'journal_checksum_v3'],
    [FAST_COMMIT, 'fast_commit'],
  ];
  const found = names.filter(([bit]) => (superblock.incompat & bit) !== 0).map(([, name]) => name);
  return superblock.commitChecksum ? ['journal_checksum', ...found] : found;
}
