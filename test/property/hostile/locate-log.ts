/** The structures of the log of a sound image: its superblock, the records of the transactions in it, what they hold. */
import { readView } from '../../../src/codec/view.js';
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
import type { LogRecord, LogWalker } from '../../../src/jbd2/log-walker.js';
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
  // Log block `end` lies between log and area. The area is empty: what is put there is what it holds.
  for (let logBlock = superblock.end + 1; logBlock < Math.min(superblock.end + 3, superblock.maxLen); logBlock++) {
    const at = blockMap[logBlock] * blockSize;
    add('fast-commit area', `log block ${logBlock}`, at, 32, NOTHING, words('le16', at, 16, 2, false));
  }
  return found;
}

function words(name: string, at: number, count: number, size: number, bigEndian: boolean): FieldPlace[] {
  return Array.from({ length: count }, (_, i) => ({ name: `${name}[${i}]`, at: at + size * i, size, bigEndian }));
}
