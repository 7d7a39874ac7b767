/**
 * The three error families, never mixed:
 *  - {@link FsError}: what the caller asked for cannot be done; an errno.
 *  - {@link UnsupportedError}: the image uses something this program does not support; it is named.
 *  - {@link CorruptionError}: what is on disk is wrong; structure, place and finding.
 * Anything else that is thrown is a bug in this program.
 */

/** Linux errno numbers (asm-generic) that this program answers with. */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENOTTY: 25,
  ETXTBSY: 26,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EMLINK: 31,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  ENODATA: 61,
  EPROTO: 71,
  EBADMSG: 74,
  EOVERFLOW: 75,
  EOPNOTSUPP: 95,
  ESTALE: 116,
  EUCLEAN: 117,
  EDQUOT: 122,
  ENOKEY: 126,
} as const;

export type ErrnoName = keyof typeof Errno;

/** A refusal that a POSIX caller expects. `code` is the errno name, as in Node's own errors. */
export class FsError extends Error {
  readonly code: ErrnoName;

  constructor(code: ErrnoName, detail = '') {
    // Refusals are ordinary answers, given thousands of times a second: they carry no stack.
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 0;
    super(detail === '' ? code : `${code}: ${detail}`);
    Error.stackTraceLimit = limit;
    this.name = 'FsError';
    this.code = code;
  }

  get errno(): number {
    return Errno[this.code];
  }
}

/** The image needs something that is not supported; `features` are the names as `dumpe2fs` prints them. */
export class UnsupportedError extends Error {
  readonly features: readonly string[];

  constructor(message: string, features: readonly string[] = []) {
    super(message);
    this.name = 'UnsupportedError';
    this.features = features;
  }
}

/** Something on disk contradicts the format. Answers EUCLEAN, or EBADMSG for a checksum, as the kernel does. */
export class CorruptionError extends Error {
  readonly code: 'EUCLEAN' | 'EBADMSG';
  /** Kind of structure: "extent block", "inode", "directory block". */
  readonly structure: string;
  /** Where: "inode 12", "block 8193". */
  readonly place: string;
  readonly finding: string;

  constructor(structure: string, place: string, finding: string, code: 'EUCLEAN' | 'EBADMSG' = 'EUCLEAN') {
    super(`${structure} at ${place}: ${finding}`);
    this.name = 'CorruptionError';
    this.structure = structure;
    this.place = place;
    this.finding = finding;
    this.code = code;
  }

  get errno(): number {
    return Errno[this.code];
  }
}
