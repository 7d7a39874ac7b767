/** The ways in which node:fs/promises lets callers say what to read or write, and where. */
import { argumentError, bytesArgument, encodingArgument, integerArgument } from './arguments.js';

export interface ReadOptions {
  readonly buffer?: NodeJS.ArrayBufferView;
  readonly offset?: number;
  readonly length?: number;
  /** Null: where the last read without a position ended. */
  readonly position?: number | bigint | null;
}

/** Bytes of a buffer and a place in the file; null: the handle's own. */
export interface Span {
  readonly bytes: Uint8Array;
  readonly position: number | null;
}

const DEFAULT_READ_BYTES = 16_384;

/** A negative position is the handle's own, as in Node. */
export function positionOf(position: unknown): number | null {
  if (position === null || position === undefined) return null;
  const number = typeof position === 'bigint' ? Number(position) : position;
  if (typeof number === 'number' && number < 0) return null;
  return integerArgument(number, 'position');
}

function spanOf(buffer: unknown, offset: unknown, length: unknown, position: unknown): Span {
  const bytes = viewOf(buffer);
  const from = integerArgument(offset ?? 0, 'offset', 0, bytes.length);
  const count = integerArgument(length ?? bytes.length - from, 'length', 0, bytes.length - from);
  return { bytes: bytes.subarray(from, from + count), position: positionOf(position) };
}

function viewOf(buffer: unknown): Uint8Array {
  if (typeof buffer !== 'string') return bytesArgument(buffer, 'buffer');
  throw argumentError('ERR_INVALID_ARG_TYPE', 'The "buffer" argument must be an instance of Buffer or TypedArray');
}

/** For readv and writev. Throws TypeError. */
export function buffersArgument(buffers: unknown): void {
  if (Array.isArray(buffers) && buffers.every((buffer) => ArrayBuffer.isView(buffer))) return;
  throw argumentError('ERR_INVALID_ARG_TYPE', 'The "buffers" argument must be an instance of ArrayBufferView[]');
}

/** For read: a buffer with offset, length and position, or with options; options with a buffer, or nothing. */
export function readSpan<T extends NodeJS.ArrayBufferView>(
  first: T | ReadOptions | undefined,
  offset?: number | ReadOptions | null,
  length?: number | null,
  position?: number | bigint | null,
): Span & { readonly buffer: T } {
  if (first === undefined || (typeof first === 'object' && first !== null && !ArrayBuffer.isView(first))) {
    const options = (first ?? {}) as ReadOptions;
    const buffer = (options.buffer ?? Buffer.alloc(DEFAULT_READ_BYTES)) as NodeJS.ArrayBufferView as T;
    return { buffer, ...spanOf(buffer, options.offset, options.length, options.position) };
  }
  const buffer = first as T;
  if (typeof offset === 'object' && offset !== null)
    return { buffer, ...spanOf(buffer, offset.offset, offset.length, offset.position) };
  return { buffer, ...spanOf(buffer, offset, length, position) };
}

/** For write: a string takes a position and an encoding, bytes what read takes. */
export function writeSpan(
  data: unknown,
  second?: number | bigint | ReadOptions | null,
  third?: number | BufferEncoding | null,
  position?: number | bigint | null,
): Span {
  const options = typeof second === 'object' && second !== null ? second : null;
  if (typeof data === 'string') {
    const encoding = encodingArgument(options === null ? third : undefined);
    return {
      bytes: bytesArgument(data, 'data', encoding),
      position: positionOf(options === null ? second : options.position),
    };
  }
  if (options !== null) return spanOf(data, options.offset, options.length, options.position);
  return spanOf(data, second, third, position);
}

/** Pieces of what writeFile takes: bytes, a string, or something that yields them. */
export async function* piecesOf(data: unknown, encoding: BufferEncoding | undefined): AsyncGenerator<Uint8Array> {
  if (typeof data !== 'string' && !ArrayBuffer.isView(data) && isIterable(data)) {
    for await (const piece of data) yield bytesArgument(piece, 'data', encoding);
    return;
  }
  yield bytesArgument(data, 'data', encoding);
}

function isIterable(data: unknown): data is AsyncIterable<unknown> | Iterable<unknown> {
  return typeof data === 'object' && data !== null && (Symbol.asyncIterator in data || Symbol.iterator in data);
}
