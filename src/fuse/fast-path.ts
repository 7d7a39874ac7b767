/**
 * What native code may answer without this thread: reads of written blocks, and writes within the file's size, as
 * fuse-iomap's mapping cache lets the kernel do. It is told where they are after a request that came this way; the engine
 * takes it back before anything of the file changes, size, times and flags included, so no request is answered from what was.
 *
 * Writes to unwritten blocks are reported by native code, and converted many at once: see {@link FastPath.settle}.
 */
import type { Ino } from '../ext4/inode.js';
import { type IomapMapping, TYPE_MAPPED, TYPE_UNWRITTEN } from '../ext4/iomap.js';
import type { Native } from '../native.js';
import type { Engine } from './engine.js';

const RECENT = 256;
/** Mappings of some 40 bytes that native code keeps at most. */
const MOST_MAPPINGS = 1 << 17;
/** So many ranges are converted at once, or those of so many milliseconds. */
const ENOUGH_RANGES = 256;
const SETTLE_MS = 5;

export interface FastPathOptions {
  readonly native: Native;
  readonly fuseFd: number;
  readonly deviceFd: number;
  /** The byte of the device that is byte 0 of the filesystem. */
  readonly base: number;
  readonly blockSize: number;
  readonly fs: Engine;
  /** Data that was acknowledged could not become part of the file. */
  readonly lost: (ino: Ino, error: unknown) => void;
}

export class FastPath {
  private readonly native: Native;
  private readonly fuseFd: number;
  private readonly base: number;
  private readonly fs: Engine;
  private readonly lost: FastPathOptions['lost'];
  private readonly numbers = new Float64Array(9);
  /** Written by native code: ranges that {@link settle} has to convert. */
  private readonly unconverted = new Float64Array(new ArrayBuffer(8));
  /** The inodes that came this way lately, by their low bits: a file that is read once and never again is not learned. */
  private readonly recent = new Float64Array(RECENT);
  private learned = 0;
  /** Files that native code knows something of. */
  private readonly known = new Set<Ino>();
  /** A file of which nothing changes but that blocks become written, which native code knows. */
  private kept: Ino | 0 = 0;
  private settling: NodeJS.Timeout | null = null;
  private stopped = false;

  constructor({ native, fuseFd, deviceFd, base, blockSize, fs, lost }: FastPathOptions) {
    this.native = native;
    this.fuseFd = fuseFd;
    this.base = base;
    this.fs = fs;
    this.lost = lost;
    native.fastPathStart(fuseFd, deviceFd, blockSize, this.unconverted);
    fs.beforeDataMoves((ino) => this.forget(ino));
    fs.countWritesBeside(() => (this.stopped ? this.lastWrites : this.writes()));
  }

  private lastWrites = 0;

  private writes(): number {
    this.lastWrites = this.native.fastWrites(this.fuseFd);
    return this.lastWrites;
  }

  /** True if the file was asked for lately: what is said of it now is worth telling. */
  again(ino: Ino): boolean {
    const slot = ino % RECENT;
    if (this.recent[slot] === ino) return true;
    this.recent[slot] = ino;
    return false;
  }

  /** The mapping may be read: until `untilSeconds`, when atime is to be written. */
  learnToRead(ino: Ino, size: number, untilSeconds: number, mapping: IomapMapping): void {
    if (mapping.type === TYPE_MAPPED)
      this.learn(ino, size, Math.min(untilSeconds, Number.MAX_SAFE_INTEGER), 0, 0, mapping);
  }

  /** The mapping may be written up to the end of the file: by the page cache, and if `byCallers`, by everyone. */
  learnToWrite(ino: Ino, size: number, byCallers: boolean, mapping: IomapMapping): void {
    this.learn(ino, size, 0, 1, byCallers ? 1 : 0, mapping);
  }

  private learn(
    ino: Ino,
    size: number,
    readUntil: number,
    byWriteback: number,
    byCallers: number,
    mapping: IomapMapping,
  ): void {
    if (readUntil + byWriteback === 0 || this.stopped) return;
    if (this.learned >= MOST_MAPPINGS) this.forget(null);
    this.learned++;
    const { numbers } = this;
    numbers[0] = ino;
    numbers[1] = size;
    numbers[2] = readUntil;
    numbers[3] = byWriteback;
    numbers[4] = byCallers;
    numbers[5] = mapping.offsetBytes;
    numbers[6] = mapping.lengthBytes;
    numbers[7] = this.base + mapping.addrBytes;
    numbers[8] = mapping.type === TYPE_UNWRITTEN ? 1 : 0;
    this.native.mappingLearn(this.fuseFd, numbers);
    this.known.add(ino);
  }

  /** Runs what changes nothing of the file but that blocks become written. */
  keeping(ino: Ino, work: () => void): void {
    this.kept = ino;
    try {
      work();
    } finally {
      this.kept = 0;
    }
  }

  /**
   * Converts what native code has written to unwritten blocks. Called before anything else happens in the filesystem, so that
   * nobody sees a file in which data is missing that was acknowledged; and soon, for a commit to have it.
   */
  settle(): void {
    if (this.unconverted[0] === 0 || this.stopped) return;
    const written = this.native.fastPathWritten(this.fuseFd);
    const files = new Map<Ino, [number, number][]>();
    for (let i = 0; i < written.length; i += 3) {
      const ranges = files.get(written[i]);
      const range: [number, number] = [written[i + 1], written[i + 2]];
      if (ranges === undefined) files.set(written[i], [range]);
      else ranges.push(range);
    }
    for (const [ino, ranges] of files) this.convert(ino, ranges);
  }

  private convert(ino: Ino, ranges: [number, number][]): void {
    try {
      this.keeping(ino, () => this.fs.iomapConvert(ino, joined(ranges)));
    } catch (error) {
      this.forget(ino);
      this.lost(ino, error);
    }
  }

  /** Requests have been answered without this thread: what they left to do is done when it is enough, or soon. */
  served(): void {
    if (this.unconverted[0] === 0) return;
    if (this.unconverted[0] >= ENOUGH_RANGES) this.settle();
    else
      this.settling ??= setTimeout(() => {
        this.settling = null;
        this.settle();
      }, SETTLE_MS);
  }

  private forget(ino: Ino | null): void {
    if (this.stopped || (ino !== null && ino === this.kept)) return;
    if (ino !== null) {
      if (this.known.delete(ino)) this.native.mappingForget(this.fuseFd, ino);
      return;
    }
    this.known.clear();
    this.learned = 0;
    this.native.mappingForget(this.fuseFd, 0);
  }

  /** Returns when native code has answered what it had begun; it begins nothing any more. */
  stop(): void {
    if (this.stopped) return;
    this.settle();
    this.writes();
    this.native.fastPathStop(this.fuseFd);
    this.stopped = true;
    if (this.settling !== null) clearTimeout(this.settling);
  }
}

/** Sorted, and those that touch as one. */
function joined(ranges: [number, number][]): [number, number][] {
  ranges.sort((a, b) => a[0] - b[0]);
  const all: [number, number][] = [];
  for (const [offset, length] of ranges) {
    const last = all.at(-1);
    if (last !== undefined && offset <= last[0] + last[1]) last[1] = Math.max(last[1], offset + length - last[0]);
    else all.push([offset, length]);
  }
  return all;
}
