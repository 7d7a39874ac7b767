/**
 * An ext4 image as a Node program uses it: the methods of node:fs/promises, on paths inside the image. Every change is
 * journaled as in a mount; nothing is mounted, and nobody's permissions are asked.
 */
import { FsError } from '../errors.js';
import { checkFilesystem } from '../ext4/check/check.js';
import type { Filesystem } from '../ext4/filesystem.js';
import type { Ino } from '../ext4/inode.js';
import type { Timestamp } from '../ext4/volume.js';
import { EngineRoom } from './engine-room.js';
import { type Access, FileHandle } from './file-handle.js';
import { findInode, findName, findPlace, type PathLike, textOf } from './paths.js';
import { Dirent, Stats } from './stats.js';

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export interface ImageSettings {
  /** Who owns what is made. */
  readonly owner: Owner;
  readonly umask: number;
}

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
  private readonly settings: ImageSettings;

  /** Use {@link openImage}. */
  constructor(fs: Filesystem, settings: ImageSettings) {
    this.engine = new EngineRoom(fs);
    this.settings = settings;
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
      const ino =
        place.ino !== 0
          ? place.ino
          : fs.create(place.parent, place.name, S_IFREG | (mode & ~this.settings.umask), this.settings.owner);
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
    return this.engine.run('truncate', path, (fs) =>
      fs.setattr(findInode(fs, path, true), { size: length, mtime: 'now', ctime: 'now' }),
    );
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
    const made = (wanted: PathLike) =>
      this.engine.run('mkdir', wanted, (fs) => {
        const { parent, name, ino } = findPlace(fs, wanted, recursive);
        if (ino !== 0) {
          if (recursive && (fs.stat(ino).mode & S_IFMT) === S_IFDIR) return;
          throw new FsError('EEXIST');
        }
        fs.mkdir(parent, name, S_IFDIR | (mode & ~this.settings.umask), this.settings.owner);
      });
    if (recursive) {
      const text = Buffer.from(path).toString('latin1');
      for (let at = text.indexOf('/', 1); at > 0; at = text.indexOf('/', at + 1)) {
        const prefix = Buffer.from(text.slice(0, at), 'latin1');
        if (!/(^|\/)\.{0,2}$/.test(prefix.toString('latin1'))) await made(prefix);
      }
      if (text.endsWith('/')) return;
    }
    await made(path);
  }

  symlink(target: PathLike, path: PathLike): Promise<void> {
    return this.engine.run('symlink', path, (fs) => {
      const { parent, name, ino } = findName(fs, path);
      if (ino !== 0) throw new FsError('EEXIST');
      fs.symlink(parent, name, typeof target === 'string' ? Buffer.from(target) : target, this.settings.owner);
    });
  }

  link(existing: PathLike, path: PathLike): Promise<void> {
    return this.engine.run('link', path, (fs) => {
      const source = findInode(fs, existing, false);
      const { parent, name, ino } = findName(fs, path);
      if (ino !== 0) throw new FsError('EEXIST');
      fs.link(source, parent, name);
    });
  }

  /** A fifo, a socket or a device node: `mode` says which; `rdev` as in stat. */
  mknod(path: PathLike, mode: number, rdev = 0): Promise<void> {
    return this.engine.run('mknod', path, (fs) => {
      const { parent, name, ino } = findName(fs, path);
      if (ino !== 0) throw new FsError('EEXIST');
      fs.mknod(parent, name, mode & ~this.settings.umask, rdev, this.settings.owner);
    });
  }

  unlink(path: PathLike): Promise<void> {
    return this.engine.run('unlink', path, (fs) => {
      const { parent, name, ino } = findName(fs, path);
      if (ino === 0) throw new FsError('ENOENT');
      this.engine.endIfUnused(fs.unlink(parent, name));
    });
  }

  rmdir(path: PathLike): Promise<void> {
    return this.engine.run('rmdir', path, (fs) => {
      const { parent, name, ino } = findName(fs, path);
      if (ino === 0) throw new FsError('ENOENT');
      this.engine.endIfUnused(fs.rmdir(parent, name));
    });
  }

  /** With `noReplace` an existing target is EEXIST; with `exchange` the two change places. */
  rename(from: PathLike, to: PathLike, { noReplace = false, exchange = false } = {}): Promise<void> {
    const flags = (noReplace ? RENAME_NOREPLACE : 0) | (exchange ? RENAME_EXCHANGE : 0);
    return this.engine.run('rename', from, (fs) => {
      const source = findName(fs, from);
      const target = findName(fs, to);
      if (source.ino === 0) throw new FsError('ENOENT');
      const { owner } = this.settings;
      const { replaced } = fs.rename(source.parent, source.name, target.parent, target.name, flags, owner);
      this.engine.endIfUnused(replaced);
    });
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

  chmod(path: PathLike, mode: number): Promise<void> {
    return this.engine.run('chmod', path, (fs) => fs.setattr(findInode(fs, path, true), { mode }));
  }

  chown(path: PathLike, uid: number, gid: number): Promise<void> {
    return this.engine.run('chown', path, (fs) => fs.setattr(findInode(fs, path, true), { uid, gid }));
  }

  lchown(path: PathLike, uid: number, gid: number): Promise<void> {
    return this.engine.run('lchown', path, (fs) => fs.setattr(findInode(fs, path, false), { uid, gid }));
  }

  /** Times as dates, or as seconds since 1970. */
  utimes(path: PathLike, atime: Date | number, mtime: Date | number): Promise<void> {
    return this.engine.run('utimes', path, (fs) =>
      fs.setattr(findInode(fs, path, true), { atime: timestamp(atime), mtime: timestamp(mtime) }),
    );
  }

  lutimes(path: PathLike, atime: Date | number, mtime: Date | number): Promise<void> {
    return this.engine.run('lutimes', path, (fs) =>
      fs.setattr(findInode(fs, path, false), { atime: timestamp(atime), mtime: timestamp(mtime) }),
    );
  }

  // Extended attributes, with their full names: user.*, security.*, trusted.*, system.posix_acl_*. Links are not followed.

  /** Null: there is no such attribute. */
  getxattr(path: PathLike, name: string): Promise<Buffer | null> {
    return this.engine.run('getxattr', path, (fs) => {
      const value = fs.getxattr(findInode(fs, path, false), Buffer.from(name));
      return value === null ? null : Buffer.from(value);
    });
  }

  setxattr(path: PathLike, name: string, value: Uint8Array | string): Promise<void> {
    return this.engine.run('setxattr', path, (fs) =>
      fs.setxattr(findInode(fs, path, false), Buffer.from(name), Buffer.from(value as Uint8Array), 0),
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

function timestamp(time: Date | number): Timestamp {
  const ms = typeof time === 'number' ? time * 1000 : time.getTime();
  const seconds = Math.floor(ms / 1000);
  return { seconds, nanoseconds: Math.round((ms - seconds * 1000) * 1e6) };
}
