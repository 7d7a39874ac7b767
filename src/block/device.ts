/**
 * The device seam: everything above reads, writes and flushes through this and nothing else, so that the whole engine
 * runs the same over a file, memory, a recorder or an injected fault.
 */
import type { FsError } from '../errors.js';

/** One step of a job; steps run strictly in order. */
export type IoStep =
  | { readonly kind: 'write'; readonly offsetBytes: number; readonly bytes: Uint8Array }
  | { readonly kind: 'flush' };

/** Steps running off the caller's thread. The bytes of its writes must not change before it is done. */
export interface IoJob {
  /** Blocks until the job is done; `whenDone` has been called when this returns. */
  wait(): void;
}

export interface BlockDevice {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** Where the bytes of an external journal begin, if there is one: see TwinDevice. */
  readonly journalAt?: number;
  /** Fills `into` from `offsetBytes`. Throws FsError EIO when it cannot be filled. */
  read(offsetBytes: number, into: Uint8Array): void;
  write(offsetBytes: number, from: Uint8Array): void;
  /** Returns once every write completed before the call is durable. */
  flush(): void;
  /** A hint: the range is going to be read soon, in small pieces. Never fails. */
  willRead?(offsetBytes: number, lengthBytes: number): void;
  /** The content of the range no longer matters; it may become zeroes. Throws FsError. Devices that cannot do without. */
  discard?(offsetBytes: number, lengthBytes: number): void;
  /**
   * Starts `steps` in the background. A failed step ends the job; a failed flush
   * ends those submitted before that was told as well. `whenDone` runs once, on this thread, never inside submit().
   */
  submit(steps: readonly IoStep[], whenDone: (error: FsError | null) => void): IoJob;
  /** Jobs submitted so far fail with EIO at their next step. Devices whose jobs run inside submit() do without. */
  cancel?(): void;
  close(): void;
}
