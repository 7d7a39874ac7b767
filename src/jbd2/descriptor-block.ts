/**
 * Descriptor blocks, read: a header, then one tag for each block that follows it in the log, then (checksum v2 and v3) a
 * tail. Tags come in five sizes; one without SAME_UUID is followed by the 16 bytes of the journal's uuid.
 */
import { crc32c } from '../codec/crc.js';
import type { ReadBytes, ReadView } from '../codec/view.js';
import { BLOCK_TAG, BLOCK_TAG3, BLOCK_TAIL, JOURNAL_HEADER, TagFlag } from './format.js';
import { type RecordShape, tagChecksum } from './record-writer.js';
import type { Tid } from './tid.js';

const UUID_BYTES = 16;
const ZEROES = new Uint8Array(BLOCK_TAIL.SIZE);

/** One logged block, as its tag names it. */
export interface BlockTag {
  /** Filesystem block that it belongs to. */
  readonly block: number;
  /** TagFlag bits. */
  readonly flags: number;
  /** 32 bits with CSUM_V3, the low 16 with CSUM_V2, otherwise unused. */
  readonly checksum: number;
}

/** The tags of a descriptor block, up to the one marked as the last or the end of the block (count_tags). */
export function decodeTags(shape: RecordShape, view: ReadView): BlockTag[] {
  const { tagBytes, csumV3, is64bit } = shape;
  const end = shape.blockSize - shape.tailBytes;
  const tags: BlockTag[] = [];
  for (let at = JOURNAL_HEADER.SIZE; at + tagBytes <= end; ) {
    const low = BLOCK_TAG.t_blocknr.get(view, at);
    const high = is64bit ? BLOCK_TAG.t_blocknr_high.get(view, at) : 0;
    const flags = (csumV3 ? BLOCK_TAG3 : BLOCK_TAG).t_flags.get(view, at);
    const checksum = (csumV3 ? BLOCK_TAG3 : BLOCK_TAG).t_checksum.get(view, at);
    tags.push({ block: low + high * 0x1_0000_0000, flags, checksum });
    at += tagBytes;
    if ((flags & TagFlag.SAME_UUID) === 0) at += UUID_BYTES;
    if ((flags & TagFlag.LAST_TAG) !== 0) break;
  }
  return tags;
}

/** True if the logged block is what its tag says (jbd2_block_tag_csum_verify). */
export function tagChecksumMatches(shape: RecordShape, tid: Tid, tag: BlockTag, logged: ReadBytes): boolean {
  if (shape.csumV3) return tag.checksum === tagChecksum(shape.seed, tid, logged);
  if (shape.csumV2) return tag.checksum === (tagChecksum(shape.seed, tid, logged) & 0xffff);
  return true;
}

/** The checksum of a whole descriptor or revoke block, its tail taken as zero (jbd2_descriptor_block_csum_verify). */
export function tailMatches(shape: RecordShape, bytes: ReadBytes, view: ReadView): boolean {
  if (shape.tailBytes === 0) return true;
  const tail = bytes.length - BLOCK_TAIL.SIZE;
  return crc32c(crc32c(shape.seed, bytes.subarray(0, tail)), ZEROES) === BLOCK_TAIL.t_checksum.get(view, tail);
}
