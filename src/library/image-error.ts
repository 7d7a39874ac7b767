/** What operations of the library reject with: as Node's own file system errors, with code, errno, syscall and path. */
import { getSystemErrorMap } from 'node:util';
import { CorruptionError, FsError } from '../errors.js';
import { textOf } from './paths.js';

/** What an operation was asked to work on: nothing, a path, or one and where it leads. */
export type Subject = Uint8Array | string | undefined | readonly [path: Uint8Array, dest: Uint8Array];

const isPair = (subject: NonNullable<Subject>): subject is readonly [Uint8Array, Uint8Array] => Array.isArray(subject);

export class ImageError extends Error {
  /** ENOENT, EEXIST, ...; EUCLEAN or EBADMSG where the image contradicts itself. */
  readonly code: string;
  /** Negative, as in Node. */
  readonly errno: number;
  readonly syscall: string;
  readonly path: string | undefined;
  /** Of what takes two paths, the other one. */
  readonly dest: string | undefined;

  constructor(cause: FsError | CorruptionError, syscall: string, subject: Subject) {
    const [path, dest] = subject === undefined ? [] : isPair(subject) ? subject.map(textOf) : [textOf(subject)];
    const where = `${path === undefined ? '' : ` '${path}'`}${dest === undefined ? '' : ` -> '${dest}'`}`;
    const detail = cause.message.replace(`${cause.code}: `, '');
    const [, sentence] = getSystemErrorMap().get(-cause.errno) ?? [];
    const more = sentence === undefined || cause.message === cause.code ? '' : ` (${detail})`;
    super(`${cause.code}: ${sentence ?? detail}, ${syscall}${where}${more}`, { cause });
    this.name = 'ImageError';
    this.code = cause.code;
    this.errno = -cause.errno;
    this.syscall = syscall;
    this.path = path;
    this.dest = dest;
  }
}

/** Anything but an errno or a corruption is passed on: a bug must not look like an answer. */
export function explained(error: unknown, syscall: string, subject?: Subject): unknown {
  return error instanceof FsError || error instanceof CorruptionError ? new ImageError(error, syscall, subject) : error;
}

export const hasCode = (error: unknown, code: string): boolean =>
  error instanceof Error && 'code' in error && error.code === code;
