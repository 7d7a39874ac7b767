/**
 * The log part of what a mount does before serving (ext4_load_journal): replay, and the marks that ask for it taken
 * away. Each step is durable before the next begins, so that a crash at any point leaves an image that replays again to
 * the same end:
 *
 *   1. logged blocks go home; the superblock among them keeps needs_recovery; flush
 *   2. fast commits become a transaction of the log (fast-commit-log.ts), whose blocks go home like those of 1
 *   3. the journal superblock says that the log is empty; flush
 *   4. the superblock loses needs_recovery; flush
 */
import type { BlockDevice } from '../block/device.js';
import { OverlayDevice } from '../block/overlay-device.js';
import { crc32c } from '../codec/crc.js';
import { ownView } from '../codec/view.js';
import { CorruptionError } from '../errors.js';
import { JBD2_MAGIC } from '../jbd2/format.js';
import { LogBlocks } from '../jbd2/log-blocks.js';
import type { LogSource } from '../jbd2/log-walker.js';
import { type RecoveryInfo, type ReplayedBlock, replay, revoke, scan } from '../jbd2/recovery.js';
import { tidNext } from '../jbd2/tid.js';
import { realEnvironment } from './environment.js';
import { type FastCommits, scanFastCommits } from './fast-commit-area.js';
import { type ChangedBlock, changesOfFastCommits, logFastCommits } from './fast-commit-log.js';
import { COMPAT, INCOMPAT } from './features.js';
import { EXT4_ERROR_FS, SUPERBLOCK, SUPERBLOCK_OFFSET } from './format/superblock.js';
import { openLogSource } from './journal-inode.js';
import type { Environment, Geometry } from './volume.js';

export interface RecoverOptions {
  /** Decide everything, write nothing. */
  readonly dryRun?: boolean;
  /** What {@link readJournalMap} says, if it is known already. */
  readonly blockMap?: Float64Array;
  readonly env?: Environment;
  readonly progress?: (what: string, done: number, total: number) => void;
}

export interface LogReport {
  /**
   * clean: nothing to do. recovered: needs_recovery was set. discarded: the log held transactions although
   * needs_recovery was clear; they are void (jbd2_journal_wipe). error-noted: only the journal's error code was taken over.
   */
  readonly state: 'clean' | 'recovered' | 'discarded' | 'error-noted';
  readonly transactions: number;
  /** First and last tid replayed; null if there was none. */
  readonly firstTid: number | null;
  readonly lastTid: number | null;
  /** Blocks written home. */
  readonly blocks: number;
  /** Copies in the log that counted: at least one for each block. */
  readonly copies: number;
  /** Copies skipped because a later transaction revoked the block. */
  readonly revokeHits: number;
  /** Fast commits replayed on top of the transactions. */
  readonly fastCommits: number;
  /** Why the log ends where it ends; empty if it was empty. */
  readonly endReason: string;
  /** s_errno that the journal carried into the superblock's state, or 0. */
  readonly journalErrno: number;
}

/** Most bytes in one home write: contiguous blocks are joined up to this. */
const MAX_WRITE_BYTES = 1 << 20;

/**
 * Recovers the log of the filesystem on `device`. Throws CorruptionError or UnsupportedError before anything is written;
 * FsError when the device fails, after which recovering again is safe. Read the geometry again afterwards.
 */
export function recoverLog(device: BlockDevice, geometry: Geometry, options: RecoverOptions = {}): LogReport {
  const needsRecovery = (geometry.incompat & INCOMPAT.needs_recovery) !== 0;
  if ((geometry.compat & COMPAT.has_journal) === 0) {
    if (needsRecovery) {
      throw new CorruptionError(
        'superblock',
        'byte 1024',
        'needs_recovery is set, but there is no journal to recover from',
      );
    }
    return report('clean', null, 0);
  }
  const source = openLogSource(device, geometry, options.blockMap);
  const { superblock } = source;
  let info = superblock.start === 0 ? null : scan(source);
  const errno = superblock.errno;
  const env = options.env ?? realEnvironment;
  let fastCommits: FastCommits | null = null;
  let changes: ChangedBlock[] = [];
  if (needsRecovery && info !== null) {
    revoke(source, info);
    replay(source, info);
    fastCommits = scanFastCommits(source, geometry.inodeSize, info.endTid);
    if (fastCommits.commits > 0)
      changes = changesOfFastCommits(replayedInMemory(source, geometry, info), source, fastCommits, env);
  }
  const state = needsRecovery ? 'recovered' : info !== null ? 'discarded' : errno !== 0 ? 'error-noted' : 'clean';
  const result = report(state, needsRecovery ? info : null, errno, fastCommits?.commits);
  if (state === 'clean' || options.dryRun) return result;

  if (geometry.mendedSuperblock !== null) {
    device.write(SUPERBLOCK_OFFSET, geometry.mendedSuperblock);
    device.flush();
  }
  const home = new SuperblockAtHome(device, geometry);
  if (needsRecovery && info !== null) writeHome(source, info, home, options);
  if (needsRecovery && info !== null && changes.length > 0) {
    logFastCommits(source, geometry, info, changes, env);
    info = scan(source);
    replay(source, info);
    writeHome(source, info, home, options);
  }
  if (info !== null) superblock.setTail(tidNext(info.endTid), 0);
  // First the superblock says that there was an error, then the journal forgets it (ext4_clear_journal_err).
  if (errno !== 0) {
    home.update((view) => SUPERBLOCK.s_state.set(view, 0, SUPERBLOCK.s_state.get(view, 0) | EXT4_ERROR_FS));
    device.flush();
    superblock.setErrno(0);
  }
  if (info !== null || errno !== 0) {
    device.write(source.blockMap[0] * superblock.blockSize, superblock.bytes);
    device.flush();
  }
  if (needsRecovery) {
    const { s_feature_incompat } = SUPERBLOCK;
    home.update((view) => s_feature_incompat.set(view, 0, s_feature_incompat.get(view, 0) & ~INCOMPAT.needs_recovery));
    device.flush();
  }
  return result;
}

/** The filesystem as it is after the log, and before the fast commits. */
function replayedInMemory(source: LogSource, geometry: Geometry, info: RecoveryInfo): OverlayDevice {
  const device = new OverlayDevice(source.device);
  if (geometry.mendedSuperblock !== null) device.write(SUPERBLOCK_OFFSET, geometry.mendedSuperblock);
  writeHome({ ...source, device }, info, new SuperblockAtHome(device, geometry), {});
  return device;
}

function report(
  state: LogReport['state'],
  info: RecoveryInfo | null,
  journalErrno: number,
  fastCommits = 0,
): LogReport {
  const found = info !== null && info.transactions > 0;
  return {
    state,
    transactions: info?.transactions ?? 0,
    firstTid: found ? info.startTid : null,
    lastTid: found ? (info.endTid - 1) >>> 0 : null,
    blocks: info?.blocks.size ?? 0,
    copies: info?.copies ?? 0,
    revokeHits: info?.revokeHits ?? 0,
    fastCommits,
    endReason: info?.endReason ?? '',
    journalErrno,
  };
}

/** The 1024 bytes on the device, and what of them a replayed copy must not take back. */
class SuperblockAtHome {
  private readonly device: BlockDevice;
  private readonly geometry: Geometry;
  private readonly before: Uint8Array;

  constructor(device: BlockDevice, geometry: Geometry) {
    this.device = device;
    this.geometry = geometry;
    this.before = this.read();
  }

  private read(): Uint8Array {
    const bytes = new Uint8Array(SUPERBLOCK.SIZE);
    this.device.read(SUPERBLOCK_OFFSET, bytes);
    return bytes;
  }

  /** Changes the superblock on the device; the checksum follows. */
  update(change: (view: ReturnType<typeof ownView>) => void): void {
    const bytes = this.read();
    change(ownView(bytes));
    this.stamp(bytes);
    this.device.write(SUPERBLOCK_OFFSET, bytes);
  }

  /**
   * Before a logged copy of the superblock goes home: errors recorded since stay recorded, and needs_recovery stays set,
   * or a crash before the rest is home would leave the log unread.
   */
  keepMarks(block: Uint8Array): void {
    const at = this.geometry.superblockOffset;
    const bytes = block.subarray(at, at + SUPERBLOCK.SIZE);
    const view = ownView(bytes);
    const { s_state, s_feature_incompat, s_error_count, s_mount_opts } = SUPERBLOCK;
    const before = ownView(this.before);
    s_feature_incompat.set(view, 0, s_feature_incompat.get(view, 0) | INCOMPAT.needs_recovery);
    s_state.set(view, 0, s_state.get(view, 0) | (s_state.get(before, 0) & EXT4_ERROR_FS));
    bytes.set(this.before.subarray(s_error_count.offset, s_mount_opts.offset), s_error_count.offset);
    this.stamp(bytes);
  }

  private stamp(bytes: Uint8Array): void {
    if (!this.geometry.metadataCsum) return;
    const { s_checksum } = SUPERBLOCK;
    s_checksum.set(ownView(bytes), 0, crc32c(0xffffffff, bytes.subarray(0, s_checksum.offset)));
  }
}

/** Step 1: the newest copy of each block, in order of the blocks, contiguous ones in one write. */
function writeHome(source: LogSource, info: RecoveryInfo, home: SuperblockAtHome, options: RecoverOptions): void {
  const { device, superblock } = source;
  const { blockSize } = superblock;
  const superblockBlock = Math.floor(SUPERBLOCK_OFFSET / blockSize);
  const homes = Float64Array.from(info.blocks.keys()).sort();
  const logged = new LogBlocks(source);
  const buffer = new Uint8Array(Math.max(blockSize, Math.min(MAX_WRITE_BYTES, homes.length * blockSize)));
  for (let i = 0; i < homes.length; ) {
    const start = homes[i];
    let run = 0;
    do {
      const nr = start + run;
      const { logBlock, escaped } = info.blocks.get(nr) as ReplayedBlock;
      const bytes = buffer.subarray(run * blockSize, (run + 1) * blockSize);
      bytes.set(logged.read(logBlock));
      if (escaped) ownView(bytes).setUint32(0, JBD2_MAGIC, false);
      if (nr === superblockBlock) home.keepMarks(bytes);
      run++;
    } while (homes[i + run] === start + run && (run + 1) * blockSize <= buffer.length);
    device.write(start * blockSize, buffer.subarray(0, run * blockSize));
    i += run;
    options.progress?.('replaying the log', i, homes.length);
  }
  device.flush();
}
