/** What stat and readdir give: the shapes of node:fs, filled from inodes. */
import type { InodeStat } from '../ext4/filesystem.js';
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

  constructor(stat: InodeStat, blockSize: number) {
    super();
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
