/** Revoke blocks, read: numbers of blocks whose earlier copies in the log must not be replayed. */
import type { ReadView } from '../codec/view.js';
import { CorruptionError } from '../errors.js';
import { REVOKE_HEADER } from './format.js';
import type { RecordShape } from './record-writer.js';

/** The numbers in a revoke block (scan_revoke_records). Throws CorruptionError for an r_count that exceeds the block. */
export function decodeRevokes(shape: RecordShape, view: ReadView, logBlock: number): number[] {
  const size = shape.revokeBytes;
  const count = REVOKE_HEADER.r_count.get(view, 0);
  if (count > shape.blockSize - shape.tailBytes) {
    throw new CorruptionError('revoke block', `log block ${logBlock}`, `r_count is ${count} bytes`);
  }
  const revoked: number[] = [];
  for (let at = REVOKE_HEADER.SIZE; at + size <= count; at += size) {
    const high = shape.is64bit ? view.getUint32(at) : 0;
    revoked.push(high * 0x1_0000_0000 + view.getUint32(at + size - 4));
  }
  return revoked;
}
