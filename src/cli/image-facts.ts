/** What there is to say of an image: `ext4d info --json` prints it as it is, info.ts for people. */
import type { BlockDevice } from '../block/device.js';
import { OverlayDevice } from '../block/overlay-device.js';
import { type ReadView, readView } from '../codec/view.js';
import { CorruptionError, UnsupportedError } from '../errors.js';
import { formatUuid } from '../ext4/external-journal.js';
import { COMPAT, describeFeatures, INCOMPAT, RO_COMPAT, type Support } from '../ext4/features.js';
import { EXT4_ERROR_FS, EXT4_VALID_FS, SUPERBLOCK, SUPERBLOCK_OFFSET } from '../ext4/format/superblock.js';
import { frozenVolume } from '../ext4/frozen-volume.js';
import { openLogSource } from '../ext4/journal-inode.js';
import { judgeFeatures, readGeometry } from '../ext4/open.js';
import { chainedOrphans, filedOrphans } from '../ext4/orphan-list.js';
import { recoverLog } from '../ext4/recover.js';
import { totals } from '../ext4/totals.js';
import type { Geometry } from '../ext4/volume.js';
import { journalFeatureNames } from '../jbd2/log-listing.js';

export type ImageFacts = ReturnType<typeof imageFacts>;

/** Throws CorruptionError if there is no readable superblock; FsError. */
export function imageFacts(image: string, device: BlockDevice) {
  const geometry = readGeometry(device);
  const afterReplay = replayedFacts(device, geometry);
  return {
    image,
    type: typeOf(geometry),
    mount: mountFacts(device, geometry),
    superblock: { ...superblockFacts(device, geometry), ...afterReplay?.free },
    features: featureFacts(geometry),
    journal: journalFacts(device, geometry),
    orphans: afterReplay?.orphans ?? null,
  };
}

/** What mke2fs -t would have to be told. */
function typeOf({ compat, incompat, roCompat }: Geometry): 'ext2' | 'ext3' | 'ext4' {
  const old = { compat: 0x3f, incompat: INCOMPAT.filetype | INCOMPAT.needs_recovery | INCOMPAT.meta_bg };
  const oldRo = RO_COMPAT.sparse_super | RO_COMPAT.large_file;
  if ((compat & ~old.compat) !== 0 || (incompat & ~old.incompat) !== 0 || (roCompat & ~oldRo) !== 0) return 'ext4';
  return (compat & COMPAT.has_journal) !== 0 ? 'ext3' : 'ext2';
}

/** `as`: read-write, read-only or refused; and why not better. */
function mountFacts(device: BlockDevice, geometry: Geometry): { as: string; reasons: string[] } {
  try {
    const reasons = judgeFeatures(geometry);
    if (geometry.hasJournal && geometry.journalInum === 0 && device.journalAt === undefined) {
      reasons.push('its journal is on another device: name that (-o journal_path=, --journal)');
    }
    return { as: reasons.length === 0 ? 'read-write' : 'read-only', reasons };
  } catch (error) {
    if (error instanceof UnsupportedError) return { as: 'refused', reasons: [error.message] };
    throw error;
  }
}

type Lo = { get(view: ReadView, base: number): number };

/** As stored; times in ISO 8601, null for never. */
function superblockFacts(device: BlockDevice, geometry: Geometry) {
  const bytes = new Uint8Array(SUPERBLOCK.SIZE);
  device.read(SUPERBLOCK_OFFSET, bytes);
  const view = readView(bytes);
  const get = (field: Lo) => field.get(view, 0);
  const wide = (geometry.incompat & INCOMPAT['64bit']) !== 0;
  const pair = (lo: Lo, hi: Lo) => get(lo) + (wide ? get(hi) * 0x1_0000_0000 : 0);
  const time = (lo: Lo, hi: Lo) => timeText(get(lo) + get(hi) * 0x1_0000_0000);
  const clustered = (geometry.roCompat & RO_COMPAT.bigalloc) !== 0;
  const clusterSize = clustered ? 1024 * 2 ** get(SUPERBLOCK.s_log_cluster_size) : geometry.blockSize;
  const state = get(SUPERBLOCK.s_state);
  const error = (which: 'first' | 'last') => ({
    time: time(SUPERBLOCK[`s_${which}_error_time`], SUPERBLOCK[`s_${which}_error_time_hi`]),
    where: text(SUPERBLOCK[`s_${which}_error_func`].of(bytes, 0).slice()),
    line: get(SUPERBLOCK[`s_${which}_error_line`]),
    inode: get(SUPERBLOCK[`s_${which}_error_ino`]),
    block: get(SUPERBLOCK[`s_${which}_error_block`]),
  });
  const errorCount = get(SUPERBLOCK.s_error_count);
  return {
    label: text(SUPERBLOCK.s_volume_name.of(bytes, 0).slice()),
    uuid: formatUuid(geometry.uuid),
    sizeBytes: geometry.blocksCount * geometry.blockSize,
    blockSize: geometry.blockSize,
    clusterSize,
    blocks: geometry.blocksCount,
    freeBlocks: pair(SUPERBLOCK.s_free_blocks_count_lo, SUPERBLOCK.s_free_blocks_count_hi),
    reservedBlocks: pair(SUPERBLOCK.s_r_blocks_count_lo, SUPERBLOCK.s_r_blocks_count_hi),
    inodes: geometry.inodesCount,
    freeInodes: get(SUPERBLOCK.s_free_inodes_count),
    inodeSize: geometry.inodeSize,
    groups: geometry.groupCount,
    made: time(SUPERBLOCK.s_mkfs_time, SUPERBLOCK.s_mkfs_time_hi),
    lastMountedOn: text(SUPERBLOCK.s_last_mounted.of(bytes, 0).slice()),
    lastMount: time(SUPERBLOCK.s_mtime, SUPERBLOCK.s_mtime_hi),
    lastWrite: time(SUPERBLOCK.s_wtime, SUPERBLOCK.s_wtime_hi),
    lastCheck: time(SUPERBLOCK.s_lastcheck, SUPERBLOCK.s_lastcheck_hi),
    mounts: get(SUPERBLOCK.s_mnt_count),
    valid: (state & EXT4_VALID_FS) !== 0,
    errors: (state & EXT4_ERROR_FS) !== 0,
    errorCount,
    firstError: errorCount === 0 ? null : error('first'),
    lastError: errorCount === 0 ? null : error('last'),
  };
}

export const SUPPORT_TEXT: Record<Support, string> = { rw: 'supported', ro: 'read-only', no: 'unsupported' };

function featureFacts({ compat, incompat, roCompat }: Geometry): { name: string; support: string }[] {
  return [
    ...describeFeatures('compat', compat),
    ...describeFeatures('incompat', incompat),
    ...describeFeatures('ro_compat', roCompat),
  ].map(({ name, support }) => ({ name, support: SUPPORT_TEXT[support] }));
}

/** `state`: none, external, clean, needs recovery (with what a replay would do), or why it cannot be used. */
function journalFacts(device: BlockDevice, geometry: Geometry) {
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
      sizeBytes: superblock.maxLen * superblock.blockSize,
      fastCommitBlocks: superblock.fastCommitBlocks,
      features: journalFeatureNames(superblock),
      sequence: superblock.sequence,
      errno: superblock.errno,
      transactions: log.transactions,
      fastCommits: log.fastCommits,
      blocks: log.blocks,
    };
  } catch (error) {
    if (error instanceof UnsupportedError) return { state: 'unsupported', reason: error.message };
    if (error instanceof CorruptionError) return { state: 'corrupt', reason: error.message };
    throw error;
  }
}

/** Orphans and free space as they are after a replay; null if that, or what they are read from, cannot be read. */
function replayedFacts(device: BlockDevice, geometry: Geometry) {
  try {
    const replayed = new OverlayDevice(device);
    if (geometry.hasJournal) recoverLog(replayed, geometry);
    const volume = frozenVolume(replayed, readGeometry(replayed));
    const { freeBlocks, freeInodes } = totals(volume);
    // With bigalloc the descriptors count clusters, and the superblock does not.
    const free = (geometry.roCompat & RO_COMPAT.bigalloc) === 0 ? { freeBlocks, freeInodes } : { freeInodes };
    return { orphans: { list: chainedOrphans(volume), file: filedOrphans(volume) }, free };
  } catch (error) {
    if (error instanceof CorruptionError || error instanceof UnsupportedError) return null;
    throw error;
  }
}

/** Up to the first NUL; what is not UTF-8 shows as replacement characters, what would move the cursor as "?". */
function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  const whole = new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not reach a terminal
  return whole.replace(/[\x00-\x1f\x7f-\x9f]/g, '?');
}

const timeText = (seconds: number) => (seconds === 0 ? null : new Date(seconds * 1000).toISOString());
