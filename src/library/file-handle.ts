/** An open file, as the FileHandle of node:fs/promises. */
import { Readable, Writable } from 'node:stream';
import { FsError } from '../errors.js';
import type { Ino } from '../ext4/inode.js';
import { changeMode, changeOwner, changeSize, changeTimes, type Time } from './attributes.js';
import type { EngineRoom } from './engine-room.js';
import { readBytes, writeBytes } from './file-bytes.js';
import { type AllocationMode, changeSpace } from './file-space.js';
import { explained } from './image-error.js';
import { dataOf, type ReadOptions, spanOf } from './io-arguments.js';
import { Stats } from './stats.js';

/** Bytes of one operation: between two of them others get their turn. */
const PIECE_BYTES = 1 << 20;

export interface StreamOptions {
  /** First byte, and last, inclusive. */
  readonly start?: number;
  readonly end?: number;
  readonly highWaterMark?: number;
}

export interface Access {
  readonly reads: boolean;
  readonly writes: boolean;
  readonly appends: boolean;
}

export class FileHandle {
  readonly path: string;
  private readonly engine: EngineRoom;
  private readonly ino: Ino;
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
  async read<T extends Uint8Array>(
    buffer: T,
    offset?: number | ReadOptions | null,
    length?: number | null,
    position?: number | null,
  ): Promise<{ bytesRead: number; buffer: T }> {
    const span = this.given('read', () => spanOf(buffer, offset, length, position));
    const from = span.position ?? this.position;
    let bytesRead = 0;
    while (bytesRead < span.bytes.length) {
      const piece = span.bytes.subarray(bytesRead, bytesRead + PIECE_BYTES);
      const got = await this.engine.run('read', this.path, (fs) => readBytes(fs, this.ino, from + bytesRead, piece));
      bytesRead += got;
      if (got < piece.length) break;
    }
    if (span.position === null) this.position = from + bytesRead;
    return { bytesRead, buffer };
  }

  /**
   * All of it. As in Node: bytes with offset, length and position, or a string with position and encoding; a file opened
   * for appending takes it at its end.
   */
  async write<T extends Uint8Array | string>(
    data: T,
    offsetOrPosition?: number | ReadOptions | null,
    lengthOrEncoding?: number | BufferEncoding | null,
    position?: number | null,
  ): Promise<{ bytesWritten: number; buffer: T }> {
    const span = this.given('write', () => dataOf(data, offsetOrPosition, lengthOrEncoding, position));
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
    return { bytesWritten: span.bytes.length, buffer: data };
  }

  async readv<T extends readonly Uint8Array[]>(
    buffers: T,
    position: number | null = null,
  ): Promise<{ bytesRead: number; buffers: T }> {
    let total = 0;
    for (const buffer of buffers) {
      const { bytesRead } = await this.read(buffer, { position: position === null ? null : position + total });
      total += bytesRead;
      if (bytesRead < buffer.length) break;
    }
    return { bytesRead: total, buffers };
  }

  async writev<T extends readonly Uint8Array[]>(
    buffers: T,
    position: number | null = null,
  ): Promise<{ bytesWritten: number; buffers: T }> {
    let total = 0;
    for (const buffer of buffers) {
      const { bytesWritten } = await this.write(buffer, { position: position === null ? null : position + total });
      total += bytesWritten;
    }
    return { bytesWritten: total, buffers };
  }

  /** From here to the end. */
  async readFile(): Promise<Buffer>;
  async readFile(encoding: BufferEncoding): Promise<string>;
  async readFile(encoding?: BufferEncoding): Promise<Buffer | string> {
    const { size } = await this.stat();
    const { buffer, bytesRead } = await this.read(Buffer.alloc(Math.max(0, size - this.position)));
    const content = buffer.subarray(0, bytesRead);
    return encoding === undefined ? content : content.toString(encoding);
  }

  async writeFile(data: Uint8Array | string): Promise<void> {
    await this.write(data);
  }

  async appendFile(data: Uint8Array | string): Promise<void> {
    await this.write(data);
  }

  async truncate(length = 0): Promise<void> {
    this.mustAllow('ftruncate', 'writes');
    await this.engine.run('ftruncate', this.path, (fs) => changeSize(fs, this.ino, length));
  }

  /**
   * fallocate(2). What is behind a range that is taken out moves up to it, and makes room for one that is put in; the
   * bytes stay where they are on the image.
   */
  async fallocate(mode: AllocationMode, offset: number, length: number): Promise<void> {
    this.mustAllow('fallocate', 'writes');
    await this.engine.run('fallocate', this.path, (fs) => changeSpace(fs, this.ino, mode, offset, length));
  }

  chmod(mode: number): Promise<void> {
    return this.engine.run('fchmod', this.path, (fs) => changeMode(fs, this.ino, mode));
  }

  /** -1 leaves an id as it is. */
  chown(uid: number, gid: number): Promise<void> {
    return this.engine.run('fchown', this.path, (fs) => changeOwner(fs, this.ino, uid, gid));
  }

  utimes(atime: Time, mtime: Time): Promise<void> {
    return this.engine.run('futimes', this.path, (fs) => changeTimes(fs, this.ino, atime, mtime));
  }

  stat(): Promise<Stats> {
    return this.engine.run('fstat', this.path, (fs) => new Stats(fs.stat(this.ino), fs.volume.geometry.blockSize));
  }

  /** fsync: data and metadata are durable when this resolves, as far as the storage below keeps its word. */
  sync(): Promise<void> {
    return this.engine.sync(this.ino, 'fsync', this.path);
  }

  datasync(): Promise<void> {
    return this.engine.sync(this.ino, 'fdatasync', this.path);
  }

  /** Closes the handle when it has ended. */
  createReadStream({ start, end = Number.POSITIVE_INFINITY, highWaterMark = 65_536 }: StreamOptions = {}): Readable {
    const handle = this;
    if (start !== undefined) this.position = start;
    async function* pieces() {
      try {
        for (;;) {
          const length = Math.min(highWaterMark, end + 1 - handle.position);
          if (length <= 0) return;
          const { buffer, bytesRead } = await handle.read(Buffer.alloc(length));
          if (bytesRead === 0) return;
          yield buffer.subarray(0, bytesRead);
        }
      } finally {
        await handle.close();
      }
    }
    return Readable.from(pieces(), { objectMode: false, highWaterMark });
  }

  /** Closes the handle when it has ended. */
  createWriteStream({ start, highWaterMark = 1 << 20 }: Omit<StreamOptions, 'end'> = {}): Writable {
    if (start !== undefined) this.position = start;
    return new Writable({
      highWaterMark,
      write: (chunk: Uint8Array, _encoding, done) => {
        this.write(chunk).then(() => done(), done);
      },
      destroy: (error, done) => {
        this.close().then(
          () => done(error),
          (failure: Error) => done(error ?? failure),
        );
      },
    });
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

  /** The arguments, once it is clear that they make sense and that the handle allows it. */
  private given<T>(syscall: 'read' | 'write', what: () => T): T {
    this.mustAllow(syscall);
    try {
      return what();
    } catch (error) {
      throw explained(error, syscall, this.path);
    }
  }

  private mustAllow(syscall: string, what: 'reads' | 'writes' = syscall === 'read' ? 'reads' : 'writes'): void {
    if (!this.open || !this.access[what]) {
      const why = this.open ? `it was not opened for that` : 'it has been closed';
      throw explained(new FsError('EBADF', why), syscall, this.path);
    }
  }
}
