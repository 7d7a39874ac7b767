/**
 * The fast-commit area behind the log: what changed since the last transaction, in logical terms. One fast commit after the
 * other, each in blocks of its own from its first record to its TAIL, the first one headed by HEAD.
 */
import { crc32c } from '../codec/crc.js';
import { ownView, readView } from '../codec/view.js';
import { UnsupportedError } from '../errors.js';
import type { LogSource } from '../jbd2/log-walker.js';
import type { Tid } from '../jbd2/tid.js';
import { EXT4_NAME_LEN } from './format/dir-entry.js';
import { EXT_INIT_MAX_LEN, EXTENT } from './format/extent.js';
import {
  EXT4_FC_TAG,
  FC_ADD_RANGE,
  FC_DEL_RANGE,
  FC_DENTRY_INFO,
  FC_HEAD,
  FC_INODE,
  FC_TAIL,
  FC_TL,
} from './format/fast-commit.js';
import { GOOD_OLD_INODE_SIZE } from './format/inode.js';
import type { Ino } from './inode.js';

export type FastCommitRecord =
  | { readonly tag: 'HEAD'; readonly features: number; readonly tid: Tid }
  | { readonly tag: 'CREAT' | 'LINK' | 'UNLINK'; readonly parent: Ino; readonly ino: Ino; readonly name: Uint8Array }
  | { readonly tag: 'INODE'; readonly ino: Ino; readonly raw: Uint8Array }
  | {
      readonly tag: 'ADD_RANGE';
      readonly ino: Ino;
      readonly lblk: number;
      readonly count: number;
      readonly pblk: number;
      readonly unwritten: boolean;
    }
  | { readonly tag: 'DEL_RANGE'; readonly ino: Ino; readonly lblk: number; readonly count: number }
  | { readonly tag: 'PAD' }
  | { readonly tag: 'TAIL'; readonly tid: Tid; readonly crc: number };

/** A record where it is. */
export interface PlacedRecord {
  readonly record: FastCommitRecord;
  readonly logBlock: number;
  /** Byte offset in the block. */
  readonly at: number;
  /** What its checksum covers: tag, length and value; of TAIL, what comes before fc_crc. */
  readonly covered: Uint8Array;
}

export interface FastCommits {
  /** Whole fast commits: that is how many count. */
  readonly commits: number;
  /** Records up to and including the TAIL of the last whole one. */
  readonly records: number;
  /** Why there are no more. */
  readonly endReason: string;
}

/**
 * The records from the start of the area on, as far as each is well formed (ext4_fc_value_len_isvalid). The value
 * returned says why they end.
 */
export function* fastCommitRecords(source: LogSource, inodeSize: number): Generator<PlacedRecord, string> {
  const { superblock, device, blockMap } = source;
  // Log block `end` lies between log and area and is in neither (j_fc_first = j_last + 1).
  for (let logBlock = superblock.end + 1; logBlock < superblock.maxLen; logBlock++) {
    const block = new Uint8Array(superblock.blockSize);
    device.read(blockMap[logBlock] * superblock.blockSize, block);
    const view = readView(block);
    for (let at = 0; at + FC_TL.SIZE <= block.length; ) {
      const start = at + FC_TL.SIZE;
      const end = start + FC_TL.fc_len.get(view, at);
      const record =
        end > block.length ? null : decode(FC_TL.fc_tag.get(view, at), block.subarray(start, end), inodeSize);
      if (record === null) return `no record at log block ${logBlock}, byte ${at}`;
      const coveredEnd = record.tag === 'TAIL' ? start + FC_TAIL.fc_crc.offset : end;
      yield { record, logBlock, at, covered: block.subarray(at, coveredEnd) };
      at = end;
    }
  }
  return 'the end of the area';
}

function decode(tag: number, value: Uint8Array, inodeSize: number): FastCommitRecord | null {
  const view = ownView(value);
  const { length } = value;
  switch (tag) {
    case EXT4_FC_TAG.HEAD:
      if (length !== FC_HEAD.SIZE) return null;
      return { tag: 'HEAD', features: FC_HEAD.fc_features.get(view, 0), tid: FC_HEAD.fc_tid.get(view, 0) };
    case EXT4_FC_TAG.CREAT:
      return decodeName('CREAT', value);
    case EXT4_FC_TAG.LINK:
      return decodeName('LINK', value);
    case EXT4_FC_TAG.UNLINK:
      return decodeName('UNLINK', value);
    case EXT4_FC_TAG.INODE: {
      const raw = value.subarray(FC_INODE.SIZE);
      if (raw.length < GOOD_OLD_INODE_SIZE || raw.length > inodeSize) return null;
      return { tag: 'INODE', ino: FC_INODE.fc_ino.get(view, 0), raw };
    }
    case EXT4_FC_TAG.ADD_RANGE: {
      if (length !== FC_ADD_RANGE.SIZE) return null;
      const extent = FC_ADD_RANGE.fc_ex.offset;
      const len = EXTENT.ee_len.get(view, extent);
      return {
        tag: 'ADD_RANGE',
        ino: FC_ADD_RANGE.fc_ino.get(view, 0),
        lblk: EXTENT.ee_block.get(view, extent),
        count: len <= EXT_INIT_MAX_LEN ? len : len - EXT_INIT_MAX_LEN,
        pblk: EXTENT.ee_start_lo.get(view, extent) + EXTENT.ee_start_hi.get(view, extent) * 0x1_0000_0000,
        unwritten: len > EXT_INIT_MAX_LEN,
      };
    }
    case EXT4_FC_TAG.DEL_RANGE:
      if (length !== FC_DEL_RANGE.SIZE) return null;
      return {
        tag: 'DEL_RANGE',
        ino: FC_DEL_RANGE.fc_ino.get(view, 0),
        lblk: FC_DEL_RANGE.fc_lblk.get(view, 0),
        count: FC_DEL_RANGE.fc_len.get(view, 0),
      };
    case EXT4_FC_TAG.PAD:
      return { tag: 'PAD' };
    case EXT4_FC_TAG.TAIL:
      if (length < FC_TAIL.SIZE) return null;
      return { tag: 'TAIL', tid: FC_TAIL.fc_tid.get(view, 0), crc: FC_TAIL.fc_crc.get(view, 0) };
    default:
      return null;
  }
}

function decodeName(tag: 'CREAT' | 'LINK' | 'UNLINK', value: Uint8Array): FastCommitRecord | null {
  const name = value.subarray(FC_DENTRY_INFO.SIZE);
  if (name.length < 1 || name.length > EXT4_NAME_LEN) return null;
  const view = ownView(value);
  return { tag, parent: FC_DENTRY_INFO.fc_parent_ino.get(view, 0), ino: FC_DENTRY_INFO.fc_ino.get(view, 0), name };
}

/**
 * Which fast commits count (ext4_fc_replay_scan): those on top of the last transaction, so of `expected`, the tid after
 * it; one after the other, up to the first that is not whole. A commit that is not whole was never acknowledged, and
 * ends the area wherever it is. Throws UnsupportedError for a feature that is not known.
 */
export function scanFastCommits(source: LogSource, inodeSize: number, expected: Tid): FastCommits {
  if (source.superblock.fastCommitBlocks === 0) return { commits: 0, records: 0, endReason: 'there is no area' };
  let commits = 0;
  let records = 0;
  let seen = 0;
  let crc = 0;
  const ended = (endReason: string): FastCommits => ({ commits, records, endReason });
  const all = fastCommitRecords(source, inodeSize);
  for (;;) {
    const next = all.next();
    if (next.done) return ended(next.value);
    const { record, covered, logBlock } = next.value;
    if (seen++ === 0 && record.tag !== 'HEAD') return ended('the area does not begin with a head');
    crc = crc32c(crc, covered);
    if (record.tag === 'HEAD') {
      if (record.features !== 0) {
        const bits = record.features.toString(16);
        throw new UnsupportedError(`the fast commits use unknown features (0x${bits}): run e2fsck`, ['fast_commit']);
      }
      if (record.tid !== expected) return ended(`a head of transaction ${record.tid}`);
    } else if (record.tag === 'TAIL') {
      if (record.tid !== expected) return ended(`a tail of transaction ${record.tid} at log block ${logBlock}`);
      if (record.crc !== crc) return ended(`a wrong checksum in the tail at log block ${logBlock}`);
      commits++;
      records = seen;
      crc = 0;
    }
  }
}
