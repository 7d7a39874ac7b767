/** `ext4d info`: what an image is, which of its features are supported, and whether it has to be recovered. */
import type { BlockDevice } from '../block/device.js';
import { OverlayDevice } from '../block/overlay-device.js';
import { readView } from '../codec/view.js';
import { CorruptionError, UnsupportedError } from '../errors.js';
import { formatUuid } from '../ext4/external-journal.js';
import { describeFeatures, INCOMPAT, type Support } from '../ext4/features.js';
import { EXT4_ERROR_FS, EXT4_VALID_FS, SUPERBLOCK, SUPERBLOCK_OFFSET } from '../ext4/format/superblock.js';
import { frozenVolume } from '../ext4/frozen-volume.js';
import { openLogSource } from '../ext4/journal-inode.js';
import { readGeometry } from '../ext4/open.js';
import { chainedOrphans, filedOrphans } from '../ext4/orphan-list.js';
import { recoverLog } from '../ext4/recover.js';
import type { Geometry } from '../ext4/volume.js';
import { journalFeatureNames } from '../jbd2/log-listing.js';
import { count, ExitCode, parseImageArguments, print, withImage } from './image-command.js';

const COMMAND = { usage: 'ext4d info [--json] [--journal DEVICE] IMAGE', flags: { json: '' } };

/** Exit code: 0, 4 not a readable ext4 superblock, 8 operational error, 16 usage. */
export function runInfo(args: readonly string[]): number {
  const parsed = parseImageArguments(COMMAND, args);
  if (parsed === null) return ExitCode.USAGE;
  const { image, flags } = parsed;
  return withImage(parsed, { access: 'look', json: flags.json }, (device) => {
    const geometry = readGeometry(device);
    const info = {
      image,
      superblock: superblockInfo(device, geometry),
      features: featureInfo(geometry),
      journal: journalInfo(device, geometry),
      orphans: orphanInfo(device, geometry),
    };
    if (flags.json) print(JSON.stringify(info));
    else printInfo(info);
    return ExitCode.OK;
  });
}

function superblockInfo(device: BlockDevice, geometry: Geometry) {
  const bytes = new Uint8Array(SUPERBLOCK.SIZE);
  device.read(SUPERBLOCK_OFFSET, bytes);
  const view = readView(bytes);
  const pair = (
    lo: 's_free_blocks_count_lo' | 's_r_blocks_count_lo',
    hi: 's_free_blocks_count_hi' | 's_r_blocks_count_hi',
  ) =>
    SUPERBLOCK[lo].get(view, 0) +
    ((geometry.incompat & INCOMPAT['64bit']) === 0 ? 0 : SUPERBLOCK[hi].get(view, 0) * 0x1_0000_0000);
  const state = SUPERBLOCK.s_state.get(view, 0);
  return {
    label: text(SUPERBLOCK.s_volume_name.of(bytes, 0).slice()),
    uuid: uuidText(geometry.uuid),
    blockSize: geometry.blockSize,
    blocks: geometry.blocksCount,
    freeBlocks: pair('s_free_blocks_count_lo', 's_free_blocks_count_hi'),
    reservedBlocks: pair('s_r_blocks_count_lo', 's_r_blocks_count_hi'),
    inodes: geometry.inodesCount,
    freeInodes: SUPERBLOCK.s_free_inodes_count.get(view, 0),
    inodeSize: geometry.inodeSize,
    groups: geometry.groupCount,
    lastMountedOn: text(SUPERBLOCK.s_last_mounted.of(bytes, 0).slice()),
    lastMount: timeText(SUPERBLOCK.s_mtime.get(view, 0)),
    lastWrite: timeText(SUPERBLOCK.s_wtime.get(view, 0)),
    mounts: SUPERBLOCK.s_mnt_count.get(view, 0),
    valid: (state & EXT4_VALID_FS) !== 0,
    errors: (state & EXT4_ERROR_FS) !== 0,
    errorCount: SUPERBLOCK.s_error_count.get(view, 0),
  };
}

const SUPPORT_TEXT: Record<Support, string> = { rw: 'supported', ro: 'read-only', no: 'unsupported' };

function featureInfo({ compat, incompat, roCompat }: Geometry): { name: string; support: string }[] {
  return [
    ...describeFeatures('compat', compat),
    ...describeFeatures('incompat', incompat),
    ...describeFeatures('ro_compat', roCompat),
  ].map(({ name, support }) => ({ name, support: SUPPORT_TEXT[support] }));
}

/** `state`: none, external, clean, needs recovery (with what a replay would do), or why it cannot be used. */
function journalInfo(device: BlockDevice, geometry: Geometry) {
  if (!geometry.hasJournal) return { state: 'none' };
  if (geometry.journalInum === 0 && device.journalAt === undefined)
    return { state: 'external', uuid: formatUuid(geometry.journalUuid) };
  try {
    const { superblock } = openLogSource(device, geometry);
    const log = recoverLog(device, geometry, { dryRun: true });
    return {
      state: log.state === 'recovered' ? 'needs recovery' : log.state,
      inode: geometry.journalInum,
      logBlocks: superblock.maxLen,
      fastCommitBlocks: superblock.fastCommitBlocks,
      features: journalFeatureNames(superblock),
      sequence: superblock.sequence,
      errno: superblock.errno,
      transactions: log.transactions,
      blocks: log.blocks,
    };
  } catch (error) {
    if (error instanceof UnsupportedError) return { state: 'unsupported', reason: error.message };
    if (error instanceof CorruptionError) return { state: 'corrupt', reason: error.message };
    throw error;
  }
}

/** Orphans as they are after a replay; null if that, or the lists, cannot be read. */
function orphanInfo(device: BlockDevice, geometry: Geometry): { list: number[]; file: number[] } | null {
  try {
    const replayed = new OverlayDevice(device);
    if (geometry.hasJournal) recoverLog(replayed, geometry);
    const volume = frozenVolume(replayed, readGeometry(replayed));
    return { list: chainedOrphans(volume), file: filedOrphans(volume) };
  } catch (error) {
    if (error instanceof CorruptionError || error instanceof UnsupportedError) return null;
    throw error;
  }
}

function printInfo(info: {
  superblock: ReturnType<typeof superblockInfo>;
  features: ReturnType<typeof featureInfo>;
  journal: ReturnType<typeof journalInfo>;
  orphans: ReturnType<typeof orphanInfo>;
}): void {
  const { superblock: sb, features, journal, orphans } = info;
  const line = (name: string, value: string | number) => print(`${`${name}:`.padEnd(14)}${value}`);
  if (sb.label !== '') line('label', sb.label);
  line('uuid', sb.uuid);
  line('size', `${count(sb.blocks, 'block')} of ${sb.blockSize} bytes in ${count(sb.groups, 'group')}`);
  line(
    'free',
    `${count(sb.freeBlocks, 'block')}, ${sb.reservedBlocks} reserved; ${sb.freeInodes} of ${sb.inodes} inodes`,
  );
  line('inode size', `${sb.inodeSize} bytes`);
  line('last mounted', sb.lastMountedOn === '' ? sb.lastMount : `${sb.lastMount} on ${sb.lastMountedOn}`);
  line('last write', sb.lastWrite);
  const state = journal.state === 'needs recovery' ? 'not closed' : sb.valid ? 'clean' : 'not clean';
  line('state', sb.errors ? `${state}, with errors (${sb.errorCount})` : state);
  for (const support of Object.values(SUPPORT_TEXT)) {
    const names = features.filter((feature) => feature.support === support).map(({ name }) => name);
    if (names.length > 0) line(support, names.join(' '));
  }
  line('journal', journalText(journal));
  if (orphans === null) line('orphans', 'unknown');
  else if (orphans.list.length + orphans.file.length === 0) line('orphans', 'none');
  else line('orphans', `${orphans.list.length} in the list, ${orphans.file.length} in the orphan file`);
}

function journalText(journal: ReturnType<typeof journalInfo>): string {
  if (journal.reason !== undefined) return `${journal.state}: ${journal.reason}`;
  if (journal.inode === undefined) return journal.state;
  const { state, transactions, blocks, logBlocks, features } = journal;
  const work = state === 'needs recovery' ? ` (${count(transactions, 'transaction')}, ${count(blocks, 'block')})` : '';
  return `${state}${work}, ${logBlocks} log blocks, ${features.length === 0 ? 'no features' : features.join(' ')}`;
}

/** Up to the first NUL; what is not UTF-8 shows as replacement characters. */
function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

function uuidText(uuid: Uint8Array): string {
  const hex = Array.from(uuid, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

function timeText(seconds: number): string {
  return seconds === 0 ? 'never' : new Date(seconds * 1000).toISOString();
}
