/** The ways in which node:fs/promises lets callers say what to read or write, and where. */
import { FsError } from '../errors.js';
import { integer } from './attributes.js';

export interface ReadOptions {
  readonly offset?: number;
  readonly length?: number;
  /** Null: where the last read without a position ended. */
  readonly position?: number | null;
}

/** Bytes of a buffer and a place in the file; null: the handle's own. */
export interface Span {
  readonly bytes: Uint8Array;
  readonly position: number | null;
}

/** A negative position is the handle's own, as in Node. */
function positionOf(position: number | null | undefined): number | null {
  if (position === null || position === undefined || position < 0) return null;
  return integer(position, 'position');
}

/** Throws FsError EINVAL for a range outside the buffer. */
export function spanOf(
  buffer: Uint8Array,
  offset: number | ReadOptions | null | undefined,
  length?: number | null,
  position?: number | null,
): Span {
  if (!(buffer instanceof Uint8Array)) throw new FsError('EINVAL', 'the buffer is none');
  if (typeof offset === 'object' && offset !== null)
    return spanOf(buffer, offset.offset ?? 0, offset.length, offset.position);
  const from = integer(offset ?? 0, 'offset', 0, buffer.length);
  const count = integer(length ?? buffer.length - from, 'length', 0, buffer.length - from);
  return { bytes: buffer.subarray(from, from + count), position: positionOf(position) };
}

/** For write: a string takes a position and an encoding, bytes what {@link spanOf} takes. */
export function dataOf(
  data: Uint8Array | string,
  second?: number | ReadOptions | null,
  third?: number | BufferEncoding | null,
  position?: number | null,
): Span {
  if (typeof data !== 'string') return spanOf(data, second, third as number | null | undefined, position);
  if (typeof second === 'object' && second !== null) return dataOf(data, second.position ?? null);
  return { bytes: Buffer.from(data, (third as BufferEncoding | null) ?? 'utf8'), position: positionOf(second) };
}
