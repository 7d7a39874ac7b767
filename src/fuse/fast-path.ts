/**
 * What native code may answer without this thread: reads and overwrites of written blocks, as fuse-iomap's mapping cache
 * lets the kernel do. It is told where they are after a request that came this way; the engine takes it back before
 * anything of the file changes, size, times and flags included, so no request is answered from what was.
 */
import type { Ino } from '../ext4/inode.js';
import { type IomapMapping, TYPE_MAPPED } from '../ext4/iomap.js';
import type { Native } from '../native.js';
import type { Engine } from './engine.js';

const RECENT = 256;
/** Mappings of some 40 bytes that native code keeps at most. */
const MOST_MAPPINGS = 1 << 17;

export class FastPath {
  private readonly native: Native;
  private readonly fuseFd: number;
  private readonly base: number;
  private readonly numbers = new Float64Array(8);
  /** The inodes that came this way lately, by their low bits: a file that is read once and never again is not learned. */
  private readonly recent = new Float64Array(RECENT);
  private learned = 0;
  /** Files that native code knows something of. */
  private readonly known = new Set<Ino>();
  private stopped = false;

  /** `base`: the byte of the device that is byte 0 of the filesystem. */
  constructor(native: Native, fuseFd: number, deviceFd: number, base: number, fs: Engine) {
    this.native = native;
    this.fuseFd = fuseFd;
    this.base = base;
    native.fastPathStart(fuseFd, deviceFd);
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
    this.learn(ino, size, Math.min(untilSeconds, Number.MAX_SAFE_INTEGER), 0, 0, mapping);
  }

  /** The mapping may be overwritten up to the end of the file: by the page cache, and if `byCallers`, by everyone. */
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
    if (mapping.type !== TYPE_MAPPED || readUntil + byWriteback === 0 || this.stopped) return;
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
    this.native.mappingLearn(this.fuseFd, numbers);
    this.known.add(ino);
  }

  private forget(ino: Ino | null): void {
    if (this.stopped) return;
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
    this.writes();
    this.native.fastPathStop(this.fuseFd);
    this.stopped = true;
  }
}
