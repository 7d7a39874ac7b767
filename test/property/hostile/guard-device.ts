/**
 * A device that notices what no image may bring the engine to: an access outside of it, and reading without end. To the
 * engine both look like a failing device; they are kept, for somebody may get over that.
 */
import type { BlockDevice, IoJob, IoStep } from '../../../src/block/device.js';
import { runInline } from '../../../src/block/memory-device.js';
import { FsError } from '../../../src/errors.js';
import type { ScratchImage } from './scratch-image.js';

/** The engine asked for something that is not there. */
export class ImageEscape extends FsError {
  constructor(detail: string) {
    super('EIO', detail);
    Error.captureStackTrace(this);
  }
}

/** The engine did more than any walk over an image of this size can need. */
export class Endless extends ImageEscape {}

/** For an image of some megabytes. */
const MAX_READS = 30_000;
const MAX_WRITES = 30_000;
const MAX_BYTES = 256 << 20;
const SMALL_IMAGE_BYTES = 8 << 20;

export class GuardDevice implements BlockDevice {
  readonly readOnly = false;
  readonly sizeBytes: number;
  readonly journalAt: number | undefined;
  reads = 0;
  writes = 0;
  /** The first thing that was wrong, or null. */
  violation: Error | null = null;
  private moved = 0;
  /** How much more a larger image may need. */
  private readonly scale: number;
  private readonly image: ScratchImage;

  constructor(image: ScratchImage) {
    this.image = image;
    this.sizeBytes = image.bytes.length;
    this.journalAt = image.journalAt;
    this.scale = Math.max(1, Math.ceil(this.sizeBytes / SMALL_IMAGE_BYTES));
  }

  read(offsetBytes: number, into: Uint8Array): void {
    this.check(offsetBytes, into.length, 'read');
    if (++this.reads > MAX_READS * this.scale) throw this.notice(new Endless(`${this.reads} reads`));
    into.set(this.image.bytes.subarray(offsetBytes, offsetBytes + into.length));
  }

  write(offsetBytes: number, from: Uint8Array): void {
    this.check(offsetBytes, from.length, 'write');
    if (++this.writes > MAX_WRITES * this.scale) throw this.notice(new Endless(`${this.writes} writes`));
    this.image.touch(offsetBytes, from.length);
    this.image.bytes.set(from, offsetBytes);
  }

  flush(): void {}

  submit(steps: readonly IoStep[], whenDone: (error: FsError | null) => void): IoJob {
    return runInline(this, steps, whenDone);
  }

  close(): void {}

  private check(offsetBytes: number, lengthBytes: number, verb: string): void {
    const inside = Number.isInteger(offsetBytes) && offsetBytes >= 0 && offsetBytes + lengthBytes <= this.sizeBytes;
    if (!inside) {
      throw this.notice(new ImageEscape(`a ${verb} of ${lengthBytes} bytes at ${offsetBytes}, of ${this.sizeBytes}`));
    }
    this.moved += lengthBytes;
    if (this.moved > MAX_BYTES * this.scale) throw this.notice(new Endless(`${this.moved} bytes moved`));
  }

  private notice(error: Error): Error {
    this.violation ??= error;
    return error;
  }
}
