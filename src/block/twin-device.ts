/**
 * A filesystem's device and its external journal as one: the journal's bytes follow, and a flush flushes both. So the log
 * can be written, replayed and recorded as if it lay in the filesystem.
 */
import { FsError } from '../errors.js';
import type { BlockDevice, IoJob, IoStep } from './device.js';

/** The largest block there is: every block size divides it. */
const ALIGNMENT = 1 << 16;

export class TwinDevice implements BlockDevice {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly filesystem: BlockDevice;
  readonly journal: BlockDevice;
  /** Where the journal's bytes begin. */
  readonly journalAt: number;
  private cancelled = 0;

  constructor(filesystem: BlockDevice, journal: BlockDevice) {
    this.filesystem = filesystem;
    this.journal = journal;
    this.journalAt = Math.ceil(filesystem.sizeBytes / ALIGNMENT) * ALIGNMENT;
    this.sizeBytes = this.journalAt + journal.sizeBytes;
    this.readOnly = filesystem.readOnly || journal.readOnly;
  }

  read(offsetBytes: number, into: Uint8Array): void {
    if (offsetBytes >= this.journalAt) this.journal.read(offsetBytes - this.journalAt, into);
    else this.filesystem.read(offsetBytes, into);
  }

  write(offsetBytes: number, from: Uint8Array): void {
    if (offsetBytes >= this.journalAt) this.journal.write(offsetBytes - this.journalAt, from);
    else this.filesystem.write(offsetBytes, from);
  }

  flush(): void {
    this.filesystem.flush();
    this.journal.flush();
  }

  willRead(offsetBytes: number, lengthBytes: number): void {
    if (offsetBytes < this.journalAt) this.filesystem.willRead?.(offsetBytes, lengthBytes);
  }

  discard(offsetBytes: number, lengthBytes: number): void {
    this.filesystem.discard?.(offsetBytes, lengthBytes);
  }

  submit(steps: readonly IoStep[], whenDone: (error: FsError | null) => void): IoJob {
    const { cancelled } = this;
    return new TwinJob(this.portions(steps), () => this.cancelled !== cancelled, whenDone);
  }

  cancel(): void {
    this.cancelled++;
    this.filesystem.cancel?.();
    this.journal.cancel?.();
  }

  close(): void {
    this.filesystem.close();
    this.journal.close();
  }

  /** The steps in order, cut where the device changes; a flush is one for each. */
  private portions(steps: readonly IoStep[]): Portion[] {
    const portions: Portion[] = [];
    const add = (device: BlockDevice, step: IoStep) => {
      const last = portions.at(-1);
      if (last?.device === device) last.steps.push(step);
      else portions.push({ device, steps: [step] });
    };
    for (const step of steps) {
      if (step.kind === 'flush') {
        add(this.filesystem, step);
        add(this.journal, step);
      } else if (step.offsetBytes >= this.journalAt) {
        add(this.journal, { ...step, offsetBytes: step.offsetBytes - this.journalAt });
      } else {
        add(this.filesystem, step);
      }
    }
    return portions;
  }
}

interface Portion {
  readonly device: BlockDevice;
  readonly steps: IoStep[];
}

/** One portion after the other: none begins before the one before it has succeeded. */
class TwinJob implements IoJob {
  private readonly portions: Portion[];
  private readonly isCancelled: () => boolean;
  private readonly whenDone: (error: FsError | null) => void;
  private current: IoJob | null = null;

  constructor(portions: Portion[], isCancelled: () => boolean, whenDone: (error: FsError | null) => void) {
    this.portions = portions;
    this.isCancelled = isCancelled;
    this.whenDone = whenDone;
    this.next();
  }

  wait(): void {
    while (this.current !== null) this.current.wait();
  }

  private next(): void {
    const portion = this.portions.shift();
    if (portion === undefined || this.isCancelled()) {
      this.current = null;
      this.whenDone(portion === undefined ? null : new FsError('EIO', 'the job was cancelled'));
      return;
    }
    this.current = portion.device.submit(portion.steps, (error) => {
      if (error === null) {
        this.next();
        return;
      }
      this.current = null;
      this.whenDone(error);
    });
  }
}
