/** Opening an image: a file, bytes in memory, or a device of one's own. */
import { fileURLToPath } from 'node:url';
import { isAnyArrayBuffer, isUint8Array } from 'node:util/types';
import type { BlockDevice } from '../block/device.js';
import { FileDevice } from '../block/file-device.js';
import { MemoryDevice } from '../block/memory-device.js';
import { realEnvironment } from '../ext4/environment.js';
import { type ErrorsPolicy, Filesystem } from '../ext4/filesystem.js';
import type { MountPolicy } from '../ext4/mount-policy.js';
import { MultiMountProtection } from '../ext4/multi-mount.js';
import { readGeometry } from '../ext4/open.js';
import { type LogReport, recoverLog } from '../ext4/recover.js';
import {
  argumentError,
  booleanArgument,
  functionArgument,
  integerArgument,
  type Mode,
  modeArgument,
  objectArgument,
} from './arguments.js';
import type { Owner } from './engine-room.js';
import { Image } from './image.js';
import { explained } from './image-error.js';
import { GuardedDevice, type OwnDevice } from './own-device.js';

export interface OpenImageOptions {
  /** A dirty log is then replayed in memory, and the image is not touched. */
  readonly readOnly?: boolean;
  /** Do not replay. A dirty log then needs `readOnly`. */
  readonly noRecovery?: boolean;
  /** Where in a file, or in bytes, the filesystem begins, and how much of it belongs to it. */
  readonly offsetBytes?: number;
  readonly sizeLimitBytes?: number;
  /** Who owns what is made; root by default. */
  readonly owner?: Owner;
  /** 0o022 by default. */
  readonly umask?: Mode;
  readonly commitIntervalMs?: number;
  readonly cacheBytes?: number;
  /** What a corruption leads to; default: what the superblock says. Nothing ends the program: panic is remount-ro. */
  readonly errors?: ErrorsPolicy;
  readonly policy?: Partial<MountPolicy>;
  /** One line for each thing worth telling. */
  readonly log?: (line: string) => void;
}

/** A path or file URL; the bytes of an image, which are changed in place; or a device. */
export type ImageSource = string | URL | ArrayBufferLike | Uint8Array | OwnDevice;

/** The tables of a cache are as large as it may become. */
const MAX_CACHE_BYTES = 2 ** 32;
/** setTimeout takes no more. */
const MAX_TIMER_MS = 0x7fffffff;
const ROOT: Owner = { uid: 0, gid: 0 };
const UMASK = 0o022;
const MAX_ID = 0xfffffffe;
const ERRORS: readonly ErrorsPolicy[] = ['continue', 'remount-ro', 'panic'];

/** What each part of a policy is. */
const POLICY: Readonly<Record<keyof MountPolicy, 'boolean' | 'number'>> = {
  journalsData: 'boolean',
  groupOfDirectory: 'boolean',
  discards: 'boolean',
  sharesXattrs: 'boolean',
  resuid: 'number',
  resgid: 'number',
  ids16: 'boolean',
  maxDirectoryBytes: 'number',
  wantExtraIsize: 'number',
  userLimits: 'boolean',
  groupLimits: 'boolean',
  projectLimits: 'boolean',
};

/**
 * Opens an image: replays its log, finishes its orphans, and is ready. A file is locked until {@link Image.close}. Rejects
 * with ImageError (ENOENT, EACCES, EBUSY, EUCLEAN...) or UnsupportedError, which names the features; with TypeError or
 * RangeError, as Node, for arguments without sense.
 */
export async function openImage(source: ImageSource, options?: OpenImageOptions): Promise<Image> {
  const { settings, place, mount } = checked(options);
  const device = openSource(source, place);
  try {
    return new Image(Filesystem.open(device, { ...mount, readOnly: mount.readOnly || device.readOnly }), settings);
  } catch (error) {
    closeQuietly(device);
    throw explained(error, 'open', nameOf(source));
  }
}

/** Replays the log of an image and nothing else, as `ext4d replay --log-only`. Rejects as {@link openImage}. */
export async function replayImage(source: ImageSource, options?: OpenImageOptions): Promise<LogReport> {
  const device = openSource(source, checked(options).place);
  try {
    const geometry = readGeometry(device);
    return MultiMountProtection.during(device, geometry, realEnvironment, () => recoverLog(device, geometry));
  } catch (error) {
    throw explained(error, 'replay', nameOf(source));
  } finally {
    closeQuietly(device);
  }
}

/** Where in a source the filesystem is, and whether it may be written. */
interface SourcePlace {
  readonly readOnly: boolean;
  readonly offsetBytes: number;
  readonly sizeLimitBytes: number | undefined;
}

function checked(options: OpenImageOptions | null | undefined) {
  const given = objectArgument<OpenImageOptions>(options);
  const owner = given.owner === undefined ? ROOT : objectArgument<Owner>(given.owner, 'owner');
  const { commitIntervalMs, cacheBytes, errors, sizeLimitBytes } = given;
  if (commitIntervalMs !== undefined) integerArgument(commitIntervalMs, 'commitIntervalMs', 1, MAX_TIMER_MS);
  if (cacheBytes !== undefined) integerArgument(cacheBytes, 'cacheBytes', 1, MAX_CACHE_BYTES);
  if (sizeLimitBytes !== undefined) integerArgument(sizeLimitBytes, 'sizeLimitBytes', 1);
  if (errors !== undefined && !ERRORS.includes(errors))
    throw argumentError('ERR_INVALID_ARG_VALUE', `The property 'options.errors' must be one of: ${ERRORS.join(', ')}`);
  const readOnly = booleanArgument(given.readOnly, 'options.readOnly');
  return {
    settings: {
      owner: {
        uid: integerArgument(owner.uid, 'owner.uid', 0, MAX_ID),
        gid: integerArgument(owner.gid, 'owner.gid', 0, MAX_ID),
      },
      umask: modeArgument(given.umask ?? UMASK, 'umask') & 0o777,
    },
    place: { readOnly, offsetBytes: integerArgument(given.offsetBytes ?? 0, 'offsetBytes'), sizeLimitBytes },
    mount: {
      readOnly,
      noRecovery: booleanArgument(given.noRecovery, 'options.noRecovery'),
      commitIntervalMs,
      cacheBytes,
      errors,
      policy: policyArgument(given.policy),
      log: tellerOf(functionArgument(given.log, 'options.log')),
    },
  };
}

function policyArgument(policy: Partial<MountPolicy> | undefined): Partial<MountPolicy> {
  const given = objectArgument<MountPolicy>(policy, 'options.policy');
  for (const [name, value] of Object.entries(given)) {
    const type = Object.hasOwn(POLICY, name) ? POLICY[name as keyof MountPolicy] : undefined;
    if (type === undefined) throw argumentError('ERR_INVALID_ARG_VALUE', `'options.policy.${name}' is not known`);
    if (type === 'boolean') booleanArgument(value, `options.policy.${name}`);
    else if (value !== Number.POSITIVE_INFINITY) integerArgument(value, `options.policy.${name}`);
  }
  return { ...given };
}

/** The engine must not see what a caller's function throws: it is thrown where nobody else is, as from a listener. */
function tellerOf(log: OpenImageOptions['log']): OpenImageOptions['log'] {
  if (log === undefined) return undefined;
  return (line) => {
    try {
      log(line);
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  };
}

function openSource(source: ImageSource, place: SourcePlace): BlockDevice {
  const { offsetBytes, sizeLimitBytes = Number.POSITIVE_INFINITY } = place;
  if (isUint8Array(source) && source.length === 0) return new MemoryDevice(new Uint8Array(0));
  if (isUint8Array(source)) return new MemoryDevice(source.subarray(offsetBytes, offsetBytes + sizeLimitBytes));
  if (isAnyArrayBuffer(source)) return openSource(new Uint8Array(source), place);
  if (typeof source !== 'string' && !(source instanceof URL)) {
    const device = source instanceof FileDevice ? source : new GuardedDevice(source);
    if (offsetBytes === 0 && place.sizeLimitBytes === undefined) return device;
    throw argumentError('ERR_INVALID_ARG_VALUE', 'offsetBytes and sizeLimitBytes are for files and bytes');
  }
  const path = typeof source === 'string' ? source : fileURLToPath(source);
  if (path.includes('\0'))
    throw argumentError('ERR_INVALID_ARG_VALUE', "The argument 'source' must be without null bytes");
  try {
    return FileDevice.open(path, place);
  } catch (error) {
    throw explained(error, 'open', path);
  }
}

function closeQuietly(device: BlockDevice): void {
  try {
    device.close();
  } catch {}
}

const nameOf = (source: ImageSource) =>
  typeof source === 'string' || source instanceof URL ? String(source) : undefined;
