/** `ext4d journal`: the log, transaction by transaction, and where replay would stop. */
import type { BlockDevice } from '../block/device.js';
import { OverlayDevice } from '../block/overlay-device.js';
import { CorruptionError, UnsupportedError } from '../errors.js';
import { type FastCommitListing, listFastCommits, recordJson, recordText } from '../ext4/fast-commit-listing.js';
import { INCOMPAT } from '../ext4/features.js';
import { frozenVolume } from '../ext4/frozen-volume.js';
import { type BlockOwner, findOwners, ownerText } from '../ext4/inspect.js';
import { openLogSource } from '../ext4/journal-inode.js';
import { readGeometry } from '../ext4/open.js';
import { recoverLog } from '../ext4/recover.js';
import type { Geometry } from '../ext4/volume.js';
import { journalFeatureNames, type LoggedTransaction, type LogListing, listLog } from '../jbd2/log-listing.js';
import type { LogSource } from '../jbd2/log-walker.js';
import { ImageExit } from './exit-codes.js';
import { count, parseImageArguments, print, withImage } from './image-command.js';

type Owners = ReadonlyMap<number, BlockOwner>;

interface Found {
  readonly listing: LogListing;
  /** Null without an area, and where replay refuses the log. */
  readonly fast: FastCommitListing | null;
  readonly owners: Owners;
}

/** Exit code: 0, 4 replay would refuse the log (which is shown as far as it can be read), 8 operational error, 16 usage. */
export function runJournal(args: readonly string[]): number {
  const parsed = parseImageArguments('journal', args);
  if (parsed === null) return ImageExit.USAGE;
  const { image, flags } = parsed;
  return withImage(parsed, { access: 'look', json: flags.json }, (device) => {
    const geometry = readGeometry(device);
    const source = openLogSource(device, geometry);
    const listing = listLog(source);
    const fast =
      listing.endTid === null || source.superblock.fastCommitBlocks === 0
        ? null
        : listFastCommits(source, geometry.inodeSize, listing.endTid);
    const owners = ownersAfterReplay(device, geometry, listing);
    const asked = (geometry.incompat & INCOMPAT.needs_recovery) !== 0;
    if (flags.json) print(JSON.stringify(asJson(image, geometry, source, { listing, fast, owners }, asked)));
    else printListing(geometry, source, { listing, fast, owners }, asked);
    return listing.endTid === null && source.superblock.start !== 0 ? ImageExit.CORRUPT : ImageExit.OK;
  });
}

/**
 * What the logged blocks belong to once the log is replayed: only then is a directory that the log created there. A log
 * that cannot be replayed is judged by what is on disk.
 */
function ownersAfterReplay(device: BlockDevice, geometry: Geometry, listing: LogListing): Owners {
  const blocks = new Set<number>();
  for (const transaction of listing.transactions) for (const { block } of transaction.blocks) blocks.add(block);
  if (blocks.size === 0) return new Map();
  const replayed = new OverlayDevice(device);
  try {
    recoverLog(replayed, geometry);
    return findOwners(frozenVolume(replayed, readGeometry(replayed)), blocks);
  } catch (error) {
    if (!(error instanceof CorruptionError || error instanceof UnsupportedError)) throw error;
    return findOwners(frozenVolume(device, geometry), blocks);
  }
}

function commitTime({ commit }: LoggedTransaction): string | null {
  if (commit === null) return null;
  const ms = commit.seconds * 1000 + Math.floor(commit.nanoseconds / 1e6);
  // Beyond what a Date can hold the number itself has to do.
  return Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : `${commit.seconds} s`;
}

function asJson(
  image: string,
  geometry: Geometry,
  source: LogSource,
  { listing, fast, owners }: Found,
  needsRecovery: boolean,
): object {
  const { superblock } = source;
  return {
    image,
    journal: {
      inode: geometry.journalInum,
      blockSize: superblock.blockSize,
      logBlocks: superblock.maxLen,
      fastCommitBlocks: superblock.fastCommitBlocks,
      features: journalFeatureNames(superblock),
      sequence: superblock.sequence,
      start: superblock.start,
      errno: superblock.errno,
    },
    needsRecovery,
    transactions: listing.transactions.map((transaction) => ({
      tid: transaction.tid,
      committed: commitTime(transaction),
      firstLogBlock: transaction.firstLogBlock,
      logBlocks: transaction.logBlocks,
      blocks: transaction.blocks.map(({ block, logBlock, escaped }) => ({
        block,
        logBlock,
        escaped,
        revoked: listing.revokes.revokes(block, transaction.tid),
        owner: owners.get(block),
      })),
      revokes: transaction.revokes,
    })),
    end: { tid: listing.endTid, reason: listing.endReason },
    fastCommits: fast?.commits.map((commit) => ({ ...commit, records: commit.records.map(recordJson) })) ?? [],
    fastCommitsEnd: fast?.endReason ?? null,
  };
}

function printListing(
  geometry: Geometry,
  source: LogSource,
  { listing, fast, owners }: Found,
  needsRecovery: boolean,
): void {
  const { superblock } = source;
  const features = journalFeatureNames(superblock).join(' ');
  print(`journal: inode ${geometry.journalInum}, ${superblock.maxLen} blocks of ${superblock.blockSize} bytes`);
  print(`features: ${features === '' ? 'none' : features}`);
  if (superblock.errno !== 0) print(`error: ${superblock.errno}, to be noted in the superblock at the next mount`);
  if (superblock.start === 0) {
    print(`the log is empty; the next transaction is ${superblock.sequence}`);
    return;
  }
  print(`the log starts at log block ${superblock.start} with transaction ${superblock.sequence}`);
  if (!needsRecovery) print('the superblock does not ask for recovery: a mount discards this log');
  for (const transaction of listing.transactions) printTransaction(transaction, listing, owners);
  if (listing.endTid === null) print(`replay refuses this log: ${listing.endReason}`);
  else print(`replay ends before transaction ${listing.endTid}: ${listing.endReason}`);
  if (fast !== null) printFastCommits(fast);
}

function printFastCommits({ commits, endReason }: FastCommitListing): void {
  commits.forEach(({ firstLogBlock, logBlocks, records }, i) => {
    print(`fast commit ${i + 1} on top of that: ${count(logBlocks, 'log block')} from ${firstLogBlock}`);
    for (const record of records) print(`  ${recordText(record)}`);
  });
  print(commits.length === 0 ? `there are no fast commits: ${endReason}` : `fast commits end there: ${endReason}`);
}

function printTransaction(transaction: LoggedTransaction, listing: LogListing, owners: Owners): void {
  const { tid, firstLogBlock, logBlocks, blocks, revokes } = transaction;
  const time = commitTime(transaction);
  const state = time === null ? 'not committed' : `committed ${time}`;
  print(`transaction ${tid}: ${state}, ${count(logBlocks, 'log block')} from ${firstLogBlock}`);
  for (const { block, escaped } of blocks) {
    const owner = owners.get(block);
    // What a revoked copy was is not known any more: the block has been freed since.
    const revoked = listing.revokes.revokes(block, tid) ? 'revoked, now ' : '';
    const note = escaped ? ' (begins with the magic number of the log)' : '';
    print(`  block ${block}: ${revoked}${owner === undefined ? 'unknown' : ownerText(owner)}${note}`);
  }
  if (revokes.length > 0) print(`  revokes ${count(revokes.length, 'block')}: ${revokes.join(' ')}`);
}
