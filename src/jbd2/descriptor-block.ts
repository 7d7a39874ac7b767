/**
 * Descriptor blocks: a header, then one tag for each block that follows it in the log, then (checksum v2 and v3) a tail.
 * Tags come in five sizes. The first of a block, and any without SAME_UUID, is followed by the 16 bytes of the journal's uuid.
 */
import { crc32c } from '../codec/crc.js';
import { ownView, type ReadBytes, type ReadView, type WriteView } from '../codec/view.js';
import { BLOCK_TAG, BLOCK_TAG3, BLOCK_TAIL, BlockType, JBD2_MAGIC, JOURNAL_HEADER, TagFlag } from './format.js';
import type { JournalSuperblock } from './journal-superblock.js';
import type { Tid } from './tid.js';

const UUID_BYTES = 16;
const ZEROES = new Uint8Array(4);

/** One logged block, as its tag names it. */
export interface BlockTag {
  /** Filesystem block that it belongs to. */
  readonly block: number;
  /** TagFlag bits. */
  readonly flags: number;
  /** 32 bits with CSUM_V3, the low 16 with CSUM_V2, otherwise 0. */
  readonly checksum: number;
}

/** journal_tag_bytes: 16 with CSUM_V3; else 12, two more with CSUM_V2 (which writes nothing there), four less without 64BIT. */
export function tagBytes(superblock: JournalSuperblock): number {
  if (superblock.hasIncompat('CSUM_V3')) return BLOCK_TAG3.SIZE;
  return BLOCK_TAG.SIZE + (superblock.hasIncompat('CSUM_V2') ? 2 : 0) - (superblock.hasIncompat('64BIT') ? 0 : 4);
}

/** Bytes of a descriptor or revoke block before its tail. */
export function bytesBeforeTail(superblock: JournalSuperblock): number {
  return superblock.blockSize - (superblock.checksummed ? BLOCK_TAIL.SIZE : 0);
}

/** Most blocks that one descriptor block can name. */
export function tagsPerDescriptor(superblock: JournalSuperblock): number {
  const space = bytesBeforeTail(superblock) - JOURNAL_HEADER.SIZE - UUID_BYTES;
  return Math.floor(space / tagBytes(superblock));
}

const sequenceBytes = new Uint8Array(4);
const sequenceView = ownView(sequenceBytes);

/** Checksum of a logged block (jbd2_block_tag_csum_set): its transaction's tid, then its content as it is in the log. */
export function tagChecksum(seed: number, sequence: Tid, logged: ReadBytes): number {
  sequenceView.setUint32(0, sequence, false);
  return crc32c(crc32c(seed, sequenceBytes), logged);
}

/** True if the logged block is what its tag says (jbd2_block_tag_csum_verify). */
export function tagChecksumMatches(
  superblock: JournalSuperblock,
  seed: number,
  sequence: Tid,
  tag: BlockTag,
  logged: ReadBytes,
): boolean {
  if (!superblock.checksummed) return true;
  const sum = tagChecksum(seed, sequence, logged);
  return tag.checksum === (superblock.hasIncompat('CSUM_V3') ? sum : sum & 0xffff);
}

/** Checksum of a whole descriptor or revoke block, its tail taken as zero (jbd2_descriptor_block_csum_set). */
function tailChecksum(seed: number, block: ReadBytes): number {
  return crc32c(crc32c(seed, block.subarray(0, block.length - BLOCK_TAIL.SIZE)), ZEROES);
}

/** Stamps the tail of a descriptor or revoke block that is otherwise complete. */
export function sealTail(superblock: JournalSuperblock, seed: number, block: Uint8Array): void {
  if (!superblock.checksummed) return;
  BLOCK_TAIL.t_checksum.set(ownView(block), block.length - BLOCK_TAIL.SIZE, tailChecksum(seed, block));
}

/** jbd2_descriptor_block_csum_verify. */
export function tailMatches(superblock: JournalSuperblock, seed: number, bytes: ReadBytes, view: ReadView): boolean {
  if (!superblock.checksummed) return true;
  return tailChecksum(seed, bytes) === BLOCK_TAIL.t_checksum.get(view, bytes.length - BLOCK_TAIL.SIZE);
}

/**
 * Builds one descriptor block in memory of the caller's, which must be one zeroed block:
 *
 *   const descriptor = new DescriptorWriter(superblock, seed, bytes, tid);
 *   while (!descriptor.full) descriptor.add(block, escaped, tagChecksum(seed, tid, logged));
 *   descriptor.finish();
 */
export class DescriptorWriter {
  private readonly superblock: JournalSuperblock;
  private readonly seed: number;
  private readonly bytes: Uint8Array;
  private readonly view: WriteView;
  private readonly tagSize: number;
  private readonly v3: boolean;
  private readonly wide: boolean;
  private readonly end: number;
  private at = JOURNAL_HEADER.SIZE;
  private lastTag = 0;

  constructor(superblock: JournalSuperblock, seed: number, bytes: Uint8Array, tid: Tid) {
    this.superblock = superblock;
    this.seed = seed;
    this.bytes = bytes;
    this.view = ownView(bytes);
    this.tagSize = tagBytes(superblock);
    this.v3 = superblock.hasIncompat('CSUM_V3');
    this.wide = superblock.hasIncompat('64BIT');
    this.end = bytesBeforeTail(superblock);
    JOURNAL_HEADER.h_magic.set(this.view, 0, JBD2_MAGIC);
    JOURNAL_HEADER.h_blocktype.set(this.view, 0, BlockType.DESCRIPTOR);
    JOURNAL_HEADER.h_sequence.set(this.view, 0, tid);
  }

  /** No room for another tag, and for the uuid if it would be the first. */
  get full(): boolean {
    return this.at + this.tagSize + (this.lastTag === 0 ? UUID_BYTES : 0) > this.end;
  }

  /** `checksum` is the block's {@link tagChecksum}; any number without checksum v2 or v3. */
  add(block: number, escaped: boolean, checksum: number): void {
    const { view, at } = this;
    const first = this.lastTag === 0;
    const flags = (escaped ? TagFlag.ESCAPE : 0) | (first ? 0 : TagFlag.SAME_UUID);
    const high = this.wide ? Math.floor(block / 0x1_0000_0000) : 0;
    if (this.v3) {
      BLOCK_TAG3.t_blocknr.set(view, at, block >>> 0);
      BLOCK_TAG3.t_flags.set(view, at, flags);
      BLOCK_TAG3.t_blocknr_high.set(view, at, high);
      BLOCK_TAG3.t_checksum.set(view, at, checksum);
    } else {
      BLOCK_TAG.t_blocknr.set(view, at, block >>> 0);
      BLOCK_TAG.t_checksum.set(view, at, this.superblock.checksummed ? checksum & 0xffff : 0);
      BLOCK_TAG.t_flags.set(view, at, flags);
      if (this.wide) BLOCK_TAG.t_blocknr_high.set(view, at, high);
    }
    this.lastTag = at;
    this.at += this.tagSize;
    if (first) {
      this.bytes.set(this.superblock.uuid, this.at);
      this.at += UUID_BYTES;
    }
  }

  /** Marks the last tag and stamps the checksum. */
  finish(): void {
    const flags = this.v3 ? BLOCK_TAG3.t_flags : BLOCK_TAG.t_flags;
    flags.set(this.view, this.lastTag, flags.get(this.view, this.lastTag) | TagFlag.LAST_TAG);
    sealTail(this.superblock, this.seed, this.bytes);
  }
}

/** The tags of a descriptor block, the last one marked or not: what fits is bounded by the block (count_tags). */
export function decodeTags(superblock: JournalSuperblock, view: ReadView): BlockTag[] {
  const size = tagBytes(superblock);
  const v3 = superblock.hasIncompat('CSUM_V3');
  const wide = superblock.hasIncompat('64BIT');
  const end = bytesBeforeTail(superblock);
  const tags: BlockTag[] = [];
  for (let at = JOURNAL_HEADER.SIZE; at + size <= end; ) {
    const flags = v3 ? BLOCK_TAG3.t_flags.get(view, at) : BLOCK_TAG.t_flags.get(view, at);
    const low = BLOCK_TAG.t_blocknr.get(view, at);
    const high = wide ? BLOCK_TAG.t_blocknr_high.get(view, at) : 0;
    const checksum = v3 ? BLOCK_TAG3.t_checksum.get(view, at) : BLOCK_TAG.t_checksum.get(view, at);
    tags.push({ block: low + high * 0x1_0000_0000, flags, checksum });
    at += size;
    if ((flags & TagFlag.SAME_UUID) === 0) at += UUID_BYTES;
    if ((flags & TagFlag.LAST_TAG) !== 0) break;
  }
  return tags;
}
