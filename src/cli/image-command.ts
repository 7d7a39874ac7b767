/** What the commands that look into an image share: arguments, opening it, and which exit code an error means. */
import type { BlockDevice } from '../block/device.js';
import { FileDevice } from '../block/file-device.js';
import { CorruptionError, FsError, UnsupportedError } from '../errors.js';
import { type OptionSpec, parseArguments, UsageError } from './args.js';
import { attachJournal } from './attach-journal.js';

export const ExitCode = {
  OK: 0,
  /** replay: the image was dirty and is recovered. */
  RECOVERED: 1,
  /** The image or its log is corrupt, or uses what is not supported; nothing was written. */
  CORRUPT: 4,
  /** The image could not be opened, read or written. */
  OPERATIONAL: 8,
  USAGE: 16,
} as const;

export interface ImageCommand<Flag extends string> {
  readonly usage: string;
  /** Boolean options by their long name, with the short one or ''. */
  readonly flags: Record<Flag, string>;
}

/** What every image command takes: the image, and where its journal is if that is on another device. */
export interface ImageSource {
  readonly image: string;
  readonly journals: readonly string[];
}

export interface ImageArguments<Flag extends string> extends ImageSource {
  readonly flags: Record<Flag, boolean>;
}

/** Null means that the usage was printed. */
export function parseImageArguments<Flag extends string>(
  command: ImageCommand<Flag>,
  args: readonly string[],
): ImageArguments<Flag> | null {
  const options = { journal: { type: 'string' } } as Record<Flag | 'journal', OptionSpec>;
  for (const name of Object.keys(command.flags) as Flag[]) {
    const short = command.flags[name];
    options[name] = short === '' ? { type: 'boolean' } : { type: 'boolean', short };
  }
  try {
    const { flags, values, positionals } = parseArguments(args, options, ['IMAGE']);
    return { image: positionals[0], journals: values.journal, flags };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`ext4d: ${error.message}\nusage: ${command.usage}\n`);
    return null;
  }
}

/**
 * - write: nobody else may have the image open.
 * - read: nobody may be writing it.
 * - look: like read, but an image in use is shown as it is at the moment.
 */
export type ImageAccess = 'write' | 'read' | 'look';

/** Opens the image, runs `use`, and turns the errors of an image into a line on stderr and an exit code. */
export function withImage(
  { image, journals }: ImageSource,
  options: { readonly access: ImageAccess; readonly json: boolean },
  use: (device: BlockDevice) => number,
): number {
  let device: BlockDevice | null = null;
  try {
    device = openImage(image, options.access);
    device = attachJournal(device, journals, options.access !== 'write');
    return use(device);
  } catch (error) {
    const failure = describeFailure(error);
    if (failure === null) throw error;
    if (options.json) print(JSON.stringify({ image, error: failure }));
    process.stderr.write(`ext4d: ${image}: ${failure.message}\n`);
    return failure.kind === 'operational' ? ExitCode.OPERATIONAL : ExitCode.CORRUPT;
  } finally {
    device?.close();
  }
}

function openImage(path: string, access: ImageAccess): BlockDevice {
  try {
    return FileDevice.open(path, { readOnly: access !== 'write' });
  } catch (error) {
    if (access !== 'look' || !(error instanceof FsError && error.code === 'EBUSY')) throw error;
    process.stderr.write(`ext4d: ${path} is in use: what is shown may be changing\n`);
    return FileDevice.open(path, { readOnly: true, noLock: true });
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
  if (error instanceof FsError) return { kind: 'operational', message: error.message };
  return null;
}

export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** "1 block", "2 blocks". */
export function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}
