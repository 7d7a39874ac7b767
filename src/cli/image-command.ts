/** What the commands that look into an image share: arguments, opening it, and which exit code an error means. */
import { existsSync } from 'node:fs';
import type { BlockDevice } from '../block/device.js';
import { FileDevice } from '../block/file-device.js';
import type { Partition } from '../block/partition-table.js';
import { CorruptionError, FsError, UnsupportedError } from '../errors.js';
import { type OptionSpec, parseArguments, UsageError } from './args.js';
import { attachJournal } from './attach-journal.js';
import { CommandError } from './command-error.js';
import { COMMAND_TEXTS, usageOf } from './command-texts.js';
import { ImageExit } from './exit-codes.js';
import { checkIsImage, checkNative } from './mount-checks.js';
import { type Part, type Place, partAt, partitionsOf } from './partitions.js';
import { explain } from './report.js';

/** What every image command takes: the image, where in it, and where its journal is if that is on another device. */
export interface ImageSource {
  readonly image: string;
  readonly place?: Place;
  readonly journals: readonly string[];
}

type ImageCommand = 'replay' | 'journal' | 'info' | 'check';
type OptionName<Command extends ImageCommand> = keyof (typeof COMMAND_TEXTS)[Command]['options'] & string;

export interface ImageArguments<Name extends string> extends ImageSource {
  readonly flags: Readonly<Record<Name, boolean>>;
}

interface PlaceValues {
  readonly part: readonly string[];
  readonly offset: readonly string[];
}

/** What --part and --offset say. Throws UsageError. */
export function placeIn({ part, offset }: PlaceValues): Place | undefined {
  if (part.length > 0 && offset.length > 0) throw new UsageError('--part or --offset, not both');
  const [name, bytes] = [part.at(-1), offset.at(-1)];
  if (name !== undefined) return { part: name };
  if (bytes === undefined) return undefined;
  const offsetBytes = /^\d+$/.test(bytes) ? Number(bytes) : Number.NaN;
  if (!Number.isSafeInteger(offsetBytes)) throw new UsageError(`--offset ${bytes}: a number of bytes is expected`);
  return { offsetBytes };
}

/** Null means that what is wrong, and the usage, was printed. */
export function parseImageArguments<Command extends ImageCommand>(
  command: Command,
  args: readonly string[],
): ImageArguments<OptionName<Command>> | null {
  const options = COMMAND_TEXTS[command].options as unknown as Record<OptionName<Command>, OptionSpec>;
  try {
    const { flags, values, positionals } = parseArguments(args, options, ['IMAGE']);
    const given = values as Readonly<Record<'journal' | keyof PlaceValues, readonly string[]>>;
    return { image: positionals[0], place: placeIn(given), journals: given.journal, flags };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(
      `ext4d ${command}: ${error.message}\nusage: ${usageOf(command)}; see: ext4d help ${command}\n`,
    );
    return null;
  }
}

/**
 * - write: nobody else may have the image open.
 * - read: nobody may be writing it.
 * - look: like read, but an image in use is shown as it is at the moment.
 */
export type ImageAccess = 'write' | 'read' | 'look';

interface ImageUse {
  readonly access: ImageAccess;
  readonly json: boolean;
  /** What to do instead with an image that is a whole disk, while no partition of it is named; returns the exit code. */
  readonly disk?: (partitions: readonly Partition[]) => number;
}

/** Opens the image, runs `use`, and turns the errors of an image into a line on stderr and an exit code. */
export function withImage(
  { image, place, journals }: ImageSource,
  options: ImageUse,
  use: (device: BlockDevice) => number,
): number {
  let device: BlockDevice | null = null;
  try {
    checkNative();
    // What is not there opening it tells.
    if (existsSync(image)) checkIsImage(image);
    const partitions = options.disk === undefined || place !== undefined ? [] : partitionsOf(image);
    if (options.disk !== undefined && partitions.length > 0) return options.disk(partitions);
    device = openImage(image, options.access, place === undefined ? undefined : partAt(image, place));
    device = attachJournal(device, journals, options.access !== 'write');
    return use(device);
  } catch (error) {
    const failure = describeFailure(error);
    const told = explain(error, image);
    if (failure === null || told === null) throw error;
    if (options.json) print(JSON.stringify({ image, error: failure }));
    process.stderr.write(`ext4d: ${told.line.replaceAll('\n', ' ')}\n`);
    return failure.kind === 'operational' ? ImageExit.OPERATIONAL : ImageExit.CORRUPT;
  } finally {
    device?.close();
  }
}

function openImage(path: string, access: ImageAccess, part?: Part): BlockDevice {
  try {
    return FileDevice.open(path, { readOnly: access !== 'write', ...part });
  } catch (error) {
    if (access !== 'look' || !(error instanceof FsError && error.code === 'EBUSY')) throw error;
    process.stderr.write(`ext4d: ${path} is in use: what is shown may be changing\n`);
    return FileDevice.open(path, { readOnly: true, noLock: true, ...part });
  }
}

export interface Failure {
  readonly kind: 'corrupt' | 'unsupported' | 'operational';
  readonly message: string;
  readonly features?: readonly string[];
}

/** Null for anything that is a bug of this program. */
function describeFailure(error: unknown): Failure | null {
  if (error instanceof CorruptionError) return { kind: 'corrupt', message: error.message };
  if (error instanceof UnsupportedError) {
    return { kind: 'unsupported', message: error.message, features: error.features };
  }
  if (error instanceof FsError || error instanceof CommandError) return { kind: 'operational', message: error.message };
  return null;
}

export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** "1 block", "2 blocks". */
export function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}
