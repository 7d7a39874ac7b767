/**
 * The engine behind an image: every operation goes through {@link run}, which waits for the log where it must, and counts
 * who has which inode open, so that an unlinked file lives until its last user closes it.
 */
import { FsError } from '../errors.js';
import type { Filesystem } from '../ext4/filesystem.js';
import type { Ino } from '../ext4/inode.js';
import { explained } from './image-error.js';
import { type PathLike, textOf } from './paths.js';

/** Space that others free meanwhile may be taken again before an operation gets it. */
const SPACE_RETRIES = 8;

export class EngineRoom {
  readonly fs: Filesystem;
  private readonly opens = new Map<Ino, number>();
  private closed = false;

  constructor(fs: Filesystem) {
    this.fs = fs;
  }

  /**
   * Runs one operation of the engine, in one piece. Rejects with ImageError, CorruptionError's and FsError's stand-in; with
   * UnsupportedError as it is. `operation` must be one that can be tried again after ENOSPC.
   */
  async run<T>(syscall: string, path: PathLike | undefined, operation: (fs: Filesystem) => T): Promise<T> {
    const { fs } = this;
    const text = path === undefined ? undefined : textOf(path);
    for (let tries = 0; ; tries++) {
      if (this.closed) throw explained(new FsError('EBADF', 'the image has been closed'), syscall, text);
      while (fs.needsThrottle()) await new Promise<void>((ready) => fs.onceReady(ready));
      try {
        const result = operation(fs);
        fs.endOfOperation();
        return result;
      } catch (error) {
        fs.endOfOperation();
        if (tries < SPACE_RETRIES && error instanceof FsError && error.code === 'ENOSPC' && (await this.moreSpace()))
          continue;
        throw explained(error, syscall, text);
      }
    }
  }

  /** True once freed blocks that waited for a commit can be had. */
  private moreSpace(): Promise<boolean> {
    return new Promise((done) => {
      if (!this.fs.whenSpaceReturns(() => setImmediate(() => done(true)))) done(false);
    });
  }

  /** fsync of an inode, or of everything. */
  async sync(ino: Ino | null, syscall: string, path?: string): Promise<void> {
    await this.run(syscall, path, () => {});
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

  /** The inode has lost a name. */
  endIfUnused(ino: Ino | 0): void {
    if (ino !== 0 && !this.opens.has(ino) && this.fs.isUnlinked(ino)) this.fs.evict([ino]);
  }

  /** Everything home, the image clean. Rejects if the device fails; then the next open replays. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    const unlinked = [...this.opens.keys()].filter((ino) => this.fs.isUnlinked(ino));
    this.opens.clear();
    try {
      if (unlinked.length > 0) this.fs.evict(unlinked);
      this.fs.closeSync();
    } catch (error) {
      throw explained(error, 'close');
    }
  }
}
