/** A recording device on which the Nth read, write or flush fails, once or from then on. */
import type { BlockDevice } from '../../../src/block/device.js';
import { RecordingDevice } from '../../../src/crash/recording-device.js';
import type { LogEntry, LoggedWrite } from '../../../src/crash/write-log.js';
import { type ErrnoName, FsError } from '../../../src/errors.js';

export interface Fault {
  readonly on: 'read' | 'write' | 'flush';
  /** Which one, from 1. */
  readonly nth: number;
  readonly lasting: boolean;
  readonly errno: ErrnoName;
  /** A write gets this share of its bytes to the disk before it fails: a short write that could not be continued. */
  readonly shortened?: boolean;
  /** A failed flush loses what it should have flushed, as the page cache does: it will not be written again. */
  readonly loses?: boolean;
}

export class FaultyDevice extends RecordingDevice {
  private readonly fault: Fault;
  private count = 0;
  /** Set when the fault was met: how long the log was then. */
  metAt: number | null = null;
  /** Faults are over. */
  mended = false;

  constructor(below: BlockDevice, fault: Fault, unitBytes?: number) {
    super(below, unitBytes);
    this.fault = fault;
  }

  override read(offsetBytes: number, into: Uint8Array): void {
    if (this.fails('read')) throw this.error();
    super.read(offsetBytes, into);
  }

  override record(offsetBytes: number, from: Uint8Array, origin: LoggedWrite['origin']): void {
    if (this.fails('write')) {
      if (this.fault.shortened) super.record(offsetBytes, from.subarray(0, from.length >>> 1), origin);
      throw this.error();
    }
    super.record(offsetBytes, from, origin);
  }

  override flushed(covers: number): void {
    if (!this.fails('flush')) {
      super.flushed(covers);
      return;
    }
    if (this.fault.loses) loseUnflushed(this.log);
    this.cancel();
    throw this.error();
  }

  private fails(kind: Fault['on']): boolean {
    if (this.mended || kind !== this.fault.on) return false;
    this.count++;
    const fails = this.fault.lasting ? this.count >= this.fault.nth : this.count === this.fault.nth;
    if (fails) this.metAt ??= this.log.length;
    return fails;
  }

  private error(): FsError {
    return new FsError(this.fault.errno, `injected: ${this.fault.on} ${this.fault.nth}`);
  }
}

function loseUnflushed(log: LogEntry[]): void {
  let covered = 0;
  for (const entry of log) if (entry.kind === 'flush') covered = Math.max(covered, entry.covers);
  for (let i = covered; i < log.length; i++) {
    if (log[i].kind === 'write') log[i] = { kind: 'mark', text: 'lost in a failed flush', promise: false };
  }
}
