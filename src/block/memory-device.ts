import { FsError } from '../errors.js';
import type { BlockDevice, IoJob, IoStep } from './device.js';

/** A device in memory. Background jobs run when {@link IoJob.wait} is called or from the microtask queue, whichever is first. */
export class MemoryDevice implements BlockDevice {
  readonly readOnly = false;
  readonly sizeBytes: number;
  protected readonly image: Uint8Array;

  constructor(image: Uint8Array) {
    this.image = image;
    this.sizeBytes = image.length;
  }

  read(offsetBytes: number, into: Uint8Array): void {
    this.checkRange(offsetBytes, into.length);
    into.set(this.image.subarray(offsetBytes, offsetBytes + into.length));
  }

  write(offsetBytes: number, from: Uint8Array): void {
    this.checkRange(offsetBytes, from.length);
    this.image.set(from, offsetBytes);
  }

  flush(): void {}

  submit(steps: readonly IoStep[], whenDone: (error: FsError | null) => void): IoJob {
    return runInline(this, steps, whenDone);
  }

  close(): void {}

  private checkRange(offsetBytes: number, lengthBytes: number): void {
    if (offsetBytes < 0 || offsetBytes + lengthBytes > this.sizeBytes) {
      throw new FsError('EIO', `bytes ${offsetBytes}+${lengthBytes} lie outside the device of ${this.sizeBytes} bytes`);
    }
  }
}

/** A job for devices without threads: deterministic, and still never inside submit(). */
export function runInline(
  device: Pick<BlockDevice, 'write' | 'flush'>,
  steps: readonly IoStep[],
  whenDone: (error: FsError | null) => void,
): IoJob {
  const job = runWhenAwaited(device, steps, whenDone);
  queueMicrotask(() => job.wait());
  return job;
}

/** A job that runs only when it is waited for: for owners that wait for everything they submit. */
export function runWhenAwaited(
  device: Pick<BlockDevice, 'write' | 'flush'>,
  steps: readonly IoStep[],
  whenDone: (error: FsError | null) => void,
): IoJob {
  let finished = false;
  return {
    wait() {
      if (finished) return;
      finished = true;
      let failure: FsError | null = null;
      try {
        for (const step of steps) {
          if (step.kind === 'flush') device.flush();
          else device.write(step.offsetBytes, step.bytes);
        }
      } catch (error) {
        if (!(error instanceof FsError)) throw error;
        failure = error;
      }
      whenDone(failure);
    },
  };
}
