/** `ext4d replay`: brings an image that was not closed to a clean end, without mounting it. */
import type { BlockDevice } from '../block/device.js';
import { OverlayDevice } from '../block/overlay-device.js';
import { realEnvironment } from '../ext4/environment.js';
import { MultiMountProtection } from '../ext4/multi-mount.js';
import { closeVolume, judgeFeatures, openVolume, readGeometry } from '../ext4/open.js';
import type { OrphanReport } from '../ext4/orphan.js';
import { type LogReport, recoverLog } from '../ext4/recover.js';
import { ImageExit } from './exit-codes.js';
import { count, parseImageArguments, print, withImage } from './image-command.js';

interface ReplayReport {
  readonly log: LogReport;
  /** Null if they were not looked at: --log-only, or a filesystem that can only be read. */
  readonly orphans: OrphanReport | null;
  /** Why orphans were left alone. */
  readonly notes: readonly string[];
  readonly changed: boolean;
}

/** Exit code: 0 nothing to do, 1 recovered, 4 the log is corrupt or unsupported, 8 operational error, 16 usage. */
export function runReplay(args: readonly string[]): number {
  const parsed = parseImageArguments('replay', args);
  if (parsed === null) return ImageExit.USAGE;
  const { image, flags } = parsed;
  const dryRun = flags['dry-run'];
  return withImage(parsed, { access: dryRun ? 'read' : 'write', json: flags.json }, (device) => {
    // A dry run is a real one, in memory.
    const report = replayImage(dryRun ? new OverlayDevice(device) : device, flags['log-only']);
    if (flags.json) print(JSON.stringify({ image, dryRun, ...report }));
    else printReport(image, dryRun, report);
    return report.changed ? ImageExit.RECOVERED : ImageExit.OK;
  });
}

function replayImage(device: BlockDevice, logOnly: boolean): ReplayReport {
  const geometry = readGeometry(device);
  const notes = judgeFeatures(geometry);
  // A dry run changes nothing that another machine could see.
  const recover = () => recoverLog(device, geometry);
  const inMemory = device instanceof OverlayDevice;
  const log = inMemory ? recover() : MultiMountProtection.during(device, geometry, realEnvironment, recover);
  let changed = log.state !== 'clean';
  if (logOnly || notes.length > 0) return { log, orphans: null, notes: logOnly ? [] : notes, changed };
  const { volume, report } = openVolume(device);
  changed = closeVolume(volume) || changed;
  volume.multiMount?.release();
  return { log, orphans: report.orphans, notes, changed };
}

function printReport(image: string, dryRun: boolean, { log, orphans, notes, changed }: ReplayReport): void {
  const would = dryRun ? 'would be ' : '';
  if (!changed) print(`${image}: clean, nothing to do`);
  if (log.state === 'discarded') print(`log: ${would}discarded, the superblock does not ask for recovery`);
  if (log.state === 'recovered') {
    const tids = log.transactions === 0 ? '' : ` (${log.firstTid} to ${log.lastTid})`;
    print(
      `log: ${count(log.transactions, 'transaction')}${tids} ${would}replayed, ` +
        `${count(log.blocks, 'block')} written, ${count(log.revokeHits, 'revoked copy').replace('copys', 'copies')} skipped`,
    );
    if (log.fastCommits > 0) print(`log: ${count(log.fastCommits, 'fast commit')} on top of them ${would}replayed`);
  }
  if (log.journalErrno !== 0) {
    print(`log: error ${log.journalErrno} ${would}noted in the superblock: run e2fsck`);
  }
  if (orphans !== null) printOrphans(would, orphans);
  for (const note of notes) print(`orphans: left alone, ${note}`);
}

function printOrphans(would: string, orphans: OrphanReport): void {
  const done = Object.entries(orphans).filter(([, n]) => n !== 0);
  if (done.length > 0) print(`orphans: ${would}${done.map(([what, n]) => `${what} ${n}`).join(', ')}`);
}
