/**
 * What callers may pass, made into what the engine takes. It all happens before the engine is entered: an exception in there
 * is taken for a bug and ends all writing. Wrong types are TypeErrors with ERR_INVALID_ARG_TYPE, and values that cannot be
 * ERR_INVALID_ARG_VALUE or ERR_OUT_OF_RANGE, as in Node.
 */
import { fileURLToPath } from 'node:url';
import { isDate, isUint8Array } from 'node:util/types';
import type { Timestamp } from '../ext4/volume.js';

/** A string is UTF-8; bytes are what the directory has; a file URL is the path in it, inside the image. */
export type PathLike = string | Uint8Array | URL;
/** Permission bits, also as octal digits. */
export type Mode = number | string;
/** Seconds since 1970 as a number or its digits, a Date, or seconds and nanoseconds, which lose nothing. */
export type Time = number | string | Date | Timestamp;

const NANOSECONDS = 1_000_000_000;

/** As Node's own errors for arguments. */
export function argumentError(
  code: 'ERR_INVALID_ARG_TYPE' | 'ERR_INVALID_ARG_VALUE' | 'ERR_OUT_OF_RANGE' | 'ERR_FS_FILE_TOO_LARGE',
  message: string,
): Error & { code: string } {
  const isRange = code === 'ERR_OUT_OF_RANGE' || code === 'ERR_FS_FILE_TOO_LARGE';
  return Object.assign(isRange ? new RangeError(message) : new TypeError(message), { code });
}

const wrongType = (what: string, wanted: string, value: unknown) =>
  argumentError('ERR_INVALID_ARG_TYPE', `The "${what}" argument must be ${wanted}. Received ${shown(value)}`);

/** For messages: nothing that is asked of a value may fail. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`;
  if (typeof value === 'number' || value === null || value === undefined) return String(value);
  return typeof value === 'object' || typeof value === 'function' ? typeof value : `type ${typeof value}`;
}

/** Copied: the caller may change or transfer its bytes before they are looked at. */
export function pathArgument(path: unknown, what = 'path'): Uint8Array {
  if (typeof path === 'string') return Buffer.from(path);
  if (isUint8Array(path)) return Buffer.from(path);
  if (path instanceof URL) return Buffer.from(fileURLToPath(path));
  throw wrongType(what, 'of type string or an instance of Uint8Array or URL', path);
}

/** An integer from `least` to `most`. */
export function integerArgument(
  value: unknown,
  what: string,
  least = 0,
  most: number = Number.MAX_SAFE_INTEGER,
): number {
  if (typeof value !== 'number') throw wrongType(what, 'of type number', value);
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw argumentError(
    'ERR_OUT_OF_RANGE',
    `The value of "${what}" is out of range. It must be an integer >= ${least} and <= ${most}. Received ${value}`,
  );
}

/** Undefined is `fallback`. */
export function booleanArgument(value: unknown, what: string, fallback = false): boolean {
  if (value === undefined) return fallback;
  if (typeof value === 'boolean') return value;
  throw wrongType(what, 'of type boolean', value);
}

export function stringArgument(value: unknown, what: string): string {
  if (typeof value === 'string') return value;
  throw wrongType(what, 'of type string', value);
}

/** Undefined stays so. */
export function functionArgument<T>(value: T, what: string): T {
  if (value === undefined || typeof value === 'function') return value;
  throw wrongType(what, 'of type function', value);
}

/** An object of options; none at all is an empty one. */
export function objectArgument<T extends object>(value: Partial<T> | null | undefined, what = 'options'): Partial<T> {
  if (value === undefined || value === null) return {};
  if (typeof value === 'object' && !Array.isArray(value) && !ArrayBuffer.isView(value)) return value;
  throw wrongType(what, 'of type object', value);
}

export function modeArgument(mode: unknown, what = 'mode'): number {
  if (typeof mode !== 'string') return integerArgument(mode, what, 0, 0xffffffff);
  if (/^[0-7]+$/.test(mode)) return integerArgument(Number.parseInt(mode, 8), what, 0, 0xffffffff);
  throw argumentError('ERR_INVALID_ARG_VALUE', `The argument '${what}' must be octal digits. Received '${mode}'`);
}

/** -1 leaves an id as it is. */
export const idArgument = (id: unknown, what: string) => integerArgument(id, what, -1, 0xffffffff);

export function timeArgument(time: unknown, what: string): Timestamp {
  if (isTimestamp(time)) {
    return {
      seconds: integerArgument(time.seconds, `${what}.seconds`, Number.MIN_SAFE_INTEGER),
      nanoseconds: integerArgument(time.nanoseconds, `${what}.nanoseconds`, 0, NANOSECONDS - 1),
    };
  }
  const ms = isDate(time) ? time.getTime() : secondsOf(time, what) * 1000;
  if (!Number.isFinite(ms))
    throw argumentError('ERR_OUT_OF_RANGE', `The "${what}" argument is no time: ${shown(time)}`);
  const seconds = Math.floor(ms / 1000);
  // A double holds about a microsecond of today's seconds.
  const nanoseconds = Math.round((ms - seconds * 1000) * 1000) * 1000;
  return nanoseconds === NANOSECONDS ? { seconds: seconds + 1, nanoseconds: 0 } : { seconds, nanoseconds };
}

const isTimestamp = (time: unknown): time is Timestamp =>
  typeof time === 'object' && time !== null && 'seconds' in time && 'nanoseconds' in time;

function secondsOf(time: unknown, what: string): number {
  if (typeof time === 'number') return time;
  if (typeof time === 'string' && time.trim() !== '' && Number.isFinite(Number(time))) return Number(time);
  throw wrongType(what, 'a number of seconds, a Date, or seconds and nanoseconds', time);
}

/** A string is encoded; any view of a buffer is its bytes. */
export function bytesArgument(data: unknown, what: string, encoding: BufferEncoding = 'utf8'): Uint8Array {
  if (typeof data === 'string') return Buffer.from(data, encoding);
  // Bytes that were transferred elsewhere are none, and would throw at whoever looks.
  if (ArrayBuffer.isView(data) && data.byteLength === 0) return new Uint8Array(0);
  if (isUint8Array(data)) return data;
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  throw wrongType(what, 'of type string or an instance of Buffer, TypedArray, or DataView', data);
}

/** The name of an attribute. */
export function nameArgument(name: unknown): Uint8Array {
  if (typeof name === 'string') return Buffer.from(name);
  if (isUint8Array(name)) return Buffer.from(name);
  throw wrongType('name', 'of type string or an instance of Uint8Array', name);
}

/** An object of options, or an encoding in its place. */
export function optionsArgument<T extends { readonly encoding?: BufferEncoding | 'buffer' | null }>(
  options: T | BufferEncoding | 'buffer' | null | undefined,
): Partial<T> {
  if (options === null || options === undefined) return {};
  if (typeof options === 'string') return { encoding: options } as unknown as Partial<T>;
  if (typeof options === 'object') return options;
  throw wrongType('options', 'of type string or an instance of Object', options);
}

/** Null and undefined: bytes. */
export function encodingArgument(encoding: unknown): BufferEncoding | undefined {
  if (encoding === null || encoding === undefined || encoding === 'buffer') return undefined;
  if (typeof encoding === 'string' && Buffer.isEncoding(encoding)) return encoding;
  throw argumentError(
    'ERR_INVALID_ARG_VALUE',
    `The argument 'encoding' is invalid encoding. Received ${shown(encoding)}`,
  );
}
