/**
 * Commit blocks: what makes a transaction whole. With checksum v2 or v3 the block covers itself; with checksum v1 it
 * carries a crc32 over every descriptor block and logged block of its transaction.
 */
import { crc32c } from '../codec/crc.js';
import { ownView, type ReadBytes, type ReadView } from '../codec/view.js';
import { BlockType, CHECKSUM_TYPE, COMMIT_HEADER, JBD2_MAGIC } from './format.js';
import type { JournalSuperblock } from './journal-superblock.js';
import type { Tid } from './tid.js';

/** JBD2_CRC32_CHKSUM_SIZE */
const CRC32_BYTES = 4;
const ZEROES = new Uint8Array(4);

/** Where the running crc32 of checksum v1 starts, for each transaction. */
export const V1_CHECKSUM_START = 0xffffffff;

export interface CommitBlock {
  /** Seconds since 1970. */
  readonly seconds: number;
  readonly nanoseconds: number;
  readonly checksumType: number;
  readonly checksumSize: number;
  /** h_chksum[0] */
  readonly checksum: number;
}

const H_CHKSUM = COMMIT_HEADER.h_chksum.offset;
const H_COMMIT_SEC = COMMIT_HEADER.h_commit_sec.offset;

export function decodeCommitBlock(view: ReadView): CommitBlock {
  return {
    seconds: view.getUint32(H_COMMIT_SEC, false) * 0x1_0000_0000 + view.getUint32(H_COMMIT_SEC + 4, false),
    nanoseconds: COMMIT_HEADER.h_commit_nsec.get(view, 0),
    checksumType: COMMIT_HEADER.h_chksum_type.get(view, 0),
    checksumSize: COMMIT_HEADER.h_chksum_size.get(view, 0),
    checksum: view.getUint32(H_CHKSUM, false),
  };
}

function blockChecksum(seed: number, block: ReadBytes): number {
  let crc = crc32c(seed, block.subarray(0, H_CHKSUM));
  crc = crc32c(crc, ZEROES);
  return crc32c(crc, block.subarray(H_CHKSUM + 4, block.length));
}

/**
 * A commit block (journal_submit_commit_record). `transactionCrc32` is the transaction's checksum v1: crc32Be from
 * {@link V1_CHECKSUM_START} over its descriptor blocks and logged blocks in log order; used with that feature only.
 */
export function encodeCommitBlock(
  superblock: JournalSuperblock,
  seed: number,
  tid: Tid,
  time: { readonly seconds: number; readonly nanoseconds: number },
  transactionCrc32 = 0,
): Uint8Array {
  const block = new Uint8Array(superblock.blockSize);
  const view = ownView(block);
  COMMIT_HEADER.h_magic.set(view, 0, JBD2_MAGIC);
  COMMIT_HEADER.h_blocktype.set(view, 0, BlockType.COMMIT);
  COMMIT_HEADER.h_sequence.set(view, 0, tid);
  view.setUint32(H_COMMIT_SEC, Math.floor(time.seconds / 0x1_0000_0000) >>> 0, false);
  view.setUint32(H_COMMIT_SEC + 4, time.seconds >>> 0, false);
  COMMIT_HEADER.h_commit_nsec.set(view, 0, time.nanoseconds);
  if (superblock.checksummed) {
    view.setUint32(H_CHKSUM, blockChecksum(seed, block), false);
  } else if (superblock.commitChecksum) {
    COMMIT_HEADER.h_chksum_type.set(view, 0, CHECKSUM_TYPE.CRC32);
    COMMIT_HEADER.h_chksum_size.set(view, 0, CRC32_BYTES);
    view.setUint32(H_CHKSUM, transactionCrc32, false);
  }
  return block;
}

/**
 * Checksum v2 and v3. A block of which only the header's sector reached the disk counts as whole when the rest, which
 * is always zero, is taken as zero (jbd2_commit_block_csum_verify, jbd2_commit_block_csum_verify_partial).
 */
export function commitBlockMatches(seed: number, bytes: ReadBytes, view: ReadView): boolean {
  const stored = view.getUint32(H_CHKSUM, false);
  if (blockChecksum(seed, bytes) === stored) return true;
  const headerOnly = new Uint8Array(bytes.length);
  headerOnly.set(bytes.slice(0, COMMIT_HEADER.SIZE));
  return blockChecksum(seed, headerOnly) === stored;
}

/** Checksum v1: the transaction's crc32, or none at all, as a journal has that was written before the feature was set. */
export function transactionChecksumMatches(commit: CommitBlock, crc32: number): boolean {
  const { checksumType, checksumSize, checksum } = commit;
  if (checksumType === CHECKSUM_TYPE.CRC32 && checksumSize === CRC32_BYTES) return checksum === crc32;
  return checksumType === 0 && checksumSize === 0 && checksum === 0;
}
