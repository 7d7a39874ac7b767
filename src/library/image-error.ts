/** What operations of the library reject with: as Node's own file system errors, with code, errno, syscall and path. */
import { getSystemErrorMap } from 'node:util';
import { CorruptionError, FsError } from '../errors.js';

export class ImageError extends Error {
  /** ENOENT, EEXIST, ...; EUCLEAN or EBADMSG where the image contradicts itself. */
  readonly code: string;
  /** Negative, as in Node. */
  readonly errno: number;
  readonly syscall: string;
  readonly path: string | undefined;

  constructor(cause: FsError | CorruptionError, syscall: string, path: string | undefined) {
    const where = path === undefined ? '' : ` '${path}'`;
    const detail = cause.message.replace(`${cause.code}: `, '');
    const [, sentence] = getSystemErrorMap().get(-cause.errno) ?? [];
    const more = sentence === undefined || cause.message === cause.code ? '' : ` (${detail})`;
    super(`${cause.code}: ${sentence ?? detail}, ${syscall}${where}${more}`, { cause });
    this.name = 'ImageError';
    this.code = cause.code;
    this.errno = -cause.errno;
    this.syscall = syscall;
    this.path = path;
  }
}

/** Anything but an errno or a corruption is passed on: a bug must not look like an answer. */
export function explained(error: unknown, syscall: string, path?: string): unknown {
  return error instanceof FsError || error instanceof CorruptionError ? new ImageError(error, syscall, path) : error;
}
