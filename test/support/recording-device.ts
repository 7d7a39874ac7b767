/**
 * A memory device that remembers every write and flush, so that the image after a power cut can be built: everything up
 * to the last completed flush, and any part of what came after it.
 */
import type { IoJob, IoStep } from '../../src/block/device.js';
import { MemoryDevice, runInline } from '../../src/block/memory-device.js';
import type { FsError } from '../../src/errors.js';

interface RecordedWrite {
  readonly offsetBytes: number;
  readonly bytes: Uint8Array;
}

/** How a disk may have treated the writes it had not flushed. */
export type Cut =
  | { readonly kind: 'drop-all' }
  | { readonly kind: 'keep-all' }
  | { readonly kind: 'keep-half'; readonly pick: (index: number) => boolean }
  | { readonly kind: 'tear'; readonly pick: (sector: number) => boolean };

const SECTOR_BYTES = 512;

export class RecordingDevice extends MemoryDevice {
  /** The image as the last completed flush left it. */
  private readonly durable: Uint8Array;
  private unflushed: RecordedWrite[] = [];
  /** Called at every point where the power might go: after each write and each flush. */
  onEvent: ((kind: 'write' | 'flush') => void) | null = null;
  writes = 0;
  flushes = 0;

  constructor(image: Uint8Array) {
    super(image);
    this.durable = image.slice();
  }

  override write(offsetBytes: number, from: Uint8Array): void {
    super.write(offsetBytes, from);
    this.unflushed.push({ offsetBytes, bytes: from.slice() });
    this.writes++;
    this.onEvent?.('write');
  }

  override flush(): void {
    for (const { offsetBytes, bytes } of this.unflushed) this.durable.set(bytes, offsetBytes);
    this.unflushed = [];
    this.flushes++;
    this.onEvent?.('flush');
  }

  override submit(steps: readonly IoStep[], whenDone: (error: FsError | null) => void): IoJob {
    return runInline(this, steps, whenDone);
  }

  get unflushedWrites(): number {
    return this.unflushed.length;
  }

  /** What the disk holds if the power goes now. */
  imageAfter(cut: Cut): Uint8Array {
    const image = this.durable.slice();
    this.unflushed.forEach(({ offsetBytes, bytes }, index) => {
      if (cut.kind === 'drop-all') return;
      if (cut.kind === 'keep-half' && !cut.pick(index)) return;
      if (cut.kind !== 'tear') {
        image.set(bytes, offsetBytes);
        return;
      }
      for (let at = 0; at < bytes.length; at += SECTOR_BYTES) {
        const end = Math.min(at + SECTOR_BYTES, bytes.length);
        if (cut.pick(Math.floor((offsetBytes + at) / SECTOR_BYTES)))
          image.set(bytes.subarray(at, end), offsetBytes + at);
      }
    });
    return image;
  }
}
