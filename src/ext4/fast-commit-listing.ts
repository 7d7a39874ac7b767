/** The fast commits on top of the log as a report, record by record. */
import { UnsupportedError } from '../errors.js';
import type { LogSource } from '../jbd2/log-walker.js';
import type { Tid } from '../jbd2/tid.js';
import { type FastCommitRecord, fastCommitRecords, scanFastCommits } from './fast-commit-area.js';
import { readRecorded } from './fast-commit-inode.js';
import { EXT_MAX_BLOCKS } from './format/extent.js';

export interface ListedFastCommit {
  readonly firstLogBlock: number;
  readonly logBlocks: number;
  /** Without what only frames them: HEAD, PAD, TAIL. */
  readonly records: readonly FastCommitRecord[];
}

export interface FastCommitListing {
  readonly commits: readonly ListedFastCommit[];
  /** Why there are no more. */
  readonly endReason: string;
}

/** Those that replay would take, on top of the transaction before `expected`. */
export function listFastCommits(source: LogSource, inodeSize: number, expected: Tid): FastCommitListing {
  const commits: ListedFastCommit[] = [];
  try {
    const found = scanFastCommits(source, inodeSize, expected);
    let records: FastCommitRecord[] = [];
    let firstLogBlock = 0;
    for (const { record, logBlock } of fastCommitRecords(source, inodeSize)) {
      if (commits.length === found.commits) break;
      if (firstLogBlock === 0) firstLogBlock = logBlock;
      if (record.tag === 'TAIL') {
        commits.push({ firstLogBlock, logBlocks: logBlock - firstLogBlock + 1, records });
        records = [];
        firstLogBlock = 0;
      } else if (record.tag !== 'HEAD' && record.tag !== 'PAD') {
        records.push(record);
      }
    }
    return { commits, endReason: found.endReason };
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    return { commits, endReason: error.message };
  }
}

/** One line for a record. */
export function recordText(record: FastCommitRecord): string {
  switch (record.tag) {
    case 'CREAT':
      return `inode ${record.ino} is created as ${nameText(record.name)} in directory ${record.parent}`;
    case 'LINK':
      return `inode ${record.ino} gets the name ${nameText(record.name)} in directory ${record.parent}`;
    case 'UNLINK':
      return `inode ${record.ino} loses the name ${nameText(record.name)} in directory ${record.parent}`;
    case 'INODE': {
      const { mode, links, sizeBytes } = readRecorded(record.raw);
      return `inode ${record.ino}: mode ${mode.toString(8)}, links ${links}, size ${sizeBytes}`;
    }
    case 'ADD_RANGE': {
      const { ino, lblk, count, pblk, unwritten } = record;
      return `inode ${ino}: blocks ${lblk}+${count} are mapped to ${pblk}${unwritten ? ', unwritten' : ''}`;
    }
    case 'DEL_RANGE': {
      const { ino, lblk, count } = record;
      return `inode ${ino}: blocks from ${lblk} on${lblk + count >= EXT_MAX_BLOCKS - 1 ? '' : `, ${count} of them,`} are unmapped`;
    }
    default:
      return record.tag;
  }
}

/** Bytes that are not UTF-8 show as replacement characters. */
function nameText(name: Uint8Array): string {
  return JSON.stringify(new TextDecoder().decode(name));
}

/** A record as it shows in JSON. */
export function recordJson(record: FastCommitRecord): object {
  if ('name' in record) return { ...record, name: new TextDecoder().decode(record.name) };
  if (record.tag !== 'INODE') return record;
  const { mode, links, sizeBytes, generation } = readRecorded(record.raw);
  return { tag: record.tag, ino: record.ino, mode, links, size: sizeBytes, generation };
}
