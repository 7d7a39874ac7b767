/**
 * Commit blocks, read: what makes a transaction whole. With checksum v2 or v3 the block covers itself; with checksum v1
 * it carries a crc32 over every descriptor block and logged block of its transaction.
 */
import { crc32c } from '../codec/crc.js';
import type { ReadBytes, ReadView } from '../codec/view.js';
import { CHECKSUM_TYPE, COMMIT_HEADER } from './format.js';

/** JBD2_CRC32_CHKSUM_SIZE */
const CRC32_BYTES = 4;
const ZEROES = new Uint8Array(4);

/** Where the running crc32 of checksum v1 starts in each transaction. */
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
    seconds: view.getUint32(H_COMMIT_SEC) * 0x1_0000_0000 + view.getUint32(H_COMMIT_SEC + 4),
    nanoseconds: COMMIT_HEADER.h_commit_nsec.get(view, 0),
    checksumType: COMMIT_HEADER.h_chksum_type.get(view, 0),
    checksumSize: COMMIT_HEADER.h_chksum_size.get(view, 0),
    checksum: view.getUint32(H_CHKSUM),
  };
}

function blockChecksum(seed: number, block: ReadBytes): number {
  let crc = crc32c(seed, block.subarray(0, H_CHKSUM));
  crc = crc32c(crc, ZEROES);
  return crc32c(crc, block.subarray(H_CHKSUM + 4));
}

/**
 * Checksum v2 and v3. A block of which only the header's sector reached the disk counts as whole: the rest was zero when
 * it was summed (jbd2_commit_block_csum_verify, jbd2_commit_block_csum_verify_partial).
 */
export function commitBlockMatches(seed: number, bytes: ReadBytes, view: ReadView): boolean {
  const stored = view.getUint32(H_CHKSUM);
  if (blockChecksum(seed, bytes) === stored) return true;
  const headerOnly = new Uint8Array(bytes.length);
  headerOnly.set(bytes.slice(0, COMMIT_HEADER.SIZE));
  return blockChecksum(seed, headerOnly) === stored;
}

/** Checksum v1: the transaction's crc32, or none at all, as transactions have that were logged before the feature was set. */
export function transactionChecksumMatches(commit: CommitBlock, crc32: number): boolean {
  const { checksumType, checksumSize, checksum } = commit;
  if (checksumType === CHECKSUM_TYPE.CRC32 && checksumSize === CRC32_BYTES) return checksum === crc32;
  return checksumType === 0 && checksumSize === 0 && checksum === 0;
}
