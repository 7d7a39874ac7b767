/** Where a log lies on the device: as few ranges of blocks as there can be. */
export interface BlockRun {
  readonly start: number;
  /** The block behind the last. */
  readonly stop: number;
}

export class BlockRuns {
  /** Sorted by their start. Blocks that are mapped twice do not occur: readJournalMap refuses them. */
  readonly runs: readonly BlockRun[];

  /** `blocks`: the device's block of each block of the log, or of any other list of different blocks. */
  constructor(blocks: Iterable<number>) {
    const runs: { start: number; stop: number }[] = [];
    for (const block of blocks) {
      const last = runs.at(-1);
      if (last?.stop === block) last.stop++;
      else runs.push({ start: block, stop: block + 1 });
    }
    this.runs = runs.sort((a, b) => a.start - b.start);
  }

  /** True if one of the blocks [start, stop) is among them. */
  overlaps(start: number, stop: number): boolean {
    let low = 0;
    let high = this.runs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.runs[middle].stop <= start) low = middle + 1;
      else high = middle;
    }
    return low < this.runs.length && this.runs[low].start < stop;
  }
}
