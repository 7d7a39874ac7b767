/** The blocks of a log for a reader that mostly goes forward: then many come in one read, and otherwise one by one. */
import type { LogSource } from './log-walker.js';

/** Most bytes in one read. */
const MAX_READ_BYTES = 1 << 20;

export class LogBlocks {
  private readonly source: LogSource;
  private readonly blockSize: number;
  private readonly most: number;
  private window: Uint8Array;
  /** The log blocks in {@link window}: `held` of them from `first` on. */
  private first = 0;
  private held = 0;
  private lastRead = -1;

  constructor(source: LogSource) {
    this.source = source;
    this.blockSize = source.superblock.blockSize;
    this.most = Math.max(1, Math.floor(MAX_READ_BYTES / this.blockSize));
    this.window = new Uint8Array(this.blockSize);
  }

  /** The content of a log block, to be used before the next is read. Throws FsError EIO. */
  read(logBlock: number): Uint8Array {
    if (logBlock < this.first || logBlock >= this.first + this.held) this.fill(logBlock);
    this.lastRead = logBlock;
    const at = (logBlock - this.first) * this.blockSize;
    return this.window.subarray(at, at + this.blockSize);
  }

  /** Twice as much each time that the reader goes on where the last read ended. */
  private fill(logBlock: number): void {
    const { device, blockMap } = this.source;
    const wanted = logBlock === this.lastRead + 1 ? Math.min(this.held * 2, this.most) : 1;
    let count = 1;
    while (count < wanted && blockMap[logBlock + count] === blockMap[logBlock] + count) count++;
    if (this.window.length < count * this.blockSize) this.window = new Uint8Array(count * this.blockSize);
    this.held = 0;
    device.read(blockMap[logBlock] * this.blockSize, this.window.subarray(0, count * this.blockSize));
    this.first = logBlock;
    this.held = count;
  }
}
