/** Walks an image through a recorded history: at each position it holds what is durable, and any crash state on top. */
import { type CrashPoint, keptRanges, unflushedAt } from './crash-points.js';
import type { StateImage } from './state-image.js';
import type { LogEntry, LoggedWrite } from './write-log.js';

export class History {
  readonly log: readonly LogEntry[];
  private readonly image: StateImage;
  private readonly start: number;
  /** Entries of the log that were looked at, and up to which all writes are in the image. */
  private position = 0;
  private covered = 0;

  /** The image as it was when recording began. */
  constructor(image: StateImage, log: readonly LogEntry[]) {
    this.image = image;
    this.log = log;
    this.start = image.level;
  }

  /** The image holds what is durable once `position` entries were issued. Only forwards. */
  advanceTo(position: number): void {
    let covers = this.covered;
    for (; this.position < position; this.position++) {
      const entry = this.log[this.position];
      if (entry.kind === 'flush') covers = Math.max(covers, entry.covers);
    }
    for (; this.covered < covers; this.covered++) {
      const entry = this.log[this.covered];
      if (entry.kind === 'write') this.image.write(entry.offsetBytes, entry.bytes);
    }
  }

  /** Makes the state on the image; undo it with the level from before. */
  apply(point: CrashPoint): void {
    this.advanceTo(point.position);
    for (const index of point.kept) {
      const write = this.log[index] as LoggedWrite;
      const mask = point.torn.get(index);
      if (mask === undefined) this.image.write(write.offsetBytes, write.bytes);
      else {
        keptRanges(write, mask, (from, to) =>
          this.image.write(write.offsetBytes + from, write.bytes.subarray(from, to)),
        );
      }
    }
  }

  unflushedAt(position: number): number[] {
    return unflushedAt(this.log, position);
  }

  /** The image as it was before the history. */
  rewind(): void {
    this.image.undoTo(this.start);
    this.position = 0;
    this.covered = 0;
  }
}
