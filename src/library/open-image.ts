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
  readonly umask?: number;
  readonly commitIntervalMs?: number;
  readonly cacheBytes?: number;
  /** What a corruption leads to; default: what the superblock says. Nothing ends the program: panic is remount-ro. */
  readonly errors?: ErrorsPolicy;
  readonly policy?: Partial<MountPolicy>;
  /** One line for each thing worth telling. */
  readonly log?: (line: string) => void;
}

/** A path or file URL; the bytes of an image, which are changed in place; or a device. */
export type ImageSource = string | URL | Uint8Array | BlockDevice;

const ROOT: Owner = { uid: 0, gid: 0 };
const UMASK = 0o022;

/**
 * Opens an image: replays its log, finishes its orphans, and is ready. A file is locked until {@link Image.close}. Rejects
 * with ImageError (ENOENT, EACCES, EBUSY, EUCLEAN...) or UnsupportedError, which names the features.
 */
export async function openImage(source: ImageSource, options: OpenImageOptions = {}): Promise<Image> {
  const { owner = ROOT, umask = UMASK, ...rest } = options;
  const device = openSource(source, options);
  try {
    return new Image(Filesystem.open(device, { ...rest, readOnly: options.readOnly || device.readOnly }), {
      owner,
      umask,
    });
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
  if (typeof source !== 'string' && !(source instanceof URL)) return source;
  const path = typeof source === 'string' ? source : fileURLToPath(source);
  try {
    return FileDevice.open(path, { readOnly, offsetBytes, sizeLimitBytes });
  } catch (error) {
    throw explained(error, 'open', path);
  }
}

const nameOf = (source: ImageSource) =>
  typeof source === 'string' || source instanceof URL ? String(source) : undefined;
