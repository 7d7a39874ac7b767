/**
 * From a device to a served volume: superblock, features, log replay, journal, orphans. What a mount does before serving.
 */
import type { BlockDevice, IoStep } from '../block/device.js';
import { OverlayDevice } from '../block/overlay-device.js';
import { ownView, readView, type WriteView } from '../codec/view.js';
import { CorruptionError, FsError, UnsupportedError } from '../errors.js';
import { BlockCache, type WritableBlock } from '../jbd2/block-cache.js';
import { BlockRuns } from '../jbd2/block-runs.js';
import { HomeStore } from '../jbd2/home-store.js';
import { Journal, type JournalHooks } from '../jbd2/journal.js';
import { JournalSuperblock } from '../jbd2/journal-superblock.js';
import { Log } from '../jbd2/log.js';
import type { TransactionStore } from '../jbd2/transaction-store.js';
import { realEnvironment } from './environment.js';
import { formatUuid } from './external-journal.js';
import { FastCommitTracker } from './fast-commit-tracker.js';
import { buildFastCommit, writesFastCommits } from './fast-commit-writer.js';
import { describeFeatures, INCOMPAT, RO_COMPAT } from './features.js';
import {
  EXT4_ENC_UTF8_12_1,
  EXT4_ERROR_FS,
  EXT4_SUPER_MAGIC,
  EXT4_VALID_FS,
  SUPERBLOCK,
  SUPERBLOCK_OFFSET,
} from './format/superblock.js';
import { readJournalMap } from './journal-inode.js';
import { type MountPolicy, policyOf } from './mount-policy.js';
import { MultiMountProtection } from './multi-mount.js';
import { type OrphanReport, orphanFileIsEmpty, processOrphans } from './orphan.js';
import { Quotas } from './quota/quotas.js';
import { type LogReport, recoverLog } from './recover.js';
import { stampSuperblock, superblockIsWhole } from './superblock-io.js';
import { mendSuperblock } from './torn-superblock.js';
import { totals } from './totals.js';
import { type Environment, Geometry, Volume } from './volume.js';

export interface OpenOptions {
  readonly readOnly?: boolean;
  /** noload/norecovery: no replay; a dirty log then allows reading only. */
  readonly noRecovery?: boolean;
  readonly policy?: Partial<MountPolicy>;
  readonly commitIntervalMs?: number;
  readonly checkpointBytes?: number;
  readonly cacheBytes?: number;
  readonly worthCheckpoint?: number;
  readonly env?: Environment;
  /** Long work tells how far it is. */
  readonly progress?: (what: string, done: number, total: number) => void;
  readonly onCorruption?: (error: CorruptionError) => void;
  /** The journal gave up: nothing can be written any more. */
  readonly onAbort?: (error: FsError) => void;
}

export interface OpenReport {
  /** Why the filesystem is read-only although it was not asked to be; empty otherwise. */
  readOnlyReasons: string[];
  log: LogReport | null;
  orphans: OrphanReport | null;
}

export interface Opened {
  readonly volume: Volume;
  readonly report: OpenReport;
}

const DEFAULT_COMMIT_INTERVAL_MS = 5000;
/** JBD2_MIN_JOURNAL_BLOCKS, less the superblocks that an external one begins with. What any operation changes fits a quarter. */
const MIN_LOG_BLOCKS = 1020;

/** JBD2_MIN_JOURNAL_BLOCKS: what must be left of the log besides the area of fast commits (jbd2_journal_initialize_fast_commit). */
const MIN_FAST_COMMIT_LOG_BLOCKS = 1023;

/** True if a superblock is where one belongs, whatever it says. */
export function looksLikeExt4(device: BlockDevice): boolean {
  if (device.sizeBytes < SUPERBLOCK_OFFSET + SUPERBLOCK.SIZE) return false;
  const bytes = new Uint8Array(SUPERBLOCK.SIZE);
  device.read(SUPERBLOCK_OFFSET, bytes);
  return SUPERBLOCK.s_magic.get(readView(bytes), 0) === EXT4_SUPER_MAGIC;
}

/** Reads and checks the superblock. Throws CorruptionError. */
export function readGeometry(device: BlockDevice): Geometry {
  if (device.sizeBytes < SUPERBLOCK_OFFSET + SUPERBLOCK.SIZE) {
    throw new CorruptionError('superblock', 'byte 1024', 'not an ext4 filesystem: the device ends before it');
  }
  const bytes = new Uint8Array(SUPERBLOCK.SIZE);
  device.read(SUPERBLOCK_OFFSET, bytes);
  const geometry = new Geometry(readView(bytes), bytes, device.sizeBytes);
  if (superblockIsWhole(geometry, bytes)) return geometry;
  const mended = mendSuperblock(device, geometry, bytes);
  if (mended === null) {
    throw new CorruptionError('superblock', 'byte 1024', 'its checksum does not match', 'EBADMSG');
  }
  return new Geometry(readView(mended), mended, device.sizeBytes, mended);
}

/** Throws UnsupportedError for features that rule out any access; returns why others allow reading only. */
export function judgeFeatures(geometry: Geometry): string[] {
  const refused = describeFeatures('incompat', geometry.incompat).filter((feature) => feature.support === 'no');
  if (refused.length > 0) {
    const names = refused.map((feature) => feature.name);
    throw new UnsupportedError(`the image uses features that are not supported: ${names.join(', ')}`, names);
  }
  if ((geometry.incompat & INCOMPAT.casefold) !== 0 && geometry.encoding !== EXT4_ENC_UTF8_12_1) {
    const name = `encoding ${geometry.encoding}`;
    throw new UnsupportedError(`the image folds the case of names in an unknown encoding (${geometry.encoding})`, [
      name,
    ]);
  }
  const reasons: string[] = [];
  const readOnly = [
    ...describeFeatures('compat', geometry.compat),
    ...describeFeatures('incompat', geometry.incompat),
    ...describeFeatures('ro_compat', geometry.roCompat),
  ].filter((feature) => feature.support === 'ro');
  for (const { name } of readOnly) reasons.push(`the feature ${name} is supported for reading only`);
  return reasons;
}

/**
 * Opens the filesystem on `device`. Throws CorruptionError, UnsupportedError, or FsError from the device.
 * A writable open replays the log and finishes orphans first; a read-only one replays into memory.
 */
export function openVolume(device: BlockDevice, options: OpenOptions = {}): Opened {
  const report: OpenReport = { readOnlyReasons: [], log: null, orphans: null };
  const geometry = readGeometry(device);
  report.readOnlyReasons = judgeFeatures(geometry);
  if (journalIsMissing(device, geometry)) {
    report.readOnlyReasons.push(
      `the journal is on another device, with the UUID ${formatUuid(geometry.journalUuid)}: name it with -o journal_path=PATH`,
    );
  }
  if (device.readOnly && !options.readOnly) report.readOnlyReasons.push('the image cannot be written');
  const readOnly = options.readOnly === true || report.readOnlyReasons.length > 0;
  const multiMount = readOnly ? null : MultiMountProtection.claim(device, geometry, options.env ?? realEnvironment);
  try {
    return openClaimed(device, geometry, readOnly, multiMount, report, options);
  } catch (error) {
    multiMount?.release();
    throw error;
  }
}

function openClaimed(
  device: BlockDevice,
  geometryBefore: Geometry,
  readOnlyBefore: boolean,
  multiMount: MultiMountProtection | null,
  report: OpenReport,
  options: OpenOptions,
): Opened {
  let geometry = geometryBefore;
  let readOnly = readOnlyBefore;
  const journalMissing = journalIsMissing(device, geometry);
  let target = device;
  // Replay does not move the log.
  let blockMap: Float64Array | null = null;
  const needsRecovery = (geometry.incompat & INCOMPAT.needs_recovery) !== 0;
  if (options.noRecovery) {
    if (needsRecovery && !readOnly) {
      throw new UnsupportedError(
        'the log needs recovery: with norecovery the image can be mounted only read-only (-o ro,norecovery)',
      );
    }
  } else if (geometry.hasJournal && !journalMissing) {
    if (readOnly) target = new OverlayDevice(device);
    blockMap = readJournalMap(target, geometry);
    report.log = recoverLog(target, geometry, { progress: options.progress, blockMap });
    geometry = readGeometry(target);
    readOnly ||= judgeFeatures(geometry).length > 0;
    if (target instanceof OverlayDevice && target.empty) target = device;
  }
  const volume = buildVolume(target, geometry, readOnly, blockMap, multiMount, options);
  // Before anything changes: they are kept up to date from here on.
  if (!readOnly) {
    totals(volume);
    openQuotas(volume, report);
  }
  if (!volume.readOnly && !options.noRecovery) report.orphans = processOrphans(volume, options.progress);
  multiMount?.keepAlive((error) =>
    volume.journal.abort(error instanceof FsError ? error : new FsError('EIO', error.message)),
  );
  return { volume, report };
}

/** An external journal that was not found. */
function journalIsMissing(device: BlockDevice, geometry: Geometry): boolean {
  return geometry.hasJournal && geometry.journalInum === 0 && device.journalAt === undefined;
}

function buildVolume(
  device: BlockDevice,
  geometry: Geometry,
  readOnly: boolean,
  blockMap: Float64Array | null,
  multiMount: MultiMountProtection | null,
  options: OpenOptions,
): Volume {
  const env = options.env ?? realEnvironment;
  const cache = new BlockCache(device, geometry.blockSize, options.cacheBytes);
  let volume: Volume | null = null;
  const opened = (): Volume => {
    if (volume === null) throw new Error('the journal is used before the volume is complete');
    return volume;
  };
  const hooks: JournalHooks = {
    monotonicMs: env.monotonicMs,
    now: env.now,
    schedule: env.schedule,
    beforeFirstCommit: () => markInUse(opened(), store),
    fastCommit: (request) => buildFastCommit(opened(), request),
    committed: (tid) => opened().forgetChangesUpTo(tid),
    aborted(error) {
      opened().turnReadOnly();
      options.onAbort?.(error);
    },
  };
  const policy = policyOf(geometry, options.policy);
  const store = openStore(device, geometry, readOnly, blockMap);
  if (store instanceof Log && writesFastCommits({ geometry, policy }))
    store.allowFastCommits(MIN_FAST_COMMIT_LOG_BLOCKS);
  const journal = new Journal(store, cache, hooks, {
    commitIntervalMs: options.commitIntervalMs ?? DEFAULT_COMMIT_INTERVAL_MS,
    checkpointBytes: options.checkpointBytes,
    worthCheckpoint: options.worthCheckpoint,
  });
  if (readOnly) journal.disable();
  volume = new Volume({
    device,
    geometry,
    cache,
    journal,
    env,
    readOnly,
    policy,
    multiMount,
    log: new BlockRuns(blockMap ?? []),
    onError: options.onCorruption ?? (() => {}),
  });
  if (store.fastArea !== null) volume.fastCommits = new FastCommitTracker();
  return volume;
}

/** Where the quota files cannot be kept right nothing is written. */
function openQuotas(volume: Volume, report: OpenReport): void {
  if (volume.geometry.quotaInums.size === 0) return;
  try {
    volume.quotas = new Quotas(volume);
    volume.journal.extraCredits = volume.quotas.credits;
  } catch (error) {
    if (!(error instanceof CorruptionError)) throw error;
    report.readOnlyReasons.push(`${error.message}: run e2fsck`);
    volume.turnReadOnly();
    volume.journal.disable();
  }
}

function openStore(
  device: BlockDevice,
  geometry: Geometry,
  readOnly: boolean,
  blockMap: Float64Array | null,
): TransactionStore {
  if (readOnly || !geometry.hasJournal) return new HomeStore(device, geometry.blockSize);
  const map = blockMap ?? readJournalMap(device, geometry);
  const bytes = new Uint8Array(1024);
  device.read(map[0] * geometry.blockSize, bytes);
  const superblock = new JournalSuperblock(bytes, geometry.blockSize, map.length);
  const blocks = superblock.end - superblock.first;
  if (blocks < MIN_LOG_BLOCKS)
    throw new CorruptionError('journal superblock', 'log block 0', `a log of ${blocks} blocks`);
  return new Log(device, superblock, map);
}

/**
 * Before anything is logged the superblock on the device says that there is a log to replay. Only then: a mount that
 * writes nothing leaves the image as it found it. The copy in memory gets the same marks, or its next checkpoint
 * would take them away. The device gets nothing but the marks: see torn-superblock.ts.
 */
function markInUse(volume: Volume, store: TransactionStore): IoStep[] {
  const { geometry, device, env } = volume;
  const nr = geometry.superblockBlock;
  const at = geometry.superblockOffset;
  const home = new Uint8Array(geometry.blockSize);
  device.read(nr * geometry.blockSize, home);
  setMarks(geometry, ownView(home), true, true);
  stampSuperblock(geometry, ownView(home), home);

  const { view } = volume.superblock() as WritableBlock;
  setMarks(geometry, view, true, true);
  SUPERBLOCK.s_mnt_count.set(view, at, SUPERBLOCK.s_mnt_count.get(view, at) + 1);
  SUPERBLOCK.s_mtime.set(view, at, env.now().seconds >>> 0);
  if (store instanceof Log) {
    store.prepareForWriting({
      is64bit: (geometry.incompat & INCOMPAT['64bit']) !== 0,
      metadataCsum: geometry.metadataCsum,
    });
  }
  return [{ kind: 'write', offsetBytes: nr * geometry.blockSize, bytes: home }];
}

function setMarks(geometry: Geometry, view: WriteView, inUse: boolean, orphans: boolean): void {
  const { s_feature_incompat, s_feature_ro_compat, s_state } = SUPERBLOCK;
  const at = geometry.superblockOffset;
  const set = (bits: number, mark: number, on = inUse) => (on ? bits | mark : bits & ~mark);
  if (geometry.hasJournal) {
    s_feature_incompat.set(view, at, set(s_feature_incompat.get(view, at), INCOMPAT.needs_recovery));
  } else {
    // Without a log only this tells e2fsck that the filesystem was not unmounted. It is not for us to call it valid.
    const state = s_state.get(view, at) & ~EXT4_VALID_FS;
    s_state.set(view, at, inUse ? state : state | (geometry.stateBefore & EXT4_VALID_FS));
  }
  if (geometry.orphanFileInum !== 0) {
    s_feature_ro_compat.set(view, at, set(s_feature_ro_compat.get(view, at), RO_COMPAT.orphan_present, orphans));
  }
}

/**
 * Ends clean: everything home, the log empty, and only then the marks taken away. Blocks the thread. Returns false if
 * there was nothing to write. Throws FsError if the device fails; the log then still holds what is not home.
 */
export function closeVolume(volume: Volume): boolean {
  const { geometry, journal, device } = volume;
  if (!journal.hasWork && (volume.readOnly || endedClean(volume))) return false;
  journal.run(1, (handle) => totals(volume).writeBack(handle));
  journal.flushAll();
  if (journal.aborted !== null) throw journal.aborted;
  journal.markEmpty();
  const block = volume.superblock() as WritableBlock;
  // Files that are deleted and still open stay recorded.
  setMarks(geometry, block.view, false, !orphanFileIsEmpty(volume));
  stampSuperblock(geometry, block.view, block.bytes);
  device.write(block.nr * geometry.blockSize, block.bytes);
  device.flush();
  return true;
}

/** False after a crash before the first commit, or a replay: orphan_present is still set, or the counts are old. */
function endedClean(volume: Volume): boolean {
  const at = volume.geometry.superblockOffset;
  const orphanPresent = SUPERBLOCK.s_feature_ro_compat.get(volume.superblock().view, at) & RO_COMPAT.orphan_present;
  return orphanPresent === 0 && totals(volume).matchSuperblock;
}

/** True if an earlier error is recorded in the superblock. */
export function hasRecordedError(volume: Volume): boolean {
  const state = SUPERBLOCK.s_state.get(volume.superblock().view, volume.geometry.superblockOffset);
  return (state & EXT4_ERROR_FS) !== 0;
}
