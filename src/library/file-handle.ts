/** An open file, as the FileHandle of node:fs/promises. */
import { constants } from 'node:buffer';
import { createInterface, type Interface } from 'node:readline';
import { Readable, type Writable } from 'node:stream';
import type { ReadableStream } from 'node:stream/web';
import { FsError } from '../errors.js';
import type { Ino } from '../ext4/inode.js';
import {
  argumentError,
  booleanArgument,
  encodingArgument,
  idArgument,
  integerArgument,
  type Mode,
  modeArgument,
  objectArgument,
  optionsArgument,
  type Time,
  timeArgument,
} from './arguments.js';
import { changeMode, changeOwner, changeSize, changeTimes } from './attributes.js';
import type { EngineRoom } from './engine-room.js';
import { readBytes, writeBytes } from './file-bytes.js';
import { type AllocationMode, allocationFlags, changeSpace } from './file-space.js';
import { explained } from './image-error.js';
import type { FileContent, StatOptions } from './image-options.js';
import { buffersArgument, piecesOf, positionOf, type ReadOptions, readSpan, writeSpan } from './io-arguments.js';
import type { Access } from './open-flags.js';
import type { BigIntStats, Stats } from './stats.js';
import { readStream, type StreamOptions, type WriteStreamOptions, writeStream } from './streams.js';

/** Bytes of one operation: between two of them others get their turn. */
const PIECE_BYTES = 1 << 20;

interface Encoded {
  readonly encoding?: BufferEncoding | null;
}

/** Throws RangeError ERR_FS_FILE_TOO_LARGE. */
function roomFor(bytes: number): Buffer {
  const tooLarge = () =>
    argumentError('ERR_FS_FILE_TOO_LARGE', `File size (${bytes}) is greater than a buffer can hold: use a stream`);
  if (bytes > constants.MAX_LENGTH) throw tooLarge();
  try {
    return Buffer.alloc(bytes);
  } catch {
    throw tooLarge();
  }
}

export class FileHandle {
  readonly path: string;
  /** Number of the inode. */
  readonly ino: Ino;
  private readonly engine: EngineRoom;
  private readonly access: Access;
  private position = 0;
  private open = true;

  /** Use {@link Image.open}. */
  constructor(engine: EngineRoom, ino: Ino, path: string, access: Access) {
    this.engine = engine;
    this.ino = ino;
    this.path = path;
    this.access = access;
    engine.opened(ino);
  }

  /** As in Node: a buffer with offset, length and position, or with options; without a position on from the last read. */
  async read<T extends NodeJS.ArrayBufferView = Buffer>(
    buffer?: T | (ReadOptions & { readonly buffer?: T }),
    offset?: number | ReadOptions | null,
    length?: number | null,
    position?: number | bigint | null,
  ): Promise<{ bytesRead: number; buffer: T }> {
    const span = readSpan<T>(buffer, offset, length, position);
    this.mustAllow('read', 'reads');
    const from = span.position ?? this.position;
    let bytesRead = 0;
    // Once for nothing as well: what cannot be read says so.
    do {
      const piece = span.bytes.subarray(bytesRead, bytesRead + PIECE_BYTES);
      const got = await this.engine.run('read', this.path, (fs) => readBytes(fs, this.ino, from + bytesRead, piece));
      bytesRead += got;
      if (got < piece.length) break;
    } while (bytesRead < span.bytes.length);
    if (span.position === null) this.position = from + bytesRead;
    return { bytesRead, buffer: span.buffer };
  }

  /**
   * All of it. As in Node: bytes with offset, length and position, or a string with position and encoding; a file opened
   * for appending takes it at its end.
   */
  async write<T extends NodeJS.ArrayBufferView | string>(
    data: T,
    offsetOrPosition?: number | bigint | ReadOptions | null,
    lengthOrEncoding?: number | BufferEncoding | null,
    position?: number | bigint | null,
  ): Promise<{ bytesWritten: number; buffer: T }> {
    const span = writeSpan(data, offsetOrPosition, lengthOrEncoding, position);
    this.mustAllow('write', 'writes');
    const from = span.position ?? this.position;
    for (let done = 0; done < span.bytes.length; done += PIECE_BYTES) {
      const piece = span.bytes.subarray(done, done + PIECE_BYTES);
      let at = this.access.appends ? -1 : from + done;
      await this.engine.run('write', this.path, (fs) => {
        // Once: a second try, after space ran out, begins where the first did.
        if (at < 0) at = fs.stat(this.ino).size;
        writeBytes(fs, this.ino, at, piece);
      });
    }
    if (span.position === null) this.position = from + span.bytes.length;
    if (this.access.syncs) await this.sync();
    return { bytesWritten: span.bytes.length, buffer: data };
  }

  async readv<T extends readonly NodeJS.ArrayBufferView[]>(
    buffers: T,
    position?: number | bigint | null,
  ): Promise<{ bytesRead: number; buffers: T }> {
    buffersArgument(buffers);
    const start = positionOf(position);
    this.mustAllow('read', 'reads');
    let total = 0;
    for (const buffer of buffers) {
      const { bytesRead } = await this.read(buffer, { position: start === null ? null : start + total });
      total += bytesRead;
      if (bytesRead < buffer.byteLength) break;
    }
    return { bytesRead: total, buffers };
  }

  async writev<T extends readonly NodeJS.ArrayBufferView[]>(
    buffers: T,
    position?: number | bigint | null,
  ): Promise<{ bytesWritten: number; buffers: T }> {
    buffersArgument(buffers);
    const start = positionOf(position);
    this.mustAllow('write', 'writes');
    let total = 0;
    for (const buffer of buffers) {
      const { bytesWritten } = await this.write(buffer, { position: start === null ? null : start + total });
      total += bytesWritten;
    }
    return { bytesWritten: total, buffers };
  }

  /** From here to the end. */
  async readFile(options?: (Encoded & { readonly encoding?: null }) | null): Promise<Buffer>;
  async readFile(options: BufferEncoding | { readonly encoding: BufferEncoding }): Promise<string>;
  async readFile(options?: BufferEncoding | Encoded | null): Promise<Buffer | string> {
    const encoding = encodingArgument(optionsArgument<Encoded>(options).encoding);
    this.mustAllow('read', 'reads');
    const { size } = await this.stat();
    const { buffer, bytesRead } = await this.read<Buffer>(roomFor(Math.max(0, size - this.position)));
    const content = buffer.subarray(0, bytesRead);
    return encoding === undefined ? content : content.toString(encoding);
  }

  /** Writes from the position on, as Node does: what is behind it stays. */
  async writeFile(data: FileContent, options?: Encoded | BufferEncoding | null): Promise<void> {
    const encoding = encodingArgument(optionsArgument<Encoded>(options).encoding);
    this.mustAllow('write', 'writes');
    for await (const piece of piecesOf(data, encoding)) await this.write(piece);
  }

  async appendFile(data: FileContent, options?: Encoded | BufferEncoding | null): Promise<void> {
    await this.writeFile(data, options);
  }

  async truncate(length = 0): Promise<void> {
    integerArgument(length, 'len');
    this.mustAllow('ftruncate', 'writes');
    await this.engine.run('ftruncate', this.path, (fs) => changeSize(fs, this.ino, length));
  }

  /**
   * fallocate(2). What is behind a range that is taken out moves up to it, and makes room for one that is put in; the
   * bytes stay where they are on the image.
   */
  async fallocate(mode: AllocationMode, offset: number, length: number): Promise<void> {
    const flags = allocationFlags(mode);
    integerArgument(offset, 'offset');
    integerArgument(length, 'length', 1);
    this.mustAllow('fallocate', 'writes');
    await this.engine.run('fallocate', this.path, (fs) => changeSpace(fs, this.ino, flags, offset, length));
  }

  async chmod(mode: Mode): Promise<void> {
    const bits = modeArgument(mode);
    this.mustAllow('fchmod');
    await this.engine.run('fchmod', this.path, (fs) => changeMode(fs, this.ino, bits));
  }

  /** -1 leaves an id as it is. */
  async chown(uid: number, gid: number): Promise<void> {
    idArgument(uid, 'uid');
    idArgument(gid, 'gid');
    this.mustAllow('fchown');
    await this.engine.run('fchown', this.path, (fs) => changeOwner(fs, this.ino, uid, gid));
  }

  async utimes(atime: Time, mtime: Time): Promise<void> {
    const [accessed, modified] = [timeArgument(atime, 'atime'), timeArgument(mtime, 'mtime')];
    this.mustAllow('futime');
    await this.engine.run('futime', this.path, (fs) => changeTimes(fs, this.ino, accessed, modified));
  }

  stat(options?: StatOptions & { readonly bigint?: false }): Promise<Stats>;
  stat(options: StatOptions & { readonly bigint: true }): Promise<BigIntStats>;
  async stat(options?: StatOptions): Promise<Stats | BigIntStats> {
    const bigint = booleanArgument(objectArgument<StatOptions>(options).bigint, 'options.bigint');
    this.mustAllow('fstat');
    return this.engine.stat('fstat', this.path, bigint, () => this.ino);
  }

  /** fsync: data and metadata are durable when this resolves, as far as the storage below keeps its word. */
  async sync(): Promise<void> {
    this.mustAllow('fsync');
    await this.engine.sync(this.ino, 'fsync', this.path);
  }

  async datasync(): Promise<void> {
    this.mustAllow('fdatasync');
    await this.engine.sync(this.ino, 'fdatasync', this.path);
  }

  /** Closes the handle when it has ended, unless it is told otherwise. */
  createReadStream(options?: StreamOptions | BufferEncoding | null): Readable {
    return readStream(this, options);
  }

  /** Closes the handle when it has ended, unless it is told otherwise. */
  createWriteStream(options?: WriteStreamOptions | BufferEncoding | null): Writable {
    return writeStream(this, options);
  }

  /** The lines from here on. Closes the handle behind the last. */
  readLines(options?: StreamOptions): Interface {
    return createInterface({ input: this.createReadStream(options), crlfDelay: Number.POSITIVE_INFINITY });
  }

  /** The bytes from here on. The handle stays open. */
  readableWebStream(): ReadableStream {
    this.mustAllow('read', 'reads');
    return Readable.toWeb(this.createReadStream({ autoClose: false })) as ReadableStream;
  }

  async close(): Promise<void> {
    if (!this.open) return;
    this.open = false;
    // With the image everything in it was closed.
    if (this.engine.isClosed) return;
    await this.engine.run('close', this.path, () => this.engine.released(this.ino));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private mustAllow(syscall: string, what?: 'reads' | 'writes'): void {
    if (this.open && (what === undefined || this.access[what])) return;
    const why = this.open ? `it was not opened for that` : 'it has been closed';
    throw explained(new FsError('EBADF', why), syscall, this.path);
  }
}
