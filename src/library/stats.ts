/** What stat and readdir give: the shapes of node:fs, filled from inodes. */
import type { InodeStat } from '../ext4/filesystem.js';
import type { FilesystemStat } from '../ext4/statfs.js';
import type { Timestamp } from '../ext4/volume.js';

const S_IFMT = 0o170000;
const S_IFSOCK = 0o140000;
const S_IFLNK = 0o120000;
const S_IFREG = 0o100000;
const S_IFBLK = 0o060000;
const S_IFDIR = 0o040000;
const S_IFCHR = 0o020000;
const S_IFIFO = 0o010000;

const milliseconds = ({ seconds, nanoseconds }: Timestamp) => seconds * 1000 + nanoseconds / 1e6;

/** The questions that Stats and Dirent both answer. */
abstract class Typed {
  protected abstract readonly type: number;

  isFile(): boolean {
    return this.type === S_IFREG;
  }
  isDirectory(): boolean {
    return this.type === S_IFDIR;
  }
  isSymbolicLink(): boolean {
    return this.type === S_IFLNK;
  }
  isBlockDevice(): boolean {
    return this.type === S_IFBLK;
  }
  isCharacterDevice(): boolean {
    return this.type === S_IFCHR;
  }
  isFIFO(): boolean {
    return this.type === S_IFIFO;
  }
  isSocket(): boolean {
    return this.type === S_IFSOCK;
  }
}

/** As fs.Stats. Times in milliseconds since 1970, as numbers and as dates; birth is null where the inode has no room for it. */
export class Stats extends Typed {
  /** The same for all of an image while it is open, and another for every other. */
  readonly dev: number;
  readonly ino: number;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  /** Device number of a device node. */
  readonly rdev: number;
  /** Bytes. */
  readonly size: number;
  /** Of 512 bytes. */
  readonly blocks: number;
  readonly blksize: number;
  readonly atimeMs: number;
  readonly mtimeMs: number;
  readonly ctimeMs: number;
  readonly birthtimeMs: number | null;
  readonly generation: number;
  /** EXT4_*_FL */
  readonly flags: number;

  constructor(stat: InodeStat, blockSize: number, dev: number) {
    super();
    this.dev = dev;
    this.ino = stat.ino;
    this.mode = stat.mode;
    this.nlink = stat.nlink;
    this.uid = stat.uid;
    this.gid = stat.gid;
    this.rdev = stat.rdev;
    this.size = stat.size;
    this.blocks = stat.blocks512;
    this.blksize = blockSize;
    this.atimeMs = milliseconds(stat.atime);
    this.mtimeMs = milliseconds(stat.mtime);
    this.ctimeMs = milliseconds(stat.ctime);
    this.birthtimeMs = stat.crtime === null ? null : milliseconds(stat.crtime);
    this.generation = stat.generation;
    this.flags = stat.flags;
  }

  protected get type(): number {
    return this.mode & S_IFMT;
  }
  get atime(): Date {
    return new Date(this.atimeMs);
  }
  get mtime(): Date {
    return new Date(this.mtimeMs);
  }
  get ctime(): Date {
    return new Date(this.ctimeMs);
  }
  get birthtime(): Date | null {
    return this.birthtimeMs === null ? null : new Date(this.birthtimeMs);
  }
}

const nanoseconds = ({ seconds, nanoseconds: more }: Timestamp) => BigInt(seconds) * 1_000_000_000n + BigInt(more);

/** As fs.BigIntStats: {@link Stats} in bigints, with times in nanoseconds as well. */
export class BigIntStats extends Typed {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly mode: bigint;
  readonly nlink: bigint;
  readonly uid: bigint;
  readonly gid: bigint;
  readonly rdev: bigint;
  readonly size: bigint;
  readonly blocks: bigint;
  readonly blksize: bigint;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly birthtimeNs: bigint | null;
  readonly generation: bigint;
  readonly flags: bigint;

  constructor(stat: InodeStat, blockSize: number, dev: number) {
    super();
    this.dev = BigInt(dev);
    this.ino = BigInt(stat.ino);
    this.mode = BigInt(stat.mode);
    this.nlink = BigInt(stat.nlink);
    this.uid = BigInt(stat.uid);
    this.gid = BigInt(stat.gid);
    this.rdev = BigInt(stat.rdev);
    this.size = BigInt(stat.size);
    this.blocks = BigInt(stat.blocks512);
    this.blksize = BigInt(blockSize);
    this.atimeNs = nanoseconds(stat.atime);
    this.mtimeNs = nanoseconds(stat.mtime);
    this.ctimeNs = nanoseconds(stat.ctime);
    this.birthtimeNs = stat.crtime === null ? null : nanoseconds(stat.crtime);
    this.generation = BigInt(stat.generation);
    this.flags = BigInt(stat.flags);
  }

  protected get type(): number {
    return Number(this.mode) & S_IFMT;
  }
  get atimeMs(): bigint {
    return this.atimeNs / 1_000_000n;
  }
  get mtimeMs(): bigint {
    return this.mtimeNs / 1_000_000n;
  }
  get ctimeMs(): bigint {
    return this.ctimeNs / 1_000_000n;
  }
  get birthtimeMs(): bigint | null {
    return this.birthtimeNs === null ? null : this.birthtimeNs / 1_000_000n;
  }
  get atime(): Date {
    return new Date(Number(this.atimeMs));
  }
  get mtime(): Date {
    return new Date(Number(this.mtimeMs));
  }
  get ctime(): Date {
    return new Date(Number(this.ctimeMs));
  }
  get birthtime(): Date | null {
    return this.birthtimeMs === null ? null : new Date(Number(this.birthtimeMs));
  }
}

/** As fs.StatsFs. Blocks of `bsize` bytes. */
export interface StatsFs<T extends number | bigint> {
  /** EXT4_SUPER_MAGIC */
  readonly type: T;
  readonly bsize: T;
  readonly blocks: T;
  readonly bfree: T;
  /** Free for all but root. */
  readonly bavail: T;
  /** Inodes, and those that are free. */
  readonly files: T;
  readonly ffree: T;
}

const EXT4_SUPER_MAGIC = 0xef53;

export function statsFs<T extends number | bigint>(stat: FilesystemStat, as: (number: number) => T): StatsFs<T> {
  const { blockSize, blocks, bfree, bavail, files, ffree } = stat;
  return {
    type: as(EXT4_SUPER_MAGIC),
    bsize: as(blockSize),
    blocks: as(blocks),
    bfree: as(bfree),
    bavail: as(bavail),
    files: as(files),
    ffree: as(ffree),
  };
}

/** As fs.Dirent. */
export class Dirent extends Typed {
  readonly name: string;
  /** The name as it is, which need not be UTF-8. */
  readonly nameBytes: Buffer;
  /** The directory's path, as it was given. */
  readonly parentPath: string;
  readonly ino: number;
  protected readonly type: number;

  constructor(name: Buffer, parentPath: string, ino: number, mode: number) {
    super();
    this.name = name.toString();
    this.nameBytes = name;
    this.parentPath = parentPath;
    this.ino = ino;
    this.type = mode & S_IFMT;
  }
}
