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
  argumentError,
  bytesArgument,
  encodingArgument,
  idArgument,
  integerArgument,
  type Mode,
  modeArgument,
  nameArgument,
  optionsArgument,
  type PathLike,
  pathArgument,
  type Time,
  timeArgument,
} from './arguments.js';
import {
  changeMode,
  changeOwner,
  changeSize,
  changeTimes,
  mustBeRegular,
  type SetXattrOptions,
  setAttribute,
} from './attributes.js';
import { copyContent } from './copy-content.js';
import { Dir } from './directory.js';
import { EngineRoom, type ImageSettings } from './engine-room.js';
import { FileHandle } from './file-handle.js';
import { piecesOf } from './io-arguments.js';
import { entriesBelow, entriesIn } from './listing.js';
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
import { openFlags } from './open-flags.js';
import { findInode, findPlace, joinPath, joinReal, parentOf, textOf } from './paths.js';
import { type Dirent, Stats } from './stats.js';

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
export interface ReadFileOptions {
  readonly encoding?: BufferEncoding | null;
  /** 'r' by default. */
  readonly flag?: string | number;
}

export interface WriteFileOptions {
  /** Of strings; UTF-8 by default. */
  readonly encoding?: BufferEncoding | null;
  readonly mode?: Mode;
  /** 'w' by default; 'wx' must make it, 'a' appends. */
  readonly flag?: string | number;
  /** Durable when it resolves. */
  readonly flush?: boolean;
}

/** Bytes, a string, or something that yields them. */
export type FileContent =
  | string
  | NodeJS.ArrayBufferView
  | Iterable<string | NodeJS.ArrayBufferView>
  | AsyncIterable<string | NodeJS.ArrayBufferView>;

export interface ReaddirOptions {
  /** Of the names; 'buffer': as the bytes that they are. */
  readonly encoding?: BufferEncoding | 'buffer' | null;
  readonly withFileTypes?: boolean;
  readonly recursive?: boolean;
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

  /** Flags as in node:fs, strings or numbers. Only regular files can be opened for writing. */
  async open(path: PathLike, flags: string | number = 'r', mode: Mode = 0o666): Promise<FileHandle> {
    const bytes = pathArgument(path);
    const how = openFlags(flags);
    const bits = modeArgument(mode) & 0o7777;
    return this.engine.run('open', bytes, (fs) => {
      const place = findPlace(fs, bytes, !how.exclusive);
      if (how.exclusive && place.ino !== 0) throw new FsError('EEXIST');
      if (place.ino === 0 && !how.creates) throw new FsError('ENOENT');
      if (place.ino === 0 && place.directoryWanted) throw new FsError('EISDIR');
      const ino = place.ino !== 0 ? place.ino : createFile(this.engine, place, bits);
      if (how.writes) mustBeRegular(fs, ino);
      if (how.writes && fs.readOnly) throw new FsError('EROFS');
      if (how.truncates && fs.stat(ino).size > 0) changeSize(fs, ino, 0);
      return new FileHandle(this.engine, ino, textOf(bytes), how);
    });
  }

  async readFile(path: PathLike, options?: (ReadFileOptions & { readonly encoding?: null }) | null): Promise<Buffer>;
  async readFile(
    path: PathLike,
    options: BufferEncoding | (ReadFileOptions & { readonly encoding: BufferEncoding }),
  ): Promise<string>;
  async readFile(path: PathLike, options?: BufferEncoding | ReadFileOptions | null): Promise<Buffer | string> {
    const { encoding, flag } = optionsArgument<ReadFileOptions>(options);
    const handle = await this.open(path, flag ?? 'r');
    try {
      const known = encodingArgument(encoding);
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
    const pieces = piecesOf(data, known);
    // What cannot be written must not empty what is there.
    const first = await pieces.next();
    const handle = await this.open(path, flag ?? 'w', mode ?? 0o666);
    try {
      if (first.done !== true) await handle.write(first.value);
      for await (const piece of pieces) await handle.write(piece);
      if (flush === true) await handle.sync();
    } finally {
      await handle.close();
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

  /** `mode` as in node:fs: COPYFILE_EXCL, COPYFILE_FICLONE; blocks are never shared, so COPYFILE_FICLONE_FORCE is ENOTSUP. */
  async copyFile(source: PathLike, target: PathLike, mode = 0): Promise<void> {
    const [sourceBytes, targetBytes] = [pathArgument(source, 'src'), pathArgument(target, 'dest')];
    const { COPYFILE_EXCL, COPYFILE_FICLONE_FORCE } = constants;
    integerArgument(mode, 'mode', 0, 7);
    const from = await this.open(sourceBytes);
    try {
      const copied = await this.engine.run('copyfile', sourceBytes, (fs) => {
        if ((mode & COPYFILE_FICLONE_FORCE) !== 0) throw new FsError('EOPNOTSUPP');
        const { ino } = findPlace(fs, targetBytes, true);
        if (ino !== 0 && (mode & COPYFILE_EXCL) !== 0) throw new FsError('EEXIST');
        mustBeRegular(fs, from.ino);
        return ino !== from.ino ? fs.stat(from.ino) : null;
      });
      // Onto itself, or a link of it: as it is.
      if (copied === null) return;
      const flags = (mode & COPYFILE_EXCL) !== 0 ? 'wx' : 'w';
      const to = await this.open(targetBytes, flags, copied.mode & 0o777);
      try {
        await copyContent(this.engine, from, to);
      } finally {
        await to.close();
      }
    } finally {
      await from.close();
    }
  }

  // Names

  /** With `recursive` it resolves to the first directory that was made, or to undefined. */
  async mkdir(
    path: PathLike,
    options?: Mode | { readonly recursive?: boolean; readonly mode?: Mode } | null,
  ): Promise<string | undefined> {
    const bytes = pathArgument(path);
    const given = typeof options === 'object' && options !== null ? options : { mode: options ?? undefined };
    const mode = modeArgument(given.mode ?? 0o777) & 0o7777;
    if (given.recursive === true) {
      const first = await this.makeAll(bytes, mode);
      return first === undefined ? undefined : textOf(first);
    }
    await this.engine.run('mkdir', bytes, () => makeDirectory(this.engine, bytes, mode));
    return undefined;
  }

  /** A new directory whose name is `prefix` and six characters; resolves to it. */
  async mkdtemp(prefix: string): Promise<string> {
    if (typeof prefix !== 'string')
      throw argumentError('ERR_INVALID_ARG_TYPE', 'The "prefix" argument must be of type string');
    for (;;) {
      const path = `${prefix}${randomBytes(6).toString('base64url').slice(0, 6)}`;
      try {
        await this.mkdir(path, 0o700);
        return path;
      } catch (error) {
        if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
      }
    }
  }

  /** What is there already is no error if it is a directory, or leads to one. */
  private async makeAll(path: Uint8Array, mode: number): Promise<Uint8Array | undefined> {
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
    if (there === 'there') return undefined;
    const above = parentOf(path);
    const first = there === 'further up' && above !== null ? await this.makeAll(above, mode) : undefined;
    try {
      await this.engine.run('mkdir', path, () => makeDirectory(this.engine, path, mode));
      return first ?? path;
    } catch (error) {
      // Somebody else made it meanwhile, or the path ends with "..".
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
      return first;
    }
  }

  async symlink(target: PathLike, path: PathLike): Promise<void> {
    const [to, bytes] = [pathArgument(target, 'target'), pathArgument(path)];
    await this.engine.run('symlink', bytes, () => makeSymlink(this.engine, to, bytes));
  }

  async link(existing: PathLike, path: PathLike): Promise<void> {
    const [from, bytes] = [pathArgument(existing, 'existingPath'), pathArgument(path, 'newPath')];
    await this.engine.run('link', bytes, () => makeLink(this.engine, from, bytes));
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

  /** With `noReplace` an existing target is EEXIST; with `exchange` the two change places. */
  async rename(from: PathLike, to: PathLike, { noReplace = false, exchange = false } = {}): Promise<void> {
    const [old, wanted] = [pathArgument(from, 'oldPath'), pathArgument(to, 'newPath')];
    const flags = (noReplace ? RENAME_NOREPLACE : 0) | (exchange ? RENAME_EXCHANGE : 0);
    await this.engine.run('rename', old, () => renamePath(this.engine, old, wanted, flags));
  }

  async rm(path: PathLike, { recursive = false, force = false } = {}): Promise<void> {
    const bytes = pathArgument(path);
    let stats: Stats;
    try {
      stats = await this.lstat(bytes);
    } catch (error) {
      if (force && error instanceof Error && 'code' in error && error.code === 'ENOENT') return;
      throw error;
    }
    if (!stats.isDirectory()) {
      await this.unlink(bytes);
      return;
    }
    if (!recursive) {
      await this.engine.run('rm', bytes, () => {
        throw new FsError('EISDIR', 'a directory: say recursive');
      });
    }
    for (const { nameBytes } of await entriesIn(this.engine, bytes))
      await this.rm(joinPath(bytes, nameBytes), { recursive: true, force: true });
    await this.rmdir(bytes);
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
    const { encoding, withFileTypes = false, recursive = false } = optionsArgument<ReaddirOptions>(options);
    const known = encodingArgument(encoding) ?? 'utf8';
    const entries = await entriesIn(this.engine, bytes);
    const names: Buffer[] = [];
    if (recursive) {
      const all: Dirent[] = [];
      for await (const [below, entry] of entriesBelow(this.engine, bytes)) {
        all.push(entry);
        names.push(below.subarray(joinPath(bytes, Buffer.alloc(0)).length));
      }
      if (withFileTypes) return all;
    } else if (withFileTypes) return entries;
    else names.push(...entries.map(({ nameBytes }) => nameBytes));
    return encoding === 'buffer' ? names : names.map((name) => name.toString(known));
  }

  async opendir(path: PathLike): Promise<Dir> {
    const bytes = pathArgument(path);
    return new Dir(textOf(bytes), await entriesIn(this.engine, bytes));
  }

  /** Everything below a directory, parents before what is in them: its path, and its entry. Links are not followed. */
  walk(path?: PathLike): AsyncGenerator<[path: string, entry: Dirent]>;
  walk(path: PathLike, options: { readonly encoding: 'buffer' }): AsyncGenerator<[path: Buffer, entry: Dirent]>;
  async *walk(
    path: PathLike = '/',
    { encoding }: { readonly encoding?: 'buffer' } = {},
  ): AsyncGenerator<[path: string | Buffer, entry: Dirent]> {
    for await (const [below, entry] of entriesBelow(this.engine, pathArgument(path)))
      yield [encoding === 'buffer' ? below : below.toString(), entry];
  }

  // Inodes

  async stat(path: PathLike): Promise<Stats> {
    return this.statAs('stat', pathArgument(path), true);
  }

  async lstat(path: PathLike): Promise<Stats> {
    return this.statAs('lstat', pathArgument(path), false);
  }

  private statAs(syscall: string, path: Uint8Array, follow: boolean): Promise<Stats> {
    return this.engine.run(syscall, path, (fs) => {
      return new Stats(fs.stat(findInode(fs, path, follow)), fs.volume.geometry.blockSize);
    });
  }

  /** As for root: rejects with ENOENT and the like, EROFS, and EACCES for X_OK where nobody may execute. */
  async access(path: PathLike, mode: number = constants.F_OK): Promise<void> {
    const bytes = pathArgument(path);
    integerArgument(mode, 'mode', 0, 7);
    await this.engine.run('access', bytes, (fs) => {
      const stats = fs.stat(findInode(fs, bytes, true));
      if ((mode & constants.W_OK) !== 0 && fs.readOnly) throw new FsError('EROFS');
      const executable = (stats.mode & S_IFMT) === S_IFDIR || (stats.mode & 0o111) !== 0;
      if ((mode & constants.X_OK) !== 0 && !executable) throw new FsError('EACCES');
    });
  }

  async readlink(path: PathLike): Promise<string> {
    const bytes = pathArgument(path);
    return this.engine.run('readlink', bytes, (fs) => textOf(fs.readlink(findInode(fs, bytes, false))));
  }

  /** The path without links, "." and "..". */
  async realpath(path: PathLike): Promise<string> {
    const bytes = pathArgument(path);
    return this.engine.run('realpath', bytes, (fs) => {
      const { ino, real } = findPlace(fs, bytes, true);
      if (ino === 0) throw new FsError('ENOENT');
      return textOf(joinReal(real));
    });
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
    await this.utimesAs('utimes', pathArgument(path), atime, mtime, true);
  }

  async lutimes(path: PathLike, atime: Time, mtime: Time): Promise<void> {
    await this.utimesAs('lutimes', pathArgument(path), atime, mtime, false);
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
    if (typeof options !== 'object' || options === null)
      throw argumentError('ERR_INVALID_ARG_TYPE', 'The "options" argument must be of type object');
    const { create, replace } = options;
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
