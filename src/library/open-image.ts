/** Opening an image: a file, bytes in memory, or a device of one's own. */
import { fileURLToPath } from 'node:url';
import type { BlockDevice } from '../block/device.js';
import { FileDevice } from '../block/file-device.js';
import { MemoryDevice } from '../block/memory-device.js';
import { realEnvironment } from '../ext4/environment.js';
import { type ErrorsPolicy, Filesystem } from '../ext4/filesystem.js';
import type { MountPolicy } from '../ext4/mount-policy.js';
import { MultiMountProtection } from '../ext4/multi-mount.js';
import { readGeometry } from '../ext4/open.js';
import { type LogReport, recoverLog } from '../ext4/recover.js';
import { argumentError, integerArgument, type Mode, modeArgument } from './arguments.js';
import type { Owner } from './engine-room.js';
import { Image } from './image.js';
import { explained } from './image-error.js';

export interface OpenImageOptions {
  /** A dirty log is then replayed in memory, and the image is not touched. */
  readonly readOnly?: boolean;
  /** Do not replay. A dirty log then needs `readOnly`. */
  readonly noRecovery?: boolean;
  /** Where in a file the filesystem begins, and how much of the file belongs to it. */
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
export type ImageSource = string | URL | ArrayBuffer | Uint8Array | BlockDevice;

const ROOT: Owner = { uid: 0, gid: 0 };
const UMASK = 0o022;
const MAX_ID = 0xfffffffe;
const ERRORS: readonly ErrorsPolicy[] = ['continue', 'remount-ro', 'panic'];

/**
 * Opens an image: replays its log, finishes its orphans, and is ready. A file is locked until {@link Image.close}. Rejects
 * with ImageError (ENOENT, EACCES, EBUSY, EUCLEAN...) or UnsupportedError, which names the features.
 */
export async function openImage(source: ImageSource, options: OpenImageOptions = {}): Promise<Image> {
  const { owner = ROOT, umask = UMASK, ...rest } = options;
  const settings = {
    owner: {
      uid: integerArgument(owner.uid, 'owner.uid', 0, MAX_ID),
      gid: integerArgument(owner.gid, 'owner.gid', 0, MAX_ID),
    },
    umask: modeArgument(umask, 'umask') & 0o777,
  };
  if (options.commitIntervalMs !== undefined) integerArgument(options.commitIntervalMs, 'commitIntervalMs', 1);
  if (options.cacheBytes !== undefined) integerArgument(options.cacheBytes, 'cacheBytes');
  if (options.errors !== undefined && !ERRORS.includes(options.errors))
    throw argumentError('ERR_INVALID_ARG_VALUE', `The property 'options.errors' must be one of: ${ERRORS.join(', ')}`);
  const device = openSource(source, options);
  try {
    return new Image(Filesystem.open(device, { ...rest, readOnly: options.readOnly || device.readOnly }), settings);
  } catch (error) {
    device.close();
    throw explained(error, 'open', nameOf(source));
  }
}

/** Replays the log of an image and nothing else, as `ext4d replay --log-only`. Rejects as {@link openImage}. */
export async function replayImage(source: ImageSource, options: OpenImageOptions = {}): Promise<LogReport> {
  const device = openSource(source, options);
  try {
    const geometry = readGeometry(device);
    return MultiMountProtection.during(device, geometry, realEnvironment, () => recoverLog(device, geometry));
  } catch (error) {
    throw explained(error, 'replay', nameOf(source));
  } finally {
    device.close();
  }
}

function openSource(source: ImageSource, { readOnly, offsetBytes, sizeLimitBytes }: OpenImageOptions): BlockDevice {
  if (source instanceof Uint8Array) return new MemoryDevice(source);
  if (source instanceof ArrayBuffer) return new MemoryDevice(new Uint8Array(source));
  if (typeof source !== 'string' && !(source instanceof URL)) return deviceArgument(source);
  const path = typeof source === 'string' ? source : fileURLToPath(source);
  try {
    return FileDevice.open(path, { readOnly, offsetBytes, sizeLimitBytes });
  } catch (error) {
    throw explained(error, 'open', path);
  }
}

const DEVICE_METHODS = ['read', 'write', 'flush', 'submit', 'close'] as const;

function deviceArgument(source: BlockDevice): BlockDevice {
  const isDevice =
    typeof source === 'object' && source !== null && DEVICE_METHODS.every((name) => typeof source[name] === 'function');
  if (isDevice) return source;
  throw argumentError(
    'ERR_INVALID_ARG_TYPE',
    `The "source" argument must be a path, the bytes of an image, or a device with ${DEVICE_METHODS.join(', ')}`,
  );
}

const nameOf = (source: ImageSource) =>
  typeof source === 'string' || source instanceof URL ? String(source) : undefined;
