/**
 * A filesystem in use as the FUSE session uses it: an error of one of the three families is an answer, a corruption is
 * reported, everything else is a failure of the program. And what must hold afterwards: errors= was honoured.
 */
import { CorruptionError, FsError, UnsupportedError } from '../../../src/errors.js';
import type { ErrorsPolicy, Filesystem } from '../../../src/ext4/filesystem.js';
import type { IomapMapping } from '../../../src/ext4/iomap.js';

/** Not an error of any family: a failure, as a TypeError would be. */
export class Misbehaviour extends Error {}

/** An answer that a caller may get. */
export function isAnswer(error: unknown): error is FsError | CorruptionError | UnsupportedError {
  return error instanceof FsError || error instanceof CorruptionError || error instanceof UnsupportedError;
}

export class Session {
  readonly fs: Filesystem;
  /** Corruptions that operations met. */
  corruptions = 0;
  firstCorruption = '';
  private readonly panics: () => number;
  private readonly errors: ErrorsPolicy;

  constructor(fs: Filesystem, errors: ErrorsPolicy, panics: () => number) {
    this.fs = fs;
    this.errors = errors;
    this.panics = panics;
  }

  /** Undefined if it was refused. */
  attempt<T>(operation: () => T): T | undefined {
    try {
      return operation();
    } catch (error) {
      if (!isAnswer(error)) throw error;
      if (error instanceof CorruptionError) this.corruption(error);
      return undefined;
    } finally {
      this.fs.endOfOperation();
    }
  }

  private corruption(error: CorruptionError): void {
    const { fs } = this;
    if (this.corruptions++ === 0) this.firstCorruption = error.message;
    const panicsBefore = this.panics();
    fs.reportCorruption(error);
    if (this.errors !== 'continue' && !fs.readOnly) throw new Misbehaviour(`errors=${this.errors} leaves it writable`);
    if (this.errors === 'panic' && this.panics() === panicsBefore)
      throw new Misbehaviour('errors=panic does not panic');
  }

  /** File data may never lie in the superblock, the first descriptors or the log. */
  mayHoldData({ addrBytes, lengthBytes }: IomapMapping): void {
    const { geometry, log } = this.fs.volume;
    const first = addrBytes / geometry.blockSize;
    const end = first + lengthBytes / geometry.blockSize;
    if (first <= geometry.superblockBlock + geometry.gdtBlocks || end > geometry.blocksCount) {
      throw new Misbehaviour(`file data is mapped to blocks ${first} to ${end}`);
    }
    if (!this.fs.readOnly && log.overlaps(first, end)) {
      throw new Misbehaviour(`file data is mapped to blocks ${first} to ${end}, which hold the log`);
    }
  }
}
