/**
 * An ext4 image as a Node program uses it: the methods of node:fs/promises, on paths inside the image. Every change is
 * journaled as in a mount; nothing is mounted, and nobody's permissions are asked.
 */
import { FsError } from '../errors.js';
import { checkFilesystem } from '../ext4/check/check.js';
import type { Filesystem } from '../ext4/filesystem.js';
import type { Ino } from '../ext4/inode.js';
import {
  changeMode,
  changeOwner,
  changeSize,
  changeTimes,
  type SetXattrOptions,
  setAttribute,
  type Time,
} from './attributes.js';
import { EngineRoom, type ImageSettings } from './engine-room.js';
import { type Access, FileHandle } from './file-handle.js';
import {
  createFile,
  makeDirectory,
  makeLink,
  makeNode,
  makeSymlink,
  removeDirectory,
  removeFile,
  renamePath,
} from './names.js';
import { bytesOf, findInode, findPlace, joinReal, type PathLike, parentOf, textOf } from './paths.js';
import { Dirent, Stats } from './stats.js';

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
/** The file type of a directory entry (EXT4_FT_*) as the type bits of a mode; 0: the inode knows. */
const MODE_OF_TYPE = [0, S_IFREG, S_IFDIR, 0o020000, 0o060000, 0o010000, 0o140000, 0o120000];

const ACCESS: Readonly<Record<string, Access & { creates: boolean; truncates: boolean }>> = {
  r: { reads: true, writes: false, appends: false, creates: false, truncates: false },
  'r+': { reads: true, writes: true, appends: false, creates: false, truncates: false },
  w: { reads: false, writes: true, appends: false, creates: true, truncates: true },
  'w+': { reads: true, writes: true, appends: false, creates: true, truncates: true },
  a: { reads: false, writes: true, appends: true, creates: true, truncates: false },
  'a+': { reads: true, writes: true, appends: true, creates: true, truncates: false },
};

export interface WriteOptions {
  readonly mode?: number;
  /** 'w' by default; 'wx' must make it, 'a' appends. */
  readonly flag?: string;
  /** Durable when it resolves. */
  readonly flush?: boolean;
}

export class Image {
  private readonly engine: EngineRoom;

  /** Use {@link openImage}. */
  constructor(fs: Filesystem, settings: ImageSettings) {
    this.engine = new EngineRoom(fs, settings);
  }

  /** True if nothing can be written: see {@link readOnlyReasons}. */
  get readOnly(): boolean {
    return this.engine.fs.readOnly;
  }

  /** Why it is read-only although that was not asked for. */
  get readOnlyReasons(): readonly string[] {
    return this.engine.fs.report.readOnlyReasons;
  }

  // Files

  /** Flags as in node:fs: r, r+, w, w+, a, a+, each with x to insist on making the file. */
  open(path: PathLike, flags = 'r', mode = 0o666): Promise<FileHandle> {
    const exclusive = flags.includes('x');
    const access = ACCESS[flags.replace('x', '')];
    return this.engine.run('open', path, (fs) => {
      if (access === undefined) throw new FsError('EINVAL', `flags ${flags}`);
      const place = findPlace(fs, path, !exclusive);
      if (exclusive && place.ino !== 0) throw new FsError('EEXIST');
      if (place.ino === 0 && !access.creates) throw new FsError('ENOENT');
      if (place.ino === 0 && place.directoryWanted) throw new FsError('EISDIR');
      const ino = place.ino !== 0 ? place.ino : createFile(this.engine, place, mode);
      if (access.writes && (fs.stat(ino).mode & S_IFMT) === S_IFDIR) throw new FsError('EISDIR');
      if (access.writes && fs.readOnly) throw new FsError('EROFS');
      if (access.truncates && fs.stat(ino).size > 0) fs.setattr(ino, { size: 0, mtime: 'now', ctime: 'now' });
      return new FileHandle(this.engine, ino, textOf(path), access);
    });
  }

  async readFile(path: PathLike): Promise<Buffer>;
  async readFile(path: PathLike, encoding: BufferEncoding): Promise<string>;
  async readFile(path: PathLike, encoding?: BufferEncoding): Promise<Buffer | string> {
    const handle = await this.open(path);
    try {
      return encoding === undefined ? await handle.readFile() : await handle.readFile(encoding);
    } finally {
      await handle.close();
    }
  }

  async writeFile(
    path: PathLike,
    data: Uint8Array | string,
    { mode, flag = 'w', flush = false }: WriteOptions = {},
  ): Promise<void> {
    const handle = await this.open(path, flag, mode);
    try {
      await handle.write(data);
      if (flush) await handle.sync();
    } finally {
      await handle.close();
    }
  }

  appendFile(path: PathLike, data: Uint8Array | string, options: Omit<WriteOptions, 'flag'> = {}): Promise<void> {
    return this.writeFile(path, data, { ...options, flag: 'a' });
  }

  truncate(path: PathLike, length = 0): Promise<void> {
    return this.engine.run('truncate', path, (fs) => changeSize(fs, findInode(fs, path, true), length));
  }

  async copyFile(source: PathLike, target: PathLike): Promise<void> {
    const from = await this.open(source);
    try {
      const { mode } = await from.stat();
      const to = await this.open(target, 'w', mode & 0o777);
      try {
        for await (const piece of from.createReadStream({ highWaterMark: 1 << 20 })) await to.write(piece as Buffer);
      } finally {
        await to.close();
      }
    } finally {
      await from.close();
    }
  }

  // Names

  async mkdir(path: PathLike, { recursive = false, mode = 0o777 } = {}): Promise<void> {
    if (recursive) await this.makeAll(Buffer.from(bytesOf(path)), mode);
    else await this.engine.run('mkdir', path, () => makeDirectory(this.engine, path, mode));
  }

  /** What is there already is no error if it is a directory, or leads to one. */
  private async makeAll(path: Buffer, mode: number): Promise<void> {
    const there = await this.engine.run('mkdir', path, (fs) => {
      try {
        const { ino } = findPlace(fs, path, true);
        if (ino === 0) return 'missing';
        if ((fs.stat(ino).mode & S_IFMT) !== S_IFDIR) throw new FsError('EEXIST');
        return 'there';
      } catch (error) {
        if (error instanceof FsError && error.code === 'ENOENT' && path.length > 0) return 'further up';
        throw error;
      }
    });
    if (there === 'there') return;
    const above = parentOf(path);
    if (there === 'further up' && above !== null) await this.makeAll(Buffer.from(above), mode);
    try {
      await this.engine.run('mkdir', path, () => makeDirectory(this.engine, path, mode));
    } catch (error) {
      // Somebody else made it meanwhile, or the path ends with "..".
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    }
  }

  symlink(target: PathLike, path: PathLike): Promise<void> {
    return this.engine.run('symlink', path, () => makeSymlink(this.engine, target, path));
  }

  link(existing: PathLike, path: PathLike): Promise<void> {
    return this.engine.run('link', path, () => makeLink(this.engine, existing, path));
  }

  /** A fifo, a socket or a device node: `mode` says which; `rdev` as in stat. */
  mknod(path: PathLike, mode: number, rdev = 0): Promise<void> {
    return this.engine.run('mknod', path, () => makeNode(this.engine, path, mode, rdev));
  }

  unlink(path: PathLike): Promise<void> {
    return this.engine.run('unlink', path, () => removeFile(this.engine, path));
  }

  rmdir(path: PathLike): Promise<void> {
    return this.engine.run('rmdir', path, () => removeDirectory(this.engine, path));
  }

  /** With `noReplace` an existing target is EEXIST; with `exchange` the two change places. */
  rename(from: PathLike, to: PathLike, { noReplace = false, exchange = false } = {}): Promise<void> {
    const flags = (noReplace ? RENAME_NOREPLACE : 0) | (exchange ? RENAME_EXCHANGE : 0);
    return this.engine.run('rename', from, () => renamePath(this.engine, from, to, flags));
  }

  async rm(path: PathLike, { recursive = false, force = false } = {}): Promise<void> {
    let stats: Stats;
    try {
      stats = await this.lstat(path);
    } catch (error) {
      if (force && error instanceof Error && 'code' in error && error.code === 'ENOENT') return;
      throw error;
    }
    if (!stats.isDirectory()) {
      await this.unlink(path);
      return;
    }
    if (!recursive) {
      await this.engine.run('rm', path, () => {
        throw new FsError('EISDIR', 'a directory: say recursive');
      });
    }
    const base = Buffer.from(path);
    for (const name of await this.namesIn(path))
      await this.rm(Buffer.concat([base, Buffer.from('/'), name]), { recursive: true, force: true });
    await this.rmdir(path);
  }

  // Directories

  readdir(path: PathLike, options?: { withFileTypes?: false; recursive?: boolean }): Promise<string[]>;
  readdir(path: PathLike, options: { withFileTypes: true; recursive?: boolean }): Promise<Dirent[]>;
  async readdir(
    path: PathLike,
    { withFileTypes = false, recursive = false }: { withFileTypes?: boolean; recursive?: boolean } = {},
  ): Promise<string[] | Dirent[]> {
    const entries = await this.entriesIn(path, textOf(path));
    if (recursive) {
      const found: Dirent[] = [];
      const names: string[] = [];
      const base = textOf(path).replace(/\/+$/, '');
      for await (const [name, entry] of this.walk(path)) {
        found.push(entry);
        names.push(name.slice(base.length + 1));
      }
      return withFileTypes ? found : names;
    }
    return withFileTypes ? entries : entries.map(({ name }) => name);
  }

  /** Everything below a directory, parents before what is in them: its path, and its entry. Links are not followed. */
  async *walk(path: PathLike = '/'): AsyncGenerator<[path: string, entry: Dirent]> {
    const base = textOf(path).replace(/\/+$/, '');
    for (const entry of await this.entriesIn(path, textOf(path))) {
      const below = `${base}/${entry.name}`;
      yield [below, entry];
      if (entry.isDirectory()) yield* this.walk(below);
    }
  }

  private entriesIn(path: PathLike, parentPath: string): Promise<Dirent[]> {
    return this.engine.run('scandir', path, (fs) => {
      const entries: Dirent[] = [];
      this.visit(fs, path, (name, ino, type) => {
        const mode = MODE_OF_TYPE[type] || fs.stat(ino).mode;
        entries.push(new Dirent(Buffer.from(name).toString('utf8'), parentPath, ino, mode));
      });
      return entries;
    });
  }

  /** Names as the bytes that they are. */
  private namesIn(path: PathLike): Promise<Buffer[]> {
    return this.engine.run('scandir', path, (fs) => {
      const names: Buffer[] = [];
      this.visit(fs, path, (name) => names.push(Buffer.from(name)));
      return names;
    });
  }

  private visit(fs: Filesystem, path: PathLike, each: (name: Uint8Array, ino: Ino, type: number) => void): void {
    const ino = findInode(fs, path, true);
    if ((fs.stat(ino).mode & S_IFMT) !== S_IFDIR) throw new FsError('ENOTDIR');
    fs.readdir(ino, 0, (name, child, type) => {
      const isDot = name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
      if (!isDot) each(name, child, type);
      return true;
    });
  }

  // Inodes

  stat(path: PathLike): Promise<Stats> {
    return this.statAs('stat', path, true);
  }

  lstat(path: PathLike): Promise<Stats> {
    return this.statAs('lstat', path, false);
  }

  private statAs(syscall: string, path: PathLike, follow: boolean): Promise<Stats> {
    return this.engine.run(syscall, path, (fs) => {
      return new Stats(fs.stat(findInode(fs, path, follow)), fs.volume.geometry.blockSize);
    });
  }

  /** Rejects with ENOENT and the like; permissions are not asked. */
  async access(path: PathLike): Promise<void> {
    await this.statAs('access', path, true);
  }

  readlink(path: PathLike): Promise<string> {
    return this.engine.run('readlink', path, (fs) => textOf(fs.readlink(findInode(fs, path, false))));
  }

  /** The path without links, "." and "..". */
  realpath(path: PathLike): Promise<string> {
    return this.engine.run('realpath', path, (fs) => {
      const { ino, real } = findPlace(fs, path, true);
      if (ino === 0) throw new FsError('ENOENT');
      return textOf(joinReal(real));
    });
  }

  chmod(path: PathLike, mode: number): Promise<void> {
    return this.engine.run('chmod', path, (fs) => changeMode(fs, findInode(fs, path, true), mode));
  }

  /** -1 leaves an id as it is. */
  chown(path: PathLike, uid: number, gid: number): Promise<void> {
    return this.engine.run('chown', path, (fs) => changeOwner(fs, findInode(fs, path, true), uid, gid));
  }

  lchown(path: PathLike, uid: number, gid: number): Promise<void> {
    return this.engine.run('lchown', path, (fs) => changeOwner(fs, findInode(fs, path, false), uid, gid));
  }

  utimes(path: PathLike, atime: Time, mtime: Time): Promise<void> {
    return this.engine.run('utimes', path, (fs) => changeTimes(fs, findInode(fs, path, true), atime, mtime));
  }

  lutimes(path: PathLike, atime: Time, mtime: Time): Promise<void> {
    return this.engine.run('lutimes', path, (fs) => changeTimes(fs, findInode(fs, path, false), atime, mtime));
  }

  // Extended attributes, with their full names: user.*, security.*, trusted.*, system.posix_acl_*. Links are not followed.

  /** Null: there is no such attribute. */
  getxattr(path: PathLike, name: string): Promise<Buffer | null> {
    return this.engine.run('getxattr', path, (fs) => {
      const value = fs.getxattr(findInode(fs, path, false), Buffer.from(name));
      return value === null ? null : Buffer.from(value);
    });
  }

  setxattr(path: PathLike, name: string, value: Uint8Array | string, options: SetXattrOptions = {}): Promise<void> {
    const bytes = typeof value === 'string' ? Buffer.from(value) : value;
    return this.engine.run('setxattr', path, (fs) =>
      setAttribute(fs, findInode(fs, path, false), Buffer.from(name), bytes, options),
    );
  }

  removexattr(path: PathLike, name: string): Promise<void> {
    return this.engine.run('removexattr', path, (fs) => fs.removexattr(findInode(fs, path, false), Buffer.from(name)));
  }

  listxattr(path: PathLike): Promise<string[]> {
    return this.engine.run('listxattr', path, (fs) =>
      Buffer.from(fs.listxattr(findInode(fs, path, false)))
        .toString('utf8')
        .split('\0')
        .filter(Boolean),
    );
  }

  // The whole filesystem

  statfs(): Promise<ReturnType<Filesystem['statfs']>> {
    return this.engine.run('statfs', undefined, (fs) => fs.statfs());
  }

  /** Everything changed so far is durable. */
  sync(): Promise<void> {
    return this.engine.sync(null, 'sync');
  }

  /** What contradicts itself in the image as it is now; an empty list is what one wants. */
  async check(): Promise<{ structure: string; place: string; finding: string }[]> {
    if (!this.readOnly) await this.engine.run('check', undefined, (fs) => fs.volume.journal.flushAll());
    return this.engine.run('check', undefined, (fs) => [...checkFilesystem(fs.volume, { unmounted: false }).findings]);
  }

  /** Brings everything home and marks the image clean. Open files are closed. */
  close(): Promise<void> {
    return this.engine.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
