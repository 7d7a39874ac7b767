/** The server behind a mount: opens the image, mounts, serves until it is unmounted, leaves the image clean. */

import { closeSync, existsSync, writeFileSync, writeSync } from 'node:fs';
import { resolve } from 'node:path';
import type { BlockDevice } from '../block/device.js';
import type { FileDevice } from '../block/file-device.js';
import { TwinDevice } from '../block/twin-device.js';
import { FsError } from '../errors.js';
import { Filesystem } from '../ext4/filesystem.js';
import { GOOD_OLD_INODE_SIZE } from '../ext4/format/inode.js';
import { EXT4_VALID_FS } from '../ext4/format/superblock.js';
import type { OpenReport } from '../ext4/open.js';
import type { Geometry } from '../ext4/volume.js';
import { MountError, mountFuse, permissionsAreChecked, requestUnmount, tuneBackingDevice } from '../fuse/mount.js';
import { withOwners } from '../fuse/owner-map.js';
import { Session } from '../fuse/session.js';
import { requireNative } from '../native.js';
import { unmountWhenDead } from './auto-unmount.js';
import { CommandError } from './command-error.js';
import { MountExit } from './exit-codes.js';
import { count } from './image-command.js';
import { inheritedFd } from './inherited-fd.js';
import { type LockFile, takeLockFile } from './lock-file.js';
import { checkNative, checkTargets } from './mount-checks.js';
import type { MountOptions } from './mount-options.js';
import { mountAt } from './mountinfo.js';
import { openDevice } from './open-device.js';
import { Progress } from './progress.js';
import { quotaNotes } from './quota-notes.js';
import { rehearseWhenIdle } from './rehearse.js';
import { explain } from './report.js';
import { boundGarbage, whenMemoryIsShort } from './server-memory.js';

export interface ServeOptions {
  readonly verbose: boolean;
  /** Where "ready" is written once mounted; from then on stdio is let go, and the log is syslog. Null: none of that. */
  readonly readyFd: number | null;
}

/** Priorities of syslog(3). */
const LOG_ERR = 3;
const LOG_INFO = 6;

/** After a lazy unmount: how long open files may keep the server. Then the image is closed under them. */
const LINGER_MS = 10_000;

/** Tells what happens: on stderr, from {@link detach} on in the system's log. */
class Teller {
  private detached = false;
  private readonly image: string;

  constructor(image: string) {
    this.image = image;
  }

  tell(line: string, priority = LOG_INFO): void {
    const text = `${this.image}: ${line}`;
    if (this.detached) requireNative().syslog(priority, text.replaceAll('\0', ''));
    else process.stderr.write(`ext4d: ${text}\n`);
  }

  /** Reports readiness to the parent, and lets go of its terminal and directory. */
  detach(readyFd: number): void {
    process.chdir('/');
    requireNative().detachStdio();
    this.detached = true;
    try {
      writeSync(readyFd, 'ready\n');
      closeSync(readyFd);
    } catch {
      // The parent is gone; the mount stays.
    }
  }
}

/** Serves until unmounted. Exit code: 0 the image is clean; 32 it could not be closed. Throws what `explain` knows. */
export async function serve(
  image: string,
  directory: string,
  options: MountOptions,
  { verbose, readyFd }: ServeOptions,
): Promise<number> {
  checkTargets(image, directory);
  checkNative();
  nameProcess();
  adjustOomScore(options);
  const source = resolve(image);
  const mountpoint = resolve(directory);
  const teller = new Teller(image);
  const progress = new Progress();
  const { device, image: file } = openDevice(image, options, (line) => teller.tell(line));
  let fs: Filesystem;
  try {
    fs = Filesystem.open(device, {
      readOnly: options.readOnly || device.readOnly || options.superblockAt !== undefined,
      noRecovery: options.noRecovery,
      policy: options.policy,
      countMetadata: options.countMetadata,
      commitIntervalMs: options.commitIntervalMs,
      cacheBytes: options.cacheBytes,
      errors: options.errors,
      atime: options.atime,
      progress: (what, done, total) => progress.show(what, done, total),
      log: (line) => teller.tell(line, LOG_ERR),
      panic: () => process.abort(),
    });
  } catch (error) {
    device.close();
    throw error;
  } finally {
    progress.end();
  }
  let fuseFd: number;
  let lock: LockFile | null = null;
  try {
    checkReadOnly(image, fs, options, teller);
    if (!fs.readOnly && !fs.volume.geometry.hasJournal) teller.tell(withoutJournal(fs.volume.geometry));
    for (const line of quotaNotes(image, options, fs)) teller.tell(line);
    for (const line of recoveryLines(fs.report)) if (verbose || process.stderr.isTTY) teller.tell(line);
    if (verbose && options.ignored.length > 0)
      teller.tell(`options without an effect here: ${options.ignored.join(', ')}`);
    if (options.lockFile !== undefined) lock = takeLockFile(options.lockFile);
    // Before there is anything to unmount: from its first moment on the mount is watched.
    if (options.autoUnmount) unmountWhenDead(mountpoint);
    fuseFd = mount(source, mountpoint, file, fs, options);
  } catch (error) {
    lock?.release();
    fs.closeSync();
    throw error;
  }
  return await new Promise<number>((done) => {
    const session = new Session({
      fs: mapsOwners(options) ? withOwners(fs, options) : fs,
      fuseFd,
      device: dataDevice(fs),
      blockSize: fs.volume.geometry.blockSize,
      // Lists hold the stored ids, and nobody translates them.
      acl: options.acl && !mapsOwners(options),
      permissionsChecked: permissionsAreChecked({ allowOther: othersMayEnter(options), unchecked: options.fakeroot }),
      userXattr: options.userXattr,
      dirsync: options.dirsync,
      flushesReplacing: options.flushesReplacing,
      dataErrorAborts: options.dataErrorAborts,
      ioUring: options.ioUring,
      onlyFor: options.allowRoot && !options.allowOther ? (process.geteuid?.() ?? 0) : null,
      secondsOnly: fs.volume.geometry.inodeSize === GOOD_OLD_INODE_SIZE,
      // A write that a quota refuses is to be refused when it is made.
      writeback: !fs.readOnly && !fs.enforcesQuotas,
      log: (line) => teller.tell(line, LOG_ERR),
      onBegin() {
        if (inheritedFd(mountpoint) === null) tuneBackingDevice(mountpoint);
        if (readyFd !== null) teller.detach(readyFd);
        rehearseWhenIdle(session);
        const how = `${fs.readOnly ? ', read-only' : ''}${session.overRing ? ', over io_uring' : ''}`;
        if (verbose) teller.tell(`mounted on ${mountpoint}${how}`);
      },
      onEnd(error) {
        if (error !== null) teller.tell(`not closed cleanly: ${error.message}; the next mount recovers it`, LOG_ERR);
        else if (verbose) teller.tell('unmounted, clean');
        lock?.release();
        done(error === null ? MountExit.OK : MountExit.FAILURE);
      },
    });
    endOnSignals(mountpoint, fs, session, teller);
    boundGarbage();
    whenMemoryIsShort(() => session.relieveMemory());
    if (options.abort) fs.abort(new FsError('EIO', 'asked for by the mount option abort'));
    session.start();
  });
}

/** File data goes to the filesystem's own device, whatever the journal is on. */
function dataDevice({ volume: { device } }: Filesystem): BlockDevice {
  return device instanceof TwinDevice ? device.filesystem : device;
}

const mapsOwners = ({ uids, gids }: MountOptions) => uids !== null || gids !== null;

function adjustOomScore({ oomScoreAdj }: MountOptions): void {
  if (oomScoreAdj === undefined) return;
  try {
    writeFileSync('/proc/self/oom_score_adj', String(oomScoreAdj));
  } catch {
    throw new CommandError(`oom_score_adj=${oomScoreAdj}: only root may lower it: leave it out, or run as root`);
  }
}

/** What ps, top and "already in use by" show; the arguments stay as they are. */
function nameProcess(): void {
  try {
    writeFileSync('/proc/self/comm', 'ext4d');
  } catch {
    // It stays "node".
  }
}

function checkReadOnly(image: string, fs: Filesystem, options: MountOptions, teller: Teller): void {
  const reasons = fs.report.readOnlyReasons;
  if (!fs.readOnly || options.readOnly || reasons.length === 0 || fs.volume.device.readOnly) return;
  if (options.readWrite)
    throw new CommandError(`${image}: cannot be mounted read-write: ${reasons.join('; ')}; leave out rw to read it`);
  teller.tell(`mounting read-only: ${reasons.join('; ')}`);
}

function withoutJournal({ stateBefore }: Geometry): string {
  const now = (stateBefore & EXT4_VALID_FS) === 0 ? '; it was not unmounted: run e2fsck first' : '';
  return `it has no journal: after a crash it needs e2fsck${now}`;
}

function recoveryLines({ log, orphans }: OpenReport): string[] {
  const lines: string[] = [];
  if (log !== null && log.state === 'recovered') {
    lines.push(
      `log replayed: ${count(log.transactions, 'transaction')}, ${count(log.blocks, 'block')} written, ` +
        `${log.revokeHits} voided by revokes; the log ends because: ${log.endReason}`,
    );
  }
  if (log !== null && log.journalErrno !== 0) lines.push('an earlier error is recorded in the log: run e2fsck');
  if (orphans !== null && orphans.deleted + orphans.truncated > 0) {
    lines.push(`orphans: ${count(orphans.deleted, 'file')} removed, ${orphans.truncated} truncated`);
  }
  return lines;
}

/**
 * As for any FUSE filesystem only the one who mounts may enter, unless told otherwise. Root tells it with a wish for
 * permission checks as well, which would mean nothing to root alone; and whoever called sudo means to enter.
 */
function othersMayEnter(options: MountOptions): boolean {
  if (options.allowOther || options.allowRoot || process.geteuid?.() !== 0)
    return options.allowOther || options.allowRoot;
  return options.defaultPermissions || process.env.SUDO_UID !== undefined;
}

function mount(
  source: string,
  mountpoint: string,
  file: FileDevice | null,
  fs: Filesystem,
  options: MountOptions,
): number {
  const inherited = inheritedFd(mountpoint);
  if (inherited !== null) return inherited;
  const asRoot = process.geteuid?.() === 0;
  const blkdev = asRoot && file?.isBlockDevice === true;
  // fuseblk claims the device for the kernel, which refuses while we do.
  if (blkdev) file?.releaseClaim();
  const word = (name: string) => options.vfs.includes(name);
  try {
    return mountFuse({
      source,
      mountpoint,
      blkdev,
      blksize: fs.volume.geometry.blockSize,
      options: {
        ro: fs.readOnly,
        nosuid: word('nosuid'),
        nodev: word('nodev'),
        noexec: word('noexec'),
        nosymfollow: word('nosymfollow'),
        noatime: options.atime === 'noatime',
        sync: word('sync'),
        allowOther: othersMayEnter(options),
        unchecked: options.fakeroot,
        subtype: options.subtype,
        fsname: options.fsname,
        labels: options.labels.filter(hasModuleFor),
      },
    });
  } catch (error) {
    if (error instanceof MountError) throw new CommandError(error.message);
    throw error;
  }
}

/** Without the module a label means nothing, and the kernel would refuse it. */
const hasModuleFor = (label: string) => existsSync(label.startsWith('smack') ? '/sys/fs/smackfs' : '/sys/fs/selinux');

/** SIGTERM, SIGINT, SIGHUP: unmount. Where files are open the mount leaves the tree, and the server soon follows. */
function endOnSignals(mountpoint: string, fs: Filesystem, session: Session, teller: Teller): void {
  let ending = false;
  const end = (signal: NodeJS.Signals) => {
    if (ending) return;
    ending = true;
    teller.tell(`${signal}: unmounting`);
    session.thaw();
    // Whoever mounted it has to unmount it; this process can only end.
    if (inheritedFd(mountpoint) !== null) process.exit(closeUnder(fs, session, teller));
    requestUnmount(mountpoint, false, (code, said) => {
      // Unmounted: the session ends by itself.
      if (code === 0 || mountAt(mountpoint) === null) return;
      teller.tell(`in use (${said}): unmounting lazily`);
      requestUnmount(mountpoint, true, (lazyCode, lazySaid) => {
        if (lazyCode !== 0) teller.tell(`cannot be unmounted: ${lazySaid}`, LOG_ERR);
        // Whoever has files open keeps the connection. What they have synced, and all they have sent, is kept.
        setTimeout(() => process.exit(closeUnder(fs, session, teller)), LINGER_MS).unref();
      });
    });
  };
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, end);
}

function closeUnder(fs: Filesystem, session: Session, teller: Teller): number {
  try {
    session.stopServing();
    fs.closeSync();
    return MountExit.OK;
  } catch (error) {
    teller.tell(explain(error, 'image')?.line ?? String(error), LOG_ERR);
    return MountExit.FAILURE;
  }
}
