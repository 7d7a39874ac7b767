/** The structures of the log of a sound image: its superblock, the records of the transactions in it, what they hold. */
import { readView } from '../../../src/codec/view.js';
import { fastCommitRecords, type PlacedRecord } from '../../../src/ext4/fast-commit-area.js';
import {
  FC_ADD_RANGE,
  FC_DEL_RANGE,
  FC_DENTRY_INFO,
  FC_HEAD,
  FC_INODE,
  FC_TAIL,
  FC_TL,
} from '../../../src/ext4/format/fast-commit.js';
import { INODE } from '../../../src/ext4/format/inode.js';
import { SUPERBLOCK, SUPERBLOCK_OFFSET } from '../../../src/ext4/format/superblock.js';
import { openLogSource } from '../../../src/ext4/journal-inode.js';
import type { Volume } from '../../../src/ext4/volume.js';
import {
  BLOCK_TAG,
  BLOCK_TAG3,
  COMMIT_HEADER,
  JOURNAL_HEADER,
  JOURNAL_SUPERBLOCK,
  REVOKE_HEADER,
  TagFlag,
} from '../../../src/jbd2/format.js';
import type { LogRecord, LogSource, LogWalker } from '../../../src/jbd2/log-walker.js';
import { forEachRecord, scan } from '../../../src/jbd2/recovery.js';
import type { Seals } from './seals.js';
import { type FieldPlace, fieldsOf, type Kind, type Layout, type Seal, type Structure } from './structures.js';

const UUID_BYTES = 16;
const NOTHING: Seal = () => {};

export function locateLog(vol: Volume, seals: Seals): Structure[] {
  const { geometry, device } = vol;
  const { blockSize } = geometry;
  const source = openLogSource(device, geometry);
  const { blockMap, superblock } = source;
  const found: Structure[] = [];
  const add = (
    kind: Kind,
    what: string,
    at: number,
    length: number,
    seal: Seal,
    fields: readonly FieldPlace[] = [],
  ): void => {
    found.push({ kind, what, at, length, fields, ino: geometry.journalInum, seal });
  };
  const fields = (table: Layout, at: number, limit = Number.POSITIVE_INFINITY) =>
    fieldsOf(table, at, { bigEndian: true, limit });
  const journal = blockMap[0];
  const home = journal * blockSize;
  const named = fields(JOURNAL_SUPERBLOCK, home, JOURNAL_SUPERBLOCK.s_users.offset);
  add('journal superblock', 'the journal superblock', home, 1024, seals.journalSuperblock(journal), named);
  if (device.journalAt !== undefined) {
    const at = device.journalAt + SUPERBLOCK_OFFSET;
    add('external journal', 'its superblock', at, SUPERBLOCK.SIZE, NOTHING, fieldsOf(SUPERBLOCK, at));
  }

  const descriptor = (record: LogRecord & { kind: 'descriptor' }, walker: LogWalker): void => {
    const nr = blockMap[record.logBlock];
    const where = `log block ${record.logBlock}`;
    const seal = seals.recordTail(nr, journal);
    add('descriptor block', where, nr * blockSize, blockSize, seal, fields(JOURNAL_HEADER, nr * blockSize));
    const { csumV3, tagBytes } = walker.shape;
    const table = csumV3 ? BLOCK_TAG3 : BLOCK_TAG;
    const view = readView(record.bytes);
    let at = JOURNAL_HEADER.SIZE;
    record.tags.forEach(({ block }, i) => {
      const tag = nr * blockSize + at;
      add('block tag', `tag ${i} in ${where}`, tag, tagBytes, seal, fields(table, tag, tagBytes));
      const logBlock = walker.after(record.logBlock, i + 1);
      const copy = blockMap[logBlock];
      const copySeal = seals.loggedBlock(copy, nr, at, record.tid, journal);
      const what = `copy of block ${block} in log block ${logBlock}`;
      add('logged block', what, copy * blockSize, blockSize, copySeal);
      const flags = table.t_flags.get(view, at);
      at += tagBytes + ((flags & TagFlag.SAME_UUID) === 0 ? UUID_BYTES : 0);
    });
  };

  if (superblock.start !== 0) {
    forEachRecord(source, scan(source), (record, walker) => {
      const nr = blockMap[record.logBlock];
      const at = nr * blockSize;
      const where = `log block ${record.logBlock}`;
      if (record.kind === 'descriptor') descriptor(record, walker);
      else if (record.kind === 'commit') {
        add('commit block', where, at, COMMIT_HEADER.SIZE, seals.commitBlock(nr, journal), fields(COMMIT_HEADER, at));
      } else {
        const entries = words('revoked', at + REVOKE_HEADER.SIZE, 4, 4, true);
        const all = [...fields(REVOKE_HEADER, at), ...entries];
        add('revoke block', where, at, blockSize, seals.recordTail(nr, journal), all);
      }
    });
  }
  if (superblock.fastCommitBlocks === 0) return found;
  if (superblock.start !== 0) {
    for (const each of locateFastCommits(source, geometry.inodeSize, seals)) {
      add('fast-commit record', each.what, each.at, each.length, each.seal, each.fields);
    }
    return found;
  }
  // Log block `end` lies between log and area. The area is empty: what is put there is what it holds.
  for (let logBlock = superblock.end + 1; logBlock < Math.min(superblock.end + 3, superblock.maxLen); logBlock++) {
    const at = blockMap[logBlock] * blockSize;
    add('fast-commit area', `log block ${logBlock}`, at, 32, NOTHING, words('le16', at, 16, 2, false));
  }
  return found;
}

type Found = Pick<Structure, 'what' | 'at' | 'length' | 'seal' | 'fields'>;

const VALUES = {
  HEAD: FC_HEAD,
  CREAT: FC_DENTRY_INFO,
  LINK: FC_DENTRY_INFO,
  UNLINK: FC_DENTRY_INFO,
  INODE: FC_INODE,
  ADD_RANGE: FC_ADD_RANGE,
  DEL_RANGE: FC_DEL_RANGE,
  PAD: {},
  TAIL: FC_TAIL,
} as const;

/** The records of whole fast commits. Their checksum is in the tail, and covers all blocks of the commit up to there. */
function* locateFastCommits(source: LogSource, inodeSize: number, seals: Seals): Generator<Found> {
  const { blockMap, superblock } = source;
  const { blockSize } = superblock;
  let commit: PlacedRecord[] = [];
  for (const placed of fastCommitRecords(source, inodeSize)) {
    commit.push(placed);
    if (placed.record.tag !== 'TAIL') continue;
    const from = commit[0].logBlock;
    const blocks = Array.from({ length: placed.logBlock - from + 1 }, (_, i) => blockMap[from + i] * blockSize);
    const seal = seals.fastCommit(blocks, blockSize, placed.at + FC_TL.SIZE);
    for (const { record, logBlock, at, covered } of commit) {
      const start = blockMap[logBlock] * blockSize + at;
      const value = start + FC_TL.SIZE;
      const fields = [...fieldsOf(FC_TL, start), ...fieldsOf(VALUES[record.tag], value)];
      if (record.tag === 'INODE') fields.push(...fieldsOf(INODE, value + FC_INODE.SIZE, { limit: record.raw.length }));
      yield { what: `${record.tag} in log block ${logBlock}`, at: start, length: covered.length, seal, fields };
    }
    commit = [];
  }
}

function words(name: string, at: number, count: number, size: number, bigEndian: boolean): FieldPlace[] {
  return Array.from({ length: count }, (_, i) => ({ name: `${name}[${i}]`, at: at + size * i, size, bigEndian }));
}
