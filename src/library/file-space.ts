/** fallocate(2) by name: space for a file, holes in it, and ranges taken out of it. */
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
} from '../ext4/fallocate.js';
import type { Filesystem } from '../ext4/filesystem.js';
import type { Ino } from '../ext4/inode.js';
import { argumentError, shown } from './arguments.js';
import { mustBeRegular } from './attributes.js';

/** `collapse-range` and `insert-range` take whole clusters (blocks without bigalloc) that lie before the end of the file. */
export type AllocationMode =
  | 'allocate'
  | 'allocate-keep-size'
  | 'punch-hole'
  | 'zero-range'
  | 'zero-range-keep-size'
  | 'collapse-range'
  | 'insert-range';

const MODES: ReadonlyMap<AllocationMode, number> = new Map([
  ['allocate', 0],
  ['allocate-keep-size', FALLOC_FL_KEEP_SIZE],
  ['punch-hole', FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE],
  ['zero-range', FALLOC_FL_ZERO_RANGE],
  ['zero-range-keep-size', FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE],
  ['collapse-range', FALLOC_FL_COLLAPSE_RANGE],
  ['insert-range', FALLOC_FL_INSERT_RANGE],
]);

/** FALLOC_FL_*. Throws TypeError ERR_INVALID_ARG_VALUE. */
export function allocationFlags(mode: AllocationMode): number {
  const flags = MODES.get(mode);
  if (flags !== undefined) return flags;
  throw argumentError('ERR_INVALID_ARG_VALUE', `The argument 'mode' is no way to allocate. Received ${shown(mode)}`);
}

/** Throws FsError. */
export function changeSpace(fs: Filesystem, ino: Ino, flags: number, offset: number, length: number): void {
  mustBeRegular(fs, ino);
  fs.fallocate(ino, flags, offset, length);
}
