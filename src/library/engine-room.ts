/**
 * The engine behind an image: every operation goes through {@link EngineRoom.run}, which waits for the log where it must,
 * and counts who has which inode open, so that an unlinked file lives until its last user closes it.
 */
import { CorruptionError, FsError, UnsupportedError } from '../errors.js';
import type { Filesystem } from '../ext4/filesystem.js';
import type { Ino } from '../ext4/inode.js';
import { explained, type Subject } from './image-error.js';
import { BigIntStats, Stats } from './stats.js';

/** Space that others free meanwhile may be taken again before an operation gets it. */
const SPACE_RETRIES = 8;
/** A caller in a loop would keep timers and the completions of commits waiting for ever; so long it may. */
const TURN_MS = 8;

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export interface ImageSettings {
  /** Who owns what is made. */
  readonly owner: Owner;
  readonly umask: number;
}

/** Images opened so far. */
let opened = 0;

export class EngineRoom {
  readonly fs: Filesystem;
  readonly settings: ImageSettings;
  /** st_dev of all that is in it. */
  readonly dev = ++opened;
  private readonly opens = new Map<Ino, number>();
  private readonly openedReadOnly: boolean;
  private lastTurnMs = performance.now();
  private closed = false;

  constructor(fs: Filesystem, settings: ImageSettings) {
    this.fs = fs;
    this.settings = settings;
    this.openedReadOnly = fs.readOnly;
  }

  /**
   * Runs one operation of the engine, in one piece. Rejects with ImageError, CorruptionError's and FsError's stand-in; with
   * UnsupportedError as it is. `operation` must be one that can be tried again after ENOSPC. What callers passed is
   * checked before (arguments.ts): any other exception in `operation` is a bug of the engine, and ends all writing.
   */
  async run<T>(syscall: string, subject: Subject, operation: (fs: Filesystem) => T): Promise<T> {
    const { fs } = this;
    await this.breathe();
    let outOfSpace: FsError | null = null;
    for (let tries = 0; ; tries++) {
      // A read-only engine refuses by itself, and an aborted log may never be ready.
      while (!this.closed && !fs.readOnly && fs.needsThrottle()) {
        await new Promise<void>((ready) => fs.onceReady(ready));
      }
      if (this.closed) throw explained(new FsError('EBADF', 'the image has been closed'), syscall, subject);
      try {
        return operation(fs);
      } catch (error) {
        // The commit that was to bring space back has failed: this is why.
        if (outOfSpace !== null && fs.readOnly) throw explained(outOfSpace, syscall, subject);
        if (tries < SPACE_RETRIES && error instanceof FsError && error.code === 'ENOSPC') {
          outOfSpace = error;
          if (await this.moreSpace()) continue;
        }
        this.judge(error);
        throw explained(error, syscall, subject);
      } finally {
        fs.endOfOperation();
      }
    }
  }

  /** True once freed blocks that waited for a commit can be had. */
  private moreSpace(): Promise<boolean> {
    return new Promise((done) => {
      if (!this.fs.whenSpaceReturns(() => setImmediate(() => done(true)))) done(false);
    });
  }

  /** What an error means for the image: corruption is for the errors= policy, a bug ends all writing. */
  private judge(error: unknown): void {
    if (error instanceof CorruptionError) this.fs.reportCorruption(error);
    else if (!(error instanceof FsError || error instanceof UnsupportedError)) {
      // What is in memory can no longer be trusted, so nothing of it reaches the image any more.
      this.fs.abort(new FsError('EIO', error instanceof Error ? error.message : String(error)));
    }
  }

  private async breathe(): Promise<void> {
    if (performance.now() - this.lastTurnMs < TURN_MS) return;
    await new Promise<void>((done) => setImmediate(done));
    this.lastTurnMs = performance.now();
  }

  /** As {@link run}: what stat shows of the inode that `find` finds. */
  stat(
    syscall: string,
    subject: Subject,
    bigint: boolean,
    find: (fs: Filesystem) => Ino,
  ): Promise<Stats | BigIntStats> {
    const Shape = bigint ? BigIntStats : Stats;
    return this.run(syscall, subject, (fs) => new Shape(fs.stat(find(fs)), fs.volume.geometry.blockSize, this.dev));
  }

  /** fsync of an inode, or of everything. There is nothing to do in what was opened for reading. */
  async sync(ino: Ino | null, syscall: string, path?: string): Promise<void> {
    await this.run(syscall, path, () => {});
    if (this.openedReadOnly) return;
    await new Promise<void>((done, fail) => {
      this.fs.sync(ino, (error) => (error === null ? done() : fail(explained(error, syscall, path) as Error)));
    });
  }

  get isClosed(): boolean {
    return this.closed;
  }

  opened(ino: Ino): void {
    this.opens.set(ino, (this.opens.get(ino) ?? 0) + 1);
  }

  /** The last one to close an unlinked file ends it. */
  released(ino: Ino): void {
    const left = (this.opens.get(ino) ?? 1) - 1;
    if (left > 0) {
      this.opens.set(ino, left);
      return;
    }
    this.opens.delete(ino);
    this.endIfUnused(ino);
  }

  /**
   * The inode has lost a name, and is freed if it was the last and nobody has it open. What goes wrong in that is not the
   * caller's: the name is gone, and the inode stays on the list of orphans.
   */
  endIfUnused(ino: Ino | 0): void {
    try {
      if (ino !== 0 && !this.opens.has(ino) && this.fs.isUnlinked(ino)) this.fs.evict([ino]);
    } catch (error) {
      this.judge(error);
      if (!(error instanceof FsError || error instanceof CorruptionError)) throw error;
    }
  }

  /** Everything home, the image clean. Rejects if that could not be; then the next open replays what was durable. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    const inos = [...this.opens.keys()];
    this.opens.clear();
    for (const ino of inos) this.endIfUnused(ino);
    const { aborted } = this.fs.volume.journal;
    try {
      this.fs.closeSync();
    } catch (error) {
      throw explained(error, 'close');
    }
    if (aborted !== null && !this.openedReadOnly) throw explained(aborted, 'close');
  }
}
