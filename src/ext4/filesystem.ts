/**
 * The engine's public face: one method per operation, each atomic, synchronous and journaled. What must wait for the
 * log calls back. Knows nothing of FUSE; errors are the three families of errors.ts.
 */
import type { BlockDevice } from '../block/device.js';
import { CorruptionError, FsError } from '../errors.js';
import { whenSpaceReturns } from './block-alloc.js';
import { readDirectory } from './dir.js';
import { foldsCase } from './dir-name.js';
import { evictAll } from './evict.js';
import { growInodes } from './extra-isize.js';
import { fallocate, seekDataHole } from './fallocate.js';
import { INCOMPAT } from './features.js';
import { readData } from './file-data.js';
import { EXT4_ROOT_INO, EXT4_VERITY_FL } from './format/inode.js';
import { EXT4_ERRORS_CONTINUE, EXT4_ERRORS_PANIC, EXT4_ERRORS_RO, SUPERBLOCK } from './format/superblock.js';
import { fitsInline, readInline } from './inline-data.js';
import { type Ino, Inode } from './inode.js';
import * as inodeFlags from './inode-flags.js';
import { type InodeStat, statInode } from './inode-stat.js';
import * as iomap from './iomap.js';
import { writeJournaled } from './journaled-data.js';
import type { MountPolicy } from './mount-policy.js';
import * as namei from './namei.js';
import { closeVolume, type OpenReport, openVolume } from './open.js';
import { type AtimePolicy, type AttributeChanges, atimeSettledUntil, setattr, touchAtime } from './setattr.js';
import { type FilesystemStat, statFilesystem } from './statfs.js';
import { recordError } from './superblock-io.js';
import { readlink } from './symlink.js';
import { trimFree } from './trim.js';
import { truncateTo } from './truncate.js';
import { readVerified } from './verity.js';
import type { Environment, Volume } from './volume.js';
import { getLabel, setLabel } from './volume-label.js';
import * as xattr from './xattr.js';

export type { InodeStat };

export type ErrorsPolicy = 'continue' | 'remount-ro' | 'panic';

export interface FilesystemOptions {
  readonly readOnly?: boolean;
  readonly noRecovery?: boolean;
  readonly commitIntervalMs?: number;
  readonly cacheBytes?: number;
  readonly checkpointBytes?: number;
  readonly worthCheckpoint?: number;
  /** Default: what the superblock says. */
  readonly policy?: Partial<MountPolicy>;
  /** minixdf: df counts metadata as used space. */
  readonly countMetadata?: boolean;
  /** What a corruption leads to; the superblock says so by default. */
  readonly errors?: ErrorsPolicy;
  readonly atime?: AtimePolicy;
  readonly env?: Environment;
  readonly progress?: (what: string, done: number, total: number) => void;
  /** One line for the log of the system. */
  readonly log?: (line: string) => void;
  /**
   * What errors=panic does: ends the server at once. Without it the policy is remount-ro: an image must not be able to
   * end a program that only opens it.
   */
  readonly panic?: () => void;
}

/** How long memory counts as short after the last sign of it. */
const SHORT_MS = 30_000;

export interface SetattrChanges extends AttributeChanges {
  readonly size?: number;
}

export class Filesystem {
  readonly volume: Volume;
  readonly report: OpenReport;
  private readonly options: FilesystemOptions;
  /** What a corruption leads to. */
  readonly errors: ErrorsPolicy;
  private readonly log: (line: string) => void;
  private readonly panic: (() => void) | undefined;
  /** Found in the middle of an operation or of opening, before the policy could be applied. */
  private readonly unreported: CorruptionError[] = [];
  private frozen = false;

  private constructor(volume: Volume, report: OpenReport, options: FilesystemOptions) {
    this.volume = volume;
    this.report = report;
    this.options = options;
    this.log = options.log ?? (() => {});
    this.panic = options.panic;
    this.errors = options.errors ?? errorsFromSuperblock(volume);
  }

  /** Replays the log, finishes orphans, and is ready to serve. Throws as `openVolume`. */
  static open(device: BlockDevice, options: FilesystemOptions = {}): Filesystem {
    let filesystem: Filesystem | null = null;
    const foundWhileOpening: CorruptionError[] = [];
    let abortedWhileOpening: FsError | null = null;
    const { volume, report } = openVolume(device, {
      ...options,
      onCorruption(error) {
        if (filesystem === null) foundWhileOpening.push(error);
        else filesystem.reportLater(error);
      },
      onAbort(error) {
        if (filesystem === null) abortedWhileOpening = error;
        else filesystem.aborted(error);
      },
    });
    filesystem = new Filesystem(volume, report, options);
    if (abortedWhileOpening !== null) filesystem.aborted(abortedWhileOpening);
    for (const error of foundWhileOpening) filesystem.reportCorruption(error);
    return filesystem;
  }

  get readOnly(): boolean {
    return this.volume.readOnly;
  }

  /**
   * Who asks for what comes next: quotas do not limit root, who it is until this is called. Null, for what was asked for
   * earlier: the owner of the file stands in.
   */
  actAs(caller: { readonly uid: number } | null): void {
    this.volume.quotas?.actAs(caller);
  }
  /** A change may be refused because of who asks for it: what gathers changes must not stand between. */
  get enforcesQuotas(): boolean {
    return this.volume.quotas?.enforcesAny ?? false;
  }

  // Names

  lookup(parent: Ino, name: Uint8Array): Ino | 0 {
    return namei.lookup(this.volume, parent, name);
  }
  /** The case of names in this directory does not matter. */
  foldsCase(ino: Ino): boolean {
    const folds = (this.volume.geometry.incompat & INCOMPAT.casefold) !== 0;
    return folds && foldsCase(Inode.get(this.volume, ino));
  }
  /** An inode that someone knows by its number. Throws FsError ESTALE if no name leads to it. */
  byHandle(ino: Ino): Ino {
    return namei.byHandle(this.volume, ino);
  }
  create(parent: Ino, name: Uint8Array, mode: number, cred: namei.Credentials): Ino {
    return namei.create(this.writable(), parent, name, mode, cred);
  }
  mkdir(parent: Ino, name: Uint8Array, mode: number, cred: namei.Credentials): Ino {
    return namei.mkdir(this.writable(), parent, name, mode, cred);
  }
  mknod(parent: Ino, name: Uint8Array, mode: number, rdev: number, cred: namei.Credentials): Ino {
    return namei.mknod(this.writable(), parent, name, mode, rdev, cred);
  }
  symlink(parent: Ino, name: Uint8Array, target: Uint8Array, cred: namei.Credentials): Ino {
    return namei.symlink(this.writable(), parent, name, target, cred);
  }
  link(ino: Ino, parent: Ino, name: Uint8Array): void {
    namei.link(this.writable(), ino, parent, name);
  }
  /** Returns the inode that lost a name: with no links left it waits for {@link evict}. */
  unlink(parent: Ino, name: Uint8Array): Ino {
    return namei.unlink(this.writable(), parent, name);
  }
  rmdir(parent: Ino, name: Uint8Array): Ino {
    return namei.rmdir(this.writable(), parent, name);
  }
  rename(
    parent: Ino,
    name: Uint8Array,
    newParent: Ino,
    newName: Uint8Array,
    flags: number,
    cred: namei.Credentials,
  ): { replaced: Ino | 0 } {
    return namei.rename(this.writable(), parent, name, newParent, newName, flags, cred);
  }
  tmpfile(parent: Ino, mode: number, cred: namei.Credentials): Ino {
    return namei.tmpfile(this.writable(), parent, mode, cred);
  }
  readdir(
    ino: Ino,
    cursor: number,
    visit: (name: Uint8Array, ino: Ino, fileType: number, nextCursor: number) => boolean,
  ): void {
    readDirectory(this.volume, Inode.get(this.volume, ino), cursor, visit);
  }
  readlink(ino: Ino): Uint8Array {
    return readlink(this.volume, ino);
  }

  // Inodes

  stat(ino: Ino): InodeStat {
    return statInode(Inode.get(this.volume, ino));
  }
  setattr(ino: Ino, changes: SetattrChanges): void {
    const vol = this.writable();
    if (changes.size !== undefined) truncateTo(vol, ino, changes.size);
    setattr(vol, ino, changes);
  }
  touchAtime(ino: Ino): void {
    if (!this.volume.readOnly && !this.frozen) touchAtime(this.volume, ino, this.options.atime ?? 'relatime');
  }
  /** The second up to which reads need not be told of: {@link touchAtime} would do nothing. */
  atimeSettledUntil(ino: Ino): number {
    return atimeSettledUntil(this.volume, ino, this.options.atime ?? 'relatime');
  }
  isUnlinked(ino: Ino): boolean {
    return Inode.get(this.volume, ino).linksCount === 0;
  }
  /** The last user of these unlinked inodes has let go: they and their blocks become free. */
  evict(inos: readonly Ino[]): void {
    // Read-only meanwhile: they stay on the orphan list, and the next mount frees them.
    if (!this.volume.readOnly) evictAll(this.volume, inos);
  }

  /** Null: there is no such attribute. */
  getxattr(ino: Ino, name: Uint8Array): Uint8Array | null {
    return xattr.getXattr(this.volume, ino, name);
  }
  listxattr(ino: Ino): Uint8Array {
    return xattr.listXattrs(Inode.get(this.volume, ino));
  }
  setxattr(ino: Ino, name: Uint8Array, value: Uint8Array, flags: number): void {
    xattr.setXattr(this.writable(), ino, name, value, flags);
  }
  removexattr(ino: Ino, name: Uint8Array): void {
    xattr.removeXattr(this.writable(), ino, name);
  }

  // File data

  iomapBegin(ino: Ino, posBytes: number, countBytes: number, opflags: number): iomap.IomapMapping {
    return iomap.begin(this.volume, ino, posBytes, countBytes, opflags);
  }
  iomapEnd(
    ino: Ino,
    posBytes: number,
    countBytes: number,
    writtenBytes: number,
    opflags: number,
    mapping: iomap.IomapMapping,
  ): void {
    iomap.end(this.volume, ino, posBytes, countBytes, writtenBytes, opflags, mapping);
  }
  /**
   * For whoever keeps mappings: `tell` is called before anything of an inode changes, and with null when nothing may be
   * written any more. When it returns nobody reads or writes through what it kept.
   */
  beforeDataMoves(tell: (ino: Ino | null) => void): void {
    this.volume.beforeDataMoves = tell;
  }
  /** Data is written without {@link iomapIoend}, so often: an fsync must flush it. */
  countWritesBeside(count: () => number): void {
    this.volume.journal.countWritesBeside(count);
  }
  /** The data is on the device. Returns the file's size. */
  iomapIoend(
    ino: Ino,
    posBytes: number,
    writtenBytes: number,
    addrBytes: number,
    flags: number,
    error: number,
  ): number {
    this.volume.journal.noteDataWrite();
    return iomap.ioend(this.volume, ino, posBytes, writtenBytes, addrBytes, flags, error);
  }
  /** As {@link iomapIoend} for many writes within the file's size, of which {@link countWritesBeside} knows. */
  iomapConvert(ino: Ino, ranges: readonly (readonly [offsetBytes: number, lengthBytes: number])[]): void {
    iomap.convert(this.volume, ino, ranges);
  }
  fallocate(ino: Ino, mode: number, offsetBytes: number, lengthBytes: number): void {
    fallocate(this.writable(), ino, mode, offsetBytes, lengthBytes);
  }
  /** SEEK_DATA or SEEK_HOLE; throws ENXIO past the end. */
  seek(ino: Ino, offsetBytes: number, whence: 'data' | 'hole'): number {
    return seekDataHole(this.volume, ino, offsetBytes, whence);
  }

  // The whole filesystem

  /** A directory that hands its project on, given by `ino`, is as large as the limits of the project. */
  statfs(ino: Ino = EXT4_ROOT_INO): FilesystemStat {
    return statFilesystem(this.volume, ino, this.options.countMetadata === true);
  }

  /**
   * fsync of one inode, or of everything (null): calls back, never inside the call, once every change made so far, and
   * every byte written so far, is durable.
   */
  sync(ino: Ino | null, whenDone: (error: FsError | null) => void): void {
    const { journal } = this.volume;
    const aborted = journal.aborted;
    if (aborted !== null && !this.volume.readOnly) {
      queueMicrotask(() => whenDone(aborted));
      return;
    }
    const tid = ino === null ? journal.runningTid : this.volume.lastChange(ino);
    if (tid === undefined) {
      journal.whenDataFlushed(whenDone);
      return;
    }
    const durable = (error: FsError | null) => {
      if (error !== null) whenDone(error);
      else journal.whenDataFlushed(whenDone);
    };
    if (ino === null) journal.whenCommitted(tid, durable);
    else journal.whenDurable(tid, durable);
  }

  /** The log is busy: a change made now would block the thread. */
  needsThrottle(): boolean {
    return this.volume.journal.congested;
  }
  onceReady(tell: () => void): void {
    this.volume.journal.whenReady(tell);
  }
  /**
   * After ENOSPC: true if freed blocks only wait for a commit. That is then begun, and `tell` called, perhaps inside the
   * call, when it is worth trying again.
   */
  whenSpaceReturns(tell: () => void): boolean {
    return whenSpaceReturns(this.volume, tell);
  }

  // Flags, project, generation, label

  getFlags(ino: Ino): number {
    return inodeFlags.getFlags(this.volume, ino);
  }
  setFlags(ino: Ino, flags: number, caller: inodeFlags.Caller): void {
    inodeFlags.setFlags(this.writable(), ino, flags, caller);
  }
  getProject(ino: Ino): number {
    return inodeFlags.getProject(this.volume, ino);
  }
  setProject(ino: Ino, projectId: number, caller: inodeFlags.Caller): void {
    inodeFlags.setProject(this.writable(), ino, projectId, caller);
  }
  setGeneration(ino: Ino, generation: number, caller: inodeFlags.Caller): void {
    inodeFlags.setGeneration(this.writable(), ino, generation, caller);
  }
  getLabel(): Uint8Array {
    return getLabel(this.volume);
  }
  setLabel(label: Uint8Array): void {
    setLabel(this.writable(), label);
    // Others read the superblock where it is on the disk.
    this.volume.journal.commitNow();
    this.volume.journal.checkpointNow();
  }
  /** FITRIM: returns the bytes discarded. */
  trim(startBytes: number, lengthBytes: number, minimumBytes: number): number {
    return trimFree(this.writable(), startBytes, lengthBytes, minimumBytes);
  }

  // Data that goes through the log

  /** True if writes of this inode must go to {@link writeJournaled}: iomapBegin refuses them. */
  journalsData(ino: Ino): boolean {
    return Inode.get(this.volume, ino).journalsData;
  }
  /** Journaled data is where its blocks are, and no checkpoint or replay will write it there again (ext4_bmap). Blocks the thread. */
  bringDataHome(): void {
    if (this.volume.readOnly) throw new FsError('EINVAL', 'what the log holds stays in it');
    this.volume.journal.flushAll();
  }
  /** True if such a write must, or may in one step, go to {@link writeJournaled}: small content lies in the inode. */
  writesThroughEngine(ino: Ino, posBytes: number, countBytes: number): boolean {
    const inode = Inode.get(this.volume, ino);
    return inode.journalsData || fitsInline(inode, posBytes + countBytes);
  }
  writeJournaled(ino: Ino, posBytes: number, bytes: Uint8Array, opflags: number, flags: number): void {
    writeJournaled(this.writable(), ino, posBytes, bytes, opflags, flags);
  }
  /** True if it must be read with {@link readData}: it is in the log or the inode, or must be checked. */
  readsThroughEngine(ino: Ino): boolean {
    const inode = Inode.get(this.volume, ino);
    return inode.journalsData || inode.hasInlineData || inode.hasFlag(EXT4_VERITY_FL);
  }
  /** Fills `into` with the data from `posBytes` on, wherever it is; zeroes behind it. */
  readData(ino: Ino, posBytes: number, into: Uint8Array): void {
    const inode = iomap.dataInode(this.volume, ino);
    if (inode.hasInlineData) readInline(inode, posBytes, into);
    else if (inode.hasFlag(EXT4_VERITY_FL)) readVerified(inode, posBytes, into);
    else readData(inode, posBytes, into);
  }

  /** Several changes as one: all of them, or with an error none. `credits` is the most blocks they may change. */
  atomically<T>(credits: number, work: () => T): T {
    return this.writable().journal.run(credits, work, true);
  }
  /** Brackets data I/O that runs beside the engine: blocks freed meanwhile are not reused before it ends. */
  dataStarted(): number {
    return this.volume.journal.dataStarted();
  }
  dataFinished(token: number): void {
    this.volume.journal.dataFinished(token);
  }
  /** Call between operations: memory above the limits is given back, and inodes that should be larger become so. */
  endOfOperation(): void {
    if (!this.frozen) growInodes(this.volume);
    this.volume.cache.trim();
  }

  /**
   * Memory is short: what is cached goes, what is not home goes there to become so. Holds for {@link SHORT_MS}. Call between
   * operations.
   */
  relieveMemory(): void {
    const { cache, journal, env } = this.volume;
    this.volume.beforeDataMoves(null);
    if (!this.volume.readOnly && !this.frozen) {
      journal.startCommit();
      journal.requestCheckpoint();
    }
    cache.memoryShort(true);
    cache.trim();
    this.memoryReturns?.();
    this.memoryReturns = env.schedule(SHORT_MS, () => cache.memoryShort(false));
  }
  private memoryReturns: (() => void) | null = null;

  /**
   * Everything home, the log empty, the image marked clean (ext4_freeze): what others read of the device now needs no
   * recovery. Until {@link thaw} the caller makes no changes, and no data is written beside the engine. Blocks the thread.
   * Throws FsError.
   */
  freeze(): void {
    growInodes(this.volume);
    this.volume.beforeDataMoves(null);
    closeVolume(this.volume);
    this.frozen = true;
  }
  thaw(): void {
    this.frozen = false;
    this.reportAll();
  }

  /** Applies the errors= policy to a corruption that an operation met. */
  reportCorruption(error: CorruptionError): void {
    if (this.frozen) {
      this.unreported.push(error);
      return;
    }
    this.log(`corrupt ${error.message}`);
    this.panicIfAsked();
    try {
      recordError(this.volume, error);
      if (this.errors !== 'continue' && !this.volume.readOnly) {
        this.volume.turnReadOnly();
        this.volume.journal.startCommit();
        this.log('errors=remount-ro: the filesystem is now read-only');
      }
    } catch (failure) {
      if (!(failure instanceof FsError || failure instanceof CorruptionError)) throw failure;
      this.abort(failure instanceof FsError ? failure : new FsError('EIO', failure.message));
    }
  }

  /** For what an operation comes across and gets over: a handle is open, so nothing can be written about it yet. */
  private reportLater(error: CorruptionError): void {
    this.unreported.push(error);
    queueMicrotask(() => this.reportAll());
  }

  private reportAll(): void {
    for (const error of this.unreported.splice(0)) this.reportCorruption(error);
  }

  private aborted(error: FsError): void {
    this.log(`the journal was aborted (${error.message}): the filesystem is now read-only`);
    this.panicIfAsked();
  }

  private panicIfAsked(): void {
    if (this.errors !== 'panic' || this.panic === undefined) return;
    this.log('errors=panic: the server ends; the log will be replayed at the next mount');
    this.panic();
  }

  /**
   * EXT4_IOC_SHUTDOWN: what has happened is committed, then nothing more is written, as if the power had gone. FUSE does
   * not hand on whether the caller wants the log flushed: two of three kinds do, and the third allows it.
   */
  shutDown(): void {
    try {
      this.volume.journal.commitNow();
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
    }
    this.volume.journal.stop(new FsError('EIO', 'the filesystem was shut down'));
  }

  /** A bug or a dead device: nothing more is written, the log holds what was acknowledged. */
  abort(error: FsError): void {
    this.volume.journal.abort(error);
  }

  /** Everything home, the image marked clean, the device closed. Blocks the thread. Throws FsError if that fails. */
  closeSync(): void {
    const { volume } = this;
    this.reportAll();
    try {
      // After errors=remount-ro what was changed before is still brought home.
      if (volume.journal.aborted === null) {
        closeVolume(volume);
        volume.multiMount?.release();
      }
    } finally {
      volume.device.close();
    }
  }

  close(whenDone: (error: FsError | null) => void): void {
    let failure: FsError | null = null;
    try {
      this.closeSync();
    } catch (error) {
      failure = error instanceof FsError ? error : new FsError('EIO', String(error));
    }
    queueMicrotask(() => whenDone(failure));
  }

  private writable(): Volume {
    if (this.volume.readOnly) throw new FsError('EROFS');
    return this.volume;
  }
}

function errorsFromSuperblock(volume: Volume): ErrorsPolicy {
  const value = SUPERBLOCK.s_errors.get(volume.superblock().view, volume.geometry.superblockOffset);
  if (value === EXT4_ERRORS_RO) return 'remount-ro';
  if (value === EXT4_ERRORS_PANIC) return 'panic';
  if (value !== EXT4_ERRORS_CONTINUE)
    volume.reportCorruption(new CorruptionError('superblock', 's_errors', `value ${value}`));
  return 'continue';
}
