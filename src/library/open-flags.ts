/** How a file is opened: the strings and numbers of node:fs. */
import { constants } from 'node:fs';
import { argumentError, shown } from './arguments.js';

export interface Access {
  readonly reads: boolean;
  readonly writes: boolean;
  readonly appends: boolean;
  /** Every write is durable when it resolves. */
  readonly syncs: boolean;
}

export interface OpenFlags extends Access {
  readonly creates: boolean;
  /** It must not be there. */
  readonly exclusive: boolean;
  readonly truncates: boolean;
  /** Something else is ENOTDIR. */
  readonly directoryOnly: boolean;
  /** A link at the end of the path is ELOOP. */
  readonly noFollow: boolean;
}

const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_SYNC, O_DSYNC } = constants;
const { O_DIRECTORY, O_NOFOLLOW } = constants;

const STRINGS: Readonly<Record<string, number>> = {
  r: O_RDONLY,
  rs: O_RDONLY | O_SYNC,
  'r+': O_RDWR,
  'rs+': O_RDWR | O_SYNC,
  w: O_WRONLY | O_CREAT | O_TRUNC,
  wx: O_WRONLY | O_CREAT | O_TRUNC | O_EXCL,
  'w+': O_RDWR | O_CREAT | O_TRUNC,
  'wx+': O_RDWR | O_CREAT | O_TRUNC | O_EXCL,
  a: O_WRONLY | O_CREAT | O_APPEND,
  ax: O_WRONLY | O_CREAT | O_APPEND | O_EXCL,
  as: O_WRONLY | O_CREAT | O_APPEND | O_SYNC,
  'a+': O_RDWR | O_CREAT | O_APPEND,
  'ax+': O_RDWR | O_CREAT | O_APPEND | O_EXCL,
  'as+': O_RDWR | O_CREAT | O_APPEND | O_SYNC,
};
const SPELLINGS: Readonly<Record<string, string>> = {
  sr: 'rs',
  'sr+': 'rs+',
  xw: 'wx',
  'xw+': 'wx+',
  xa: 'ax',
  'xa+': 'ax+',
  sa: 'as',
  'sa+': 'as+',
};

/** Throws TypeError ERR_INVALID_ARG_VALUE. */
export function openFlags(flags: unknown): OpenFlags {
  const number = numberOf(flags);
  const way = number & (O_WRONLY | O_RDWR);
  return {
    reads: way !== O_WRONLY,
    writes: way !== O_RDONLY,
    appends: (number & O_APPEND) !== 0,
    syncs: (number & (O_SYNC | O_DSYNC)) !== 0,
    creates: (number & O_CREAT) !== 0,
    exclusive: (number & O_EXCL) !== 0 && (number & O_CREAT) !== 0,
    truncates: (number & O_TRUNC) !== 0,
    directoryOnly: (number & O_DIRECTORY) !== 0,
    noFollow: (number & O_NOFOLLOW) !== 0,
  };
}

function numberOf(flags: unknown): number {
  if (typeof flags === 'number' && Number.isInteger(flags) && flags >= 0 && flags <= 0x7fffffff && (flags & 3) !== 3)
    return flags;
  const name = typeof flags === 'string' ? (SPELLINGS[flags] ?? flags) : '';
  if (Object.hasOwn(STRINGS, name)) return STRINGS[name];
  throw argumentError('ERR_INVALID_ARG_VALUE', `The argument 'flags' is invalid. Received ${shown(flags)}`);
}
