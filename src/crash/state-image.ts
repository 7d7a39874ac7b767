/**
 * An image in memory that can be put back: crash states are made on it, recovered, looked at and undone, thousands of
 * times a second, without a copy of the whole. What is written while it is recording is also logged.
 */
import type { BlockDevice, IoJob, IoStep } from '../block/device.js';
import { runWhenAwaited } from '../block/memory-device.js';
import { FsError } from '../errors.js';
import type { LogEntry } from './write-log.js';

const FIRST_UNDO_BYTES = 1 << 20;

export class StateImage implements BlockDevice {
  readonly readOnly = false;
  readonly sizeBytes: number;
  readonly bytes: Uint8Array;
  /** Writes and flushes are appended here while it is set. */
  recording: LogEntry[] | null = null;
  /** Old content, one piece after the other, and where each belongs. */
  private undoBytes = new Uint8Array(FIRST_UNDO_BYTES);
  private undoLength = 0;
  private readonly pieces: { readonly offsetBytes: number; readonly length: number }[] = [];

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.sizeBytes = bytes.length;
  }

  read(offsetBytes: number, into: Uint8Array): void {
    this.checkRange(offsetBytes, into.length);
    into.set(this.bytes.subarray(offsetBytes, offsetBytes + into.length));
  }

  write(offsetBytes: number, from: Uint8Array): void {
    this.checkRange(offsetBytes, from.length);
    this.remember(offsetBytes, from.length);
    this.bytes.set(from, offsetBytes);
    this.recording?.push({ kind: 'write', offsetBytes, bytes: from.slice(), origin: 'data' });
  }

  flush(): void {
    this.recording?.push({ kind: 'flush', covers: this.recording.length });
  }

  submit(steps: readonly IoStep[], whenDone: (error: FsError | null) => void): IoJob {
    return runWhenAwaited(this, steps, whenDone);
  }

  close(): void {}

  /** A point to come back to. */
  get level(): number {
    return this.pieces.length;
  }

  /** Everything as it was at `level`. */
  undoTo(level: number): void {
    while (this.pieces.length > level) {
      const { offsetBytes, length } = this.pieces.pop() as { offsetBytes: number; length: number };
      this.undoLength -= length;
      this.bytes.set(this.undoBytes.subarray(this.undoLength, this.undoLength + length), offsetBytes);
    }
  }

  private remember(offsetBytes: number, length: number): void {
    while (this.undoLength + length > this.undoBytes.length) {
      const larger = new Uint8Array(this.undoBytes.length * 2);
      larger.set(this.undoBytes);
      this.undoBytes = larger;
    }
    this.undoBytes.set(this.bytes.subarray(offsetBytes, offsetBytes + length), this.undoLength);
    this.undoLength += length;
    this.pieces.push({ offsetBytes, length });
  }

  private checkRange(offsetBytes: number, lengthBytes: number): void {
    if (!(offsetBytes >= 0 && offsetBytes + lengthBytes <= this.sizeBytes)) {
      throw new FsError('EIO', `bytes ${offsetBytes}+${lengthBytes} lie outside the image of ${this.sizeBytes} bytes`);
    }
  }
}
