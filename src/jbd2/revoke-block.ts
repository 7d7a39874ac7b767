/** Revoke blocks: numbers of blocks whose earlier copies in the log must not be replayed. */
import { ownView, type ReadView } from '../codec/view.js';
import { CorruptionError } from '../errors.js';
import { bytesBeforeTail, sealTail } from './descriptor-block.js';
import { BlockType, JBD2_MAGIC, REVOKE_HEADER } from './format.js';
import type { JournalSuperblock } from './journal-superblock.js';
import type { Tid } from './tid.js';

function recordBytes(superblock: JournalSuperblock): number {
  return superblock.hasIncompat('64BIT') ? 8 : 4;
}

/** Block numbers that one revoke block holds. */
export function revokesPerBlock(superblock: JournalSuperblock): number {
  return Math.floor((bytesBeforeTail(superblock) - REVOKE_HEADER.SIZE) / recordBytes(superblock));
}

/** As many revoke blocks as `revoked` needs, ready for the log (jbd2_journal_write_revoke_records). */
export function encodeRevokeBlocks(
  superblock: JournalSuperblock,
  seed: number,
  tid: Tid,
  revoked: Iterable<number>,
): Uint8Array[] {
  const wide = superblock.hasIncompat('64BIT');
  const size = recordBytes(superblock);
  const end = bytesBeforeTail(superblock);
  const blocks: Uint8Array[] = [];
  let bytes: Uint8Array | null = null;
  let at = 0;
  const finish = (block: Uint8Array) => {
    REVOKE_HEADER.r_count.set(ownView(block), 0, at);
    sealTail(superblock, seed, block);
  };
  for (const nr of revoked) {
    if (bytes !== null && at + size > end) {
      finish(bytes);
      bytes = null;
    }
    if (bytes === null) {
      bytes = new Uint8Array(superblock.blockSize);
      const view = ownView(bytes);
      REVOKE_HEADER.h_magic.set(view, 0, JBD2_MAGIC);
      REVOKE_HEADER.h_blocktype.set(view, 0, BlockType.REVOKE);
      REVOKE_HEADER.h_sequence.set(view, 0, tid);
      at = REVOKE_HEADER.SIZE;
      blocks.push(bytes);
    }
    const view = ownView(bytes);
    if (wide) view.setUint32(at, Math.floor(nr / 0x1_0000_0000), false);
    view.setUint32(at + size - 4, nr >>> 0, false);
    at += size;
  }
  if (bytes !== null) finish(bytes);
  return blocks;
}

/** The numbers in a revoke block (scan_revoke_records). Throws CorruptionError for an r_count that exceeds the block. */
export function decodeRevokes(superblock: JournalSuperblock, view: ReadView, logBlock: number): number[] {
  const count = REVOKE_HEADER.r_count.get(view, 0);
  if (count > bytesBeforeTail(superblock)) {
    throw new CorruptionError('revoke block', `log block ${logBlock}`, `r_count is ${count} bytes`);
  }
  const size = recordBytes(superblock);
  const revoked: number[] = [];
  for (let at = REVOKE_HEADER.SIZE; at + size <= count; at += size) {
    const high = size === 8 ? view.getUint32(at, false) : 0;
    revoked.push(high * 0x1_0000_0000 + view.getUint32(at + size - 4, false));
  }
  return revoked;
}
