/**
 * An ext4 image as a Node program uses it: the methods of node:fs/promises, on paths inside the image. Every change is
 * journaled as in a mount; nothing is mounted, and nobody's permissions are asked.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { FsError } from '../errors.js';
import { checkFilesystem } from '../ext4/check/check.js';
import type { Filesystem } from '../ext4/filesystem.js';
import {
  booleanArgument,
  bytesArgument,
  encodingArgument,
  functionArgument,
  idArgument,
  integerArgument,
  type Mode,
  modeArgument,
  nameArgument,
  objectArgument,
  optionsArgument,
  type PathLike,
  pathArgument,
  stringArgument,
  type Time,
  timeArgument,
} from './arguments.js';
import {
  changeMode,
  changeOwner,
  changeSize,
  changeTimes,
  checkAccess,
  type SetXattrOptions,
  setAttribute,
} from './attributes.js';
import { copyFile } from './copy-file.js';
import { copyTree } from './copy-tree.js';
import { Dir } from './directory.js';
import { EngineRoom, type ImageSettings } from './engine-room.js';
import type { FileHandle } from './file-handle.js';
import { hasCode } from './image-error.js';
import type {
  CpOptions,
  FileContent,
  MkdirOptions,
  PathOptions,
  ReaddirOptions,
  ReadFileOptions,
  RenameOptions,
  RmOptions,
  StatOptions,
  WriteFileOptions,
} from './image-options.js';
import { piecesOf } from './io-arguments.js';
import { entriesBelow, entriesIn } from './listing.js';
import { makeDirectory, makeLink, makeNode, makeSymlink, removeDirectory, removeFile, renamePath } from './names.js';
import { openFile } from './open-file.js';
import { openFlags } from './open-flags.js';
import { findInode, findPlace, joinPath, joinReal, textOf } from './paths.js';
import type { BigIntStats, Dirent, Stats, StatsFs } from './stats.js';
import { statsFs } from './stats.js';
import { makeDirectories, removeTree } from './trees.js';

const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
const COPYFILE_FLAGS = 7;
const SAFE_LETTERS = 6;

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

  /** Flags as in node:fs, strings or numbers. Only regular files can be opened for writing: others are EINVAL, or EISDIR. */
  async open(path: PathLike, flags: string | number | null = 'r', mode: Mode = 0o666): Promise<FileHandle> {
    return openFile(this.engine, pathArgument(path), openFlags(flags ?? 'r'), modeArgument(mode) & 0o7777);
  }

  async readFile(path: PathLike, options?: (ReadFileOptions & { readonly encoding?: null }) | null): Promise<Buffer>;
  async readFile(
    path: PathLike,
    options: BufferEncoding | (ReadFileOptions & { readonly encoding: BufferEncoding }),
  ): Promise<string>;
  async readFile(path: PathLike, options?: BufferEncoding | ReadFileOptions | null): Promise<Buffer | string> {
    const { encoding, flag } = optionsArgument<ReadFileOptions>(options);
    const known = encodingArgument(encoding);
    const handle = await this.open(path, flag);
    try {
      return known === undefined ? await handle.readFile() : await handle.readFile(known);
    } finally {
      await handle.close();
    }
  }

  async writeFile(
    path: PathLike,
    data: FileContent,
    options?: WriteFileOptions | BufferEncoding | null,
  ): Promise<void> {
    const { encoding, mode, flag, flush } = optionsArgument<WriteFileOptions>(options);
    const known = encodingArgument(encoding);
    const durable = booleanArgument(flush ?? undefined, 'options.flush');
    const pieces = piecesOf(data, known);
    // What cannot be written must not empty what is there.
    const first = await pieces.next();
    try {
      const handle = await this.open(path, flag ?? 'w', mode ?? 0o666);
      try {
        if (first.done !== true) await handle.write(first.value);
        for await (const piece of pieces) await handle.write(piece);
        if (durable) await handle.sync();
      } finally {
        await handle.close();
      }
    } finally {
      await pieces.return(undefined);
    }
  }

  async appendFile(
    path: PathLike,
    data: FileContent,
    options?: WriteFileOptions | BufferEncoding | null,
  ): Promise<void> {
    const given = optionsArgument<WriteFileOptions>(options);
    await this.writeFile(path, data, { ...given, flag: given.flag ?? 'a' });
  }

  async truncate(path: PathLike, length = 0): Promise<void> {
    const bytes = pathArgument(path);
    integerArgument(length, 'len');
    await this.engine.run('truncate', bytes, (fs) => changeSize(fs, findInode(fs, bytes, true), length));
  }

  /** `mode` as in node:fs: COPYFILE_EXCL, COPYFILE_FICLONE; blocks are never shared, so COPYFILE_FICLONE_FORCE is EOPNOTSUPP. */
  async copyFile(source: PathLike, target: PathLike, mode = 0): Promise<void> {
    const [from, to] = [pathArgument(source, 'src'), pathArgument(target, 'dest')];
    await copyFile(this.engine, from, to, integerArgument(mode, 'mode', 0, COPYFILE_FLAGS));
  }

  /**
   * Files, links, and with `recursive` directories. Fifos, sockets and devices are refused. Rejects with codes ERR_FS_CP_*
   * and ERR_FS_EISDIR, as Node, and with ImageError.
   */
  async cp(source: PathLike, target: PathLike, options?: CpOptions): Promise<void> {
    const [from, to] = [pathArgument(source, 'src'), pathArgument(target, 'dest')];
    const given = objectArgument<CpOptions>(options);
    await copyTree(this.engine, from, to, {
      recursive: booleanArgument(given.recursive, 'options.recursive'),
      force: booleanArgument(given.force, 'options.force', true),
      errorOnExist: booleanArgument(given.errorOnExist, 'options.errorOnExist'),
      dereference: booleanArgument(given.dereference, 'options.dereference'),
      verbatimSymlinks: booleanArgument(given.verbatimSymlinks, 'options.verbatimSymlinks'),
      preserveTimestamps: booleanArgument(given.preserveTimestamps, 'options.preserveTimestamps'),
      mode: integerArgument(given.mode ?? 0, 'options.mode', 0, COPYFILE_FLAGS),
      filter: functionArgument(given.filter, 'options.filter') ?? (() => true),
    });
  }

  // Names

  /** With `recursive` it resolves to the first directory that was made, or to undefined. */
  async mkdir(path: PathLike, options?: Mode | MkdirOptions | null): Promise<string | undefined> {
    const bytes = pathArgument(path);
    const given = typeof options === 'object' ? objectArgument<MkdirOptions>(options) : { mode: options };
    const mode = modeArgument(given.mode ?? 0o777) & 0o7777;
    if (booleanArgument(given.recursive, 'options.recursive')) {
      const first = await makeDirectories(this.engine, bytes, mode);
      return first === undefined ? undefined : textOf(first);
    }
    await this.engine.run('mkdir', bytes, () => makeDirectory(this.engine, bytes, mode));
    return undefined;
  }

  /** A new directory whose name is `prefix` and six characters; resolves to it. */
  async mkdtemp(prefix: string): Promise<string> {
    stringArgument(prefix, 'prefix');
    for (;;) {
      const path = `${prefix}${randomBytes(SAFE_LETTERS).toString('base64url').slice(0, SAFE_LETTERS)}`;
      try {
        const bytes = pathArgument(path);
        await this.engine.run('mkdtemp', bytes, () => makeDirectory(this.engine, bytes, 0o700));
        return path;
      } catch (error) {
        if (!hasCode(error, 'EEXIST')) throw error;
      }
    }
  }

  async symlink(target: PathLike, path: PathLike): Promise<void> {
    const [to, bytes] = [pathArgument(target, 'target'), pathArgument(path)];
    await this.engine.run('symlink', [to, bytes], () => makeSymlink(this.engine, to, bytes));
  }

  async link(existing: PathLike, path: PathLike): Promise<void> {
    const [from, bytes] = [pathArgument(existing, 'existingPath'), pathArgument(path, 'newPath')];
    await this.engine.run('link', [from, bytes], () => makeLink(this.engine, from, bytes));
  }

  /** A fifo, a socket or a device node: `mode` says which; `rdev` as in stat. */
  async mknod(path: PathLike, mode: Mode, rdev = 0): Promise<void> {
    const bytes = pathArgument(path);
    const bits = integerArgument(modeArgument(mode), 'mode', 0, 0o177777);
    integerArgument(rdev, 'rdev', 0, 0xffffffff);
    await this.engine.run('mknod', bytes, () => makeNode(this.engine, bytes, bits, rdev));
  }

  async unlink(path: PathLike): Promise<void> {
    const bytes = pathArgument(path);
    await this.engine.run('unlink', bytes, () => removeFile(this.engine, bytes));
  }

  async rmdir(path: PathLike): Promise<void> {
    const bytes = pathArgument(path);
    await this.engine.run('rmdir', bytes, () => removeDirectory(this.engine, bytes));
  }

  async rename(from: PathLike, to: PathLike, options?: RenameOptions): Promise<void> {
    const [old, wanted] = [pathArgument(from, 'oldPath'), pathArgument(to, 'newPath')];
    const { noReplace, exchange } = objectArgument<RenameOptions>(options);
    const flags =
      (booleanArgument(noReplace, 'options.noReplace') ? RENAME_NOREPLACE : 0) |
      (booleanArgument(exchange, 'options.exchange') ? RENAME_EXCHANGE : 0);
    await this.engine.run('rename', [old, wanted], () => renamePath(this.engine, old, wanted, flags));
  }

  async rm(path: PathLike, options?: RmOptions): Promise<void> {
    const bytes = pathArgument(path);
    const { recursive, force } = objectArgument<RmOptions>(options);
    await removeTree(this.engine, bytes, {
      recursive: booleanArgument(recursive, 'options.recursive'),
      force: booleanArgument(force, 'options.force'),
    });
  }

  // Directories

  readdir(path: PathLike, options: ReaddirOptions & { readonly withFileTypes: true }): Promise<Dirent[]>;
  readdir(path: PathLike, options: (ReaddirOptions & { readonly encoding: 'buffer' }) | 'buffer'): Promise<Buffer[]>;
  readdir(path: PathLike, options?: ReaddirOptions | BufferEncoding | null): Promise<string[]>;
  async readdir(
    path: PathLike,
    options?: ReaddirOptions | BufferEncoding | 'buffer' | null,
  ): Promise<string[] | Buffer[] | Dirent[]> {
    const bytes = pathArgument(path);
    const { encoding, withFileTypes, recursive } = optionsArgument<ReaddirOptions>(options);
    const known = encodingArgument(encoding) ?? 'utf8';
    const entries: Dirent[] = [];
    const names: Buffer[] = [];
    if (booleanArgument(recursive ?? undefined, 'options.recursive')) {
      for await (const [below, entry] of entriesBelow(this.engine, bytes)) {
        entries.push(entry);
        names.push(below.subarray(joinPath(bytes, Buffer.alloc(0)).length));
      }
    } else {
      entries.push(...(await entriesIn(this.engine, 'scandir', bytes)));
      names.push(...entries.map(({ nameBytes }) => nameBytes));
    }
    if (booleanArgument(withFileTypes ?? undefined, 'options.withFileTypes')) return entries;
    return encoding === 'buffer' ? names : names.map((name) => name.toString(known));
  }

  async opendir(path: PathLike, options?: { readonly recursive?: boolean }): Promise<Dir> {
    const bytes = pathArgument(path);
    const { recursive } = objectArgument<{ readonly recursive?: boolean }>(options);
    const all = booleanArgument(recursive, 'options.recursive');
    const entries = await entriesIn(this.engine, 'opendir', bytes);
    if (!all) return new Dir(textOf(bytes), entries);
    entries.length = 0;
    for await (const [, entry] of entriesBelow(this.engine, bytes)) entries.push(entry);
    return new Dir(textOf(bytes), entries);
  }

  /** Everything below a directory, parents before what is in them: its path, and its entry. Links are not followed. */
  walk(path?: PathLike): AsyncGenerator<[path: string, entry: Dirent]>;
  walk(path: PathLike, options: { readonly encoding: 'buffer' }): AsyncGenerator<[path: Buffer, entry: Dirent]>;
  async *walk(
    path: PathLike = '/',
    options?: { readonly encoding?: 'buffer' },
  ): AsyncGenerator<[path: string | Buffer, entry: Dirent]> {
    const { encoding } = optionsArgument<PathOptions>(options);
    const known = encodingArgument(encoding) ?? 'utf8';
    for await (const [below, entry] of entriesBelow(this.engine, pathArgument(path)))
      yield [encoding === 'buffer' ? below : below.toString(known), entry];
  }

  // Inodes

  stat(path: PathLike, options?: StatOptions & { readonly bigint?: false }): Promise<Stats>;
  stat(path: PathLike, options: StatOptions & { readonly bigint: true }): Promise<BigIntStats>;
  async stat(path: PathLike, options?: StatOptions): Promise<Stats | BigIntStats> {
    return this.statAs('stat', path, options, true);
  }

  lstat(path: PathLike, options?: StatOptions & { readonly bigint?: false }): Promise<Stats>;
  lstat(path: PathLike, options: StatOptions & { readonly bigint: true }): Promise<BigIntStats>;
  async lstat(path: PathLike, options?: StatOptions): Promise<Stats | BigIntStats> {
    return this.statAs('lstat', path, options, false);
  }

  private statAs(
    syscall: string,
    path: PathLike,
    options: StatOptions | undefined,
    follow: boolean,
  ): Promise<Stats | BigIntStats> {
    const bytes = pathArgument(path);
    const bigint = booleanArgument(objectArgument<StatOptions>(options).bigint, 'options.bigint');
    return this.engine.stat(syscall, bytes, bigint, (fs) => findInode(fs, bytes, follow));
  }

  /**
   * Whether the owner that {@link openImage} was told, or root, may do what `mode` (R_OK, W_OK, X_OK) says; only the mode of
   * the inode itself counts. Rejects with EACCES, EROFS, ENOENT and the like.
   */
  async access(path: PathLike, mode: number = constants.F_OK): Promise<void> {
    const bytes = pathArgument(path);
    integerArgument(mode, 'mode', 0, 7);
    const { owner } = this.engine.settings;
    await this.engine.run('access', bytes, (fs) => checkAccess(fs, findInode(fs, bytes, true), mode, owner));
  }

  readlink(path: PathLike, options: PathOptions<'buffer'> | 'buffer'): Promise<Buffer>;
  readlink(path: PathLike, options?: PathOptions<BufferEncoding | null> | BufferEncoding | null): Promise<string>;
  async readlink(path: PathLike, options?: PathOptions | BufferEncoding | 'buffer' | null): Promise<string | Buffer> {
    const bytes = pathArgument(path);
    return this.pathFound(options, () =>
      this.engine.run('readlink', bytes, (fs) => Buffer.from(fs.readlink(findInode(fs, bytes, false)))),
    );
  }

  /** The path without links, "." and "..". */
  realpath(path: PathLike, options: PathOptions<'buffer'> | 'buffer'): Promise<Buffer>;
  realpath(path: PathLike, options?: PathOptions<BufferEncoding | null> | BufferEncoding | null): Promise<string>;
  async realpath(path: PathLike, options?: PathOptions | BufferEncoding | 'buffer' | null): Promise<string | Buffer> {
    const bytes = pathArgument(path);
    return this.pathFound(options, () =>
      this.engine.run('realpath', bytes, (fs) => {
        const { ino, real } = findPlace(fs, bytes, true);
        if (ino === 0) throw new FsError('ENOENT');
        return joinReal(real);
      }),
    );
  }

  private async pathFound(
    options: PathOptions | BufferEncoding | 'buffer' | null | undefined,
    find: () => Promise<Buffer>,
  ): Promise<string | Buffer> {
    const { encoding } = optionsArgument<PathOptions>(options);
    const known = encodingArgument(encoding) ?? 'utf8';
    const found = await find();
    return encoding === 'buffer' ? found : found.toString(known);
  }

  async chmod(path: PathLike, mode: Mode): Promise<void> {
    const bytes = pathArgument(path);
    const bits = modeArgument(mode);
    await this.engine.run('chmod', bytes, (fs) => changeMode(fs, findInode(fs, bytes, true), bits));
  }

  /** -1 leaves an id as it is. */
  async chown(path: PathLike, uid: number, gid: number): Promise<void> {
    await this.chownAs('chown', pathArgument(path), uid, gid, true);
  }

  async lchown(path: PathLike, uid: number, gid: number): Promise<void> {
    await this.chownAs('lchown', pathArgument(path), uid, gid, false);
  }

  private async chownAs(syscall: string, path: Uint8Array, uid: number, gid: number, follow: boolean): Promise<void> {
    idArgument(uid, 'uid');
    idArgument(gid, 'gid');
    await this.engine.run(syscall, path, (fs) => changeOwner(fs, findInode(fs, path, follow), uid, gid));
  }

  async utimes(path: PathLike, atime: Time, mtime: Time): Promise<void> {
    await this.utimesAs('utime', pathArgument(path), atime, mtime, true);
  }

  async lutimes(path: PathLike, atime: Time, mtime: Time): Promise<void> {
    await this.utimesAs('lutime', pathArgument(path), atime, mtime, false);
  }

  private async utimesAs(syscall: string, path: Uint8Array, atime: Time, mtime: Time, follow: boolean): Promise<void> {
    const [accessed, modified] = [timeArgument(atime, 'atime'), timeArgument(mtime, 'mtime')];
    await this.engine.run(syscall, path, (fs) => changeTimes(fs, findInode(fs, path, follow), accessed, modified));
  }

  // Extended attributes, with their full names: user.*, security.*, trusted.*, system.posix_acl_*. Links are not followed.

  /** Null: there is no such attribute. */
  async getxattr(path: PathLike, name: string | Uint8Array): Promise<Buffer | null> {
    const [bytes, attribute] = [pathArgument(path), nameArgument(name)];
    return this.engine.run('getxattr', bytes, (fs) => {
      const value = fs.getxattr(findInode(fs, bytes, false), attribute);
      return value === null ? null : Buffer.from(value);
    });
  }

  async setxattr(
    path: PathLike,
    name: string | Uint8Array,
    value: NodeJS.ArrayBufferView | string,
    options: SetXattrOptions = {},
  ): Promise<void> {
    const [bytes, attribute, content] = [pathArgument(path), nameArgument(name), bytesArgument(value, 'value')];
    const given = objectArgument<SetXattrOptions>(options);
    const create = booleanArgument(given.create, 'options.create');
    const replace = booleanArgument(given.replace, 'options.replace');
    await this.engine.run('setxattr', bytes, (fs) =>
      setAttribute(fs, findInode(fs, bytes, false), attribute, content, { create, replace }),
    );
  }

  async removexattr(path: PathLike, name: string | Uint8Array): Promise<void> {
    const [bytes, attribute] = [pathArgument(path), nameArgument(name)];
    await this.engine.run('removexattr', bytes, (fs) => fs.removexattr(findInode(fs, bytes, false), attribute));
  }

  async listxattr(path: PathLike): Promise<string[]> {
    const bytes = pathArgument(path);
    return this.engine.run('listxattr', bytes, (fs) =>
      Buffer.from(fs.listxattr(findInode(fs, bytes, false)))
        .toString('utf8')
        .split('\0')
        .filter(Boolean),
    );
  }

  // The whole filesystem

  /** `path`: a directory with a quota of its project is as large as that. */
  statfs(path?: PathLike, options?: StatOptions & { readonly bigint?: false }): Promise<StatsFs<number>>;
  statfs(path: PathLike, options: StatOptions & { readonly bigint: true }): Promise<StatsFs<bigint>>;
  async statfs(path: PathLike = '/', options?: StatOptions): Promise<StatsFs<number> | StatsFs<bigint>> {
    const bytes = pathArgument(path);
    const bigint = booleanArgument(objectArgument<StatOptions>(options).bigint, 'options.bigint');
    const stat = await this.engine.run('statfs', bytes, (fs) => fs.statfs(findInode(fs, bytes, true)));
    return bigint ? statsFs(stat, BigInt) : statsFs(stat, Number);
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
