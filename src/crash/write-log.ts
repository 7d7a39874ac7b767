/**
 * What a device was asked to do, in order: the history from which every state is made that a power cut could have left.
 *
 * The disk between two flushes (dm-log-writes' model, sector by sector): each 512-byte sector holds what it held at the
 * last flush, or any version written since. A flush makes durable what was complete when it was issued.
 */
export const SECTOR_BYTES = 512;

export interface LoggedWrite {
  readonly kind: 'write';
  readonly offsetBytes: number;
  readonly bytes: Uint8Array;
  /**
   * journal: a commit or a checkpoint. data: file data, and what is written directly. discard: the range may hold
   * anything from now on; the bytes stand for that.
   */
  readonly origin: 'journal' | 'data' | 'discard';
}

export interface LoggedFlush {
  readonly kind: 'flush';
  /** The entries before this one were complete when the flush was issued: it makes those durable, later ones perhaps. */
  readonly covers: number;
}

/** A note of who records: an operation began, an fsync returned. */
export interface LoggedMark {
  readonly kind: 'mark';
  readonly text: string;
  /** From here on more must survive: a moment worth crashing at. */
  readonly promise: boolean;
}

export type LogEntry = LoggedWrite | LoggedFlush | LoggedMark;

/** Applies the whole log to an image: what the device holds if nothing is lost. */
export function applyAll(log: readonly LogEntry[], image: Uint8Array): void {
  for (const entry of log) if (entry.kind === 'write') image.set(entry.bytes, entry.offsetBytes);
}
