/**
 * A device that writes down what it is asked to do. Background jobs run when the owner says so, half a step at a time:
 * between the issue of a flush and its end others may write, and what they write is not covered by it.
 */
import type { BlockDevice, IoJob, IoStep } from '../block/device.js';
import { FsError } from '../errors.js';
import type { LogEntry, LoggedWrite } from './write-log.js';

/** What a discarded byte is found to hold: nothing that anybody wrote. */
const DISCARDED = 0xd1;

type WhenDone = (error: FsError | null) => void;

/** A job of several steps, of which some are done. */
class RecordedJob implements IoJob {
  private readonly device: RecordingDevice;
  private readonly steps: readonly IoStep[];
  private readonly whenDone: WhenDone;
  /** A failed flush, or a cancel, ends the jobs of its epoch. */
  private readonly epoch: number;
  private next = 0;
  /** The flush at `next` was issued when so many entries were complete. */
  private issued: number | null = null;
  done = false;

  constructor(device: RecordingDevice, steps: readonly IoStep[], whenDone: WhenDone) {
    this.device = device;
    this.steps = steps;
    this.whenDone = whenDone;
    this.epoch = device.epoch;
  }

  wait(): void {
    this.device.finish(this);
  }

  /** A write, the issue of a flush, or its end. */
  advance(): void {
    let failure: FsError | null = null;
    try {
      this.perform();
    } catch (error) {
      failure = error as FsError;
    }
    if (failure === null && this.next < this.steps.length) return;
    this.done = true;
    this.device.ended(this);
    this.whenDone(failure);
  }

  private perform(): void {
    const step = this.steps[this.next];
    if (step === undefined) return;
    if (this.device.epoch !== this.epoch) throw new FsError('EIO', 'a flush failed meanwhile');
    if (step.kind === 'write') {
      this.device.record(step.offsetBytes, step.bytes, 'journal');
    } else if (this.issued === null) {
      this.issued = this.device.log.length;
      return;
    } else {
      this.device.flushed(this.issued);
      this.issued = null;
    }
    this.next++;
  }
}

export class RecordingDevice implements BlockDevice {
  readonly sizeBytes: number;
  readonly readOnly = false;
  readonly log: LogEntry[] = [];
  epoch = 0;
  /** There is something to {@link step}. */
  onSubmit: (() => void) | null = null;
  private readonly below: BlockDevice;
  private readonly unitBytes: number;
  /** Jobs with writes run one after the other, as the native addon runs them; flushes alone need not wait for those. */
  private readonly journalJobs: RecordedJob[] = [];
  private readonly flushJobs: RecordedJob[] = [];

  /** Longer writes are noted as several of `unitBytes`: a disk keeps or loses each by itself. */
  constructor(below: BlockDevice, unitBytes = Number.POSITIVE_INFINITY) {
    this.below = below;
    this.unitBytes = unitBytes;
    this.sizeBytes = below.sizeBytes;
  }

  read(offsetBytes: number, into: Uint8Array): void {
    this.below.read(offsetBytes, into);
  }

  write(offsetBytes: number, from: Uint8Array): void {
    this.record(offsetBytes, from, 'data');
  }

  flush(): void {
    this.flushed(this.log.length);
  }

  discard(offsetBytes: number, lengthBytes: number): void {
    this.record(offsetBytes, new Uint8Array(lengthBytes).fill(DISCARDED), 'discard');
  }

  mark(text: string, { promise = false } = {}): void {
    this.log.push({ kind: 'mark', text, promise });
  }

  submit(steps: readonly IoStep[], whenDone: WhenDone): IoJob {
    const job = new RecordedJob(this, steps, whenDone);
    const flushOnly = steps.every((step) => step.kind === 'flush');
    (flushOnly ? this.flushJobs : this.journalJobs).push(job);
    this.onSubmit?.();
    return job;
  }

  /** Jobs have steps left. */
  get busy(): boolean {
    return this.journalJobs.length + this.flushJobs.length > 0;
  }

  /** Half a step of a job under way. `preferFlush` chooses when both kinds have work. */
  step(preferFlush = false): void {
    const job = preferFlush ? (this.flushJobs[0] ?? this.journalJobs[0]) : (this.journalJobs[0] ?? this.flushJobs[0]);
    job?.advance();
  }

  cancel(): void {
    this.epoch++;
  }

  close(): void {
    this.below.close();
  }

  // For jobs

  record(offsetBytes: number, from: Uint8Array, origin: LoggedWrite['origin']): void {
    this.below.write(offsetBytes, from);
    for (let at = 0; at < from.length; at += this.unitBytes) {
      const bytes = from.slice(at, at + this.unitBytes);
      this.log.push({ kind: 'write', offsetBytes: offsetBytes + at, bytes, origin });
    }
  }

  flushed(covers: number): void {
    this.below.flush();
    this.log.push({ kind: 'flush', covers });
  }

  /** Runs this job to its end, and before it those that were submitted before it. */
  finish(job: RecordedJob): void {
    const lane = this.journalJobs.includes(job) ? this.journalJobs : this.flushJobs;
    while (!job.done) lane[0].advance();
  }

  ended(job: RecordedJob): void {
    for (const lane of [this.journalJobs, this.flushJobs]) {
      const at = lane.indexOf(job);
      if (at >= 0) lane.splice(at, 1);
    }
  }
}
