/** Streams over an open file. */
import { addAbortSignal, Readable, Writable } from 'node:stream';
import { argumentError, booleanArgument, encodingArgument, integerArgument, optionsArgument } from './arguments.js';
import type { FileHandle } from './file-handle.js';

export interface StreamOptions {
  /** What a read stream gives and a write stream takes is text in it. */
  readonly encoding?: BufferEncoding | null;
  /** First byte, and last, inclusive; from the handle's position to the end of the file by default. */
  readonly start?: number;
  readonly end?: number;
  /** Bytes that wait in the stream. */
  readonly highWaterMark?: number;
  /** The handle is closed when the stream has ended or failed; true by default. */
  readonly autoClose?: boolean;
  /** Ends the stream, with an AbortError. */
  readonly signal?: AbortSignal;
}

export interface WriteStreamOptions extends Omit<StreamOptions, 'end'> {
  /** Durable when it ends. */
  readonly flush?: boolean;
}

const READ_BYTES = 65_536;
const WRITE_BYTES = 1 << 20;

function checked(options: StreamOptions | BufferEncoding | null | undefined, defaultBytes: number) {
  const given = optionsArgument<StreamOptions>(options);
  const { start, end, signal } = given;
  if (start !== undefined) integerArgument(start, 'start');
  if (end !== undefined && end !== Number.POSITIVE_INFINITY) integerArgument(end, 'end', start ?? 0);
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw argumentError('ERR_INVALID_ARG_TYPE', 'The "options.signal" property must be an instance of AbortSignal');
  return {
    encoding: encodingArgument(given.encoding),
    start,
    end: end ?? Number.POSITIVE_INFINITY,
    highWaterMark: integerArgument(given.highWaterMark ?? defaultBytes, 'highWaterMark', 1),
    autoClose: booleanArgument(given.autoClose ?? undefined, 'options.autoClose', true),
    signal,
  };
}

export function readStream(handle: FileHandle, options?: StreamOptions | BufferEncoding | null): Readable {
  const { encoding, start, end, highWaterMark, autoClose, signal } = checked(options, READ_BYTES);
  async function* pieces() {
    try {
      // Without a start the handle's own position moves along.
      let left = end - (start ?? 0) + 1;
      for (let at = start; left > 0; ) {
        const piece = Buffer.alloc(Math.min(highWaterMark, left));
        const { bytesRead } = await handle.read(piece, { position: at ?? null });
        if (bytesRead === 0) return;
        left -= bytesRead;
        if (at !== undefined) at += bytesRead;
        yield piece.subarray(0, bytesRead);
      }
    } finally {
      if (autoClose) await handle.close();
    }
  }
  const stream = Readable.from(pieces(), { objectMode: false, highWaterMark, encoding });
  return signal === undefined ? stream : addAbortSignal(signal, stream);
}

export function writeStream(handle: FileHandle, options?: WriteStreamOptions | BufferEncoding | null): Writable {
  const { encoding, start, highWaterMark, autoClose, signal } = checked(options, WRITE_BYTES);
  const flush = booleanArgument(optionsArgument<WriteStreamOptions>(options).flush ?? undefined, 'options.flush');
  let at = start;
  const stream = new Writable({
    highWaterMark,
    defaultEncoding: encoding,
    write: (chunk: Uint8Array, _encoding, done) => {
      const position = at ?? null;
      if (at !== undefined) at += chunk.length;
      handle.write(chunk, { position }).then(() => done(), done);
    },
    final: (done) => {
      if (flush) handle.sync().then(() => done(), done);
      else done();
    },
    destroy: (error, done) => {
      if (!autoClose) done(error);
      else
        handle.close().then(
          () => done(error),
          (failure: Error) => done(error ?? failure),
        );
    },
  });
  return signal === undefined ? stream : addAbortSignal(signal, stream);
}
