/** Disk images: which partition is meant, and what to tell someone who gave a whole disk. */
import { FileDevice } from '../block/file-device.js';
import { type Partition, readPartitions } from '../block/partition-table.js';
import { CorruptionError, FsError } from '../errors.js';
import { looksLikeExt4 } from '../ext4/open.js';
import { CommandError } from './command-error.js';

/** Part of an image; without a limit up to its end. */
export interface Part {
  readonly offsetBytes: number;
  readonly sizeLimitBytes?: number;
}

/** Where someone says that the filesystem is: a partition by number, label or UUID, or a byte. */
export type Place = { readonly part: string } | { readonly offsetBytes: number };

/** Throws CommandError, FsError, CorruptionError for a bad table. */
export const partAt = (image: string, place: Place): Part =>
  'part' in place ? findPartition(image, place.part) : place;

/** By number, label or UUID. Throws CommandError, FsError, CorruptionError for a bad table. */
export function findPartition(image: string, wanted: string): Part {
  const partitions = withWhole(image, readPartitions);
  const found = partitions.find(
    ({ number, label, uuid }) =>
      String(number) === wanted || (label !== '' && label === wanted) || uuid === wanted.toLowerCase(),
  );
  if (found === undefined) {
    const known =
      partitions.length === 0 ? 'no partition table' : `the partitions ${partitions.map(partitionName).join(', ')}`;
    throw new CommandError(`${image}: part=${wanted}: there is no such partition; it has ${known}`);
  }
  return { offsetBytes: found.startBytes, sizeLimitBytes: found.sizeBytes };
}

export const partitionName = ({ number, label }: Partition) => (label === '' ? String(number) : `${number} (${label})`);

/** The partitions of a whole disk; none if the image is a filesystem, has no table, or cannot be read. */
export function partitionsOf(image: string): readonly Partition[] {
  try {
    return withWhole(image, (whole) => (looksLikeExt4(whole) ? [] : readPartitions(whole)));
  } catch (error) {
    if (error instanceof CorruptionError || error instanceof FsError) return [];
    throw error;
  }
}

/** What to do about an image that is no ext4 filesystem. */
export function adviceOnNoFilesystem(image: string): string {
  const [first, ...others] = partitionsOf(image);
  if (first === undefined) {
    return `make one with mke2fs -t ext4, or say where in the image it is: -o offset=BYTES (or --offset BYTES)`;
  }
  const numbers = [first, ...others].map(partitionName).join(', ');
  return `it is a disk with the partitions ${numbers}: see ext4d info ${image}, then say -o part=N (or --part N)`;
}

function withWhole<T>(image: string, use: (whole: FileDevice) => T): T {
  const whole = FileDevice.open(image, { readOnly: true, noLock: true });
  try {
    return use(whole);
  } finally {
    whole.close();
  }
}
