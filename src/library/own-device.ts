/** Devices that callers bring: what they throw becomes an errno before the engine sees it, which knows no other errors of storage. */
import type { BlockDevice, IoJob, IoStep } from '../block/device.js';
import { runInline } from '../block/memory-device.js';
import { Errno, type ErrnoName, FsError } from '../errors.js';
import { argumentError } from './arguments.js';

/**
 * What an image is read from and written to. Offsets and lengths are bytes, in units of whatever the filesystem likes. Each
 * method is done when it returns, and throws when it cannot: an error whose `code` is an errno is told as it is, any other as EIO.
 */
export interface OwnDevice {
  readonly sizeBytes: number;
  readonly readOnly?: boolean;
  /** Fills `into`, all of it. */
  read(offsetBytes: number, into: Uint8Array): void;
  write(offsetBytes: number, from: Uint8Array): void;
  /** What was written before survives a loss of power when this returns. */
  flush(): void;
  /** What is there no longer matters. */
  discard?(offsetBytes: number, lengthBytes: number): void;
  close?(): void;
}

const METHODS = ['read', 'write', 'flush'] as const;
const OPTIONAL_METHODS = ['discard', 'close'] as const;

export class GuardedDevice implements BlockDevice {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly discard: BlockDevice['discard'];
  private readonly own: OwnDevice;

  /** Throws TypeError for what is not a device. */
  constructor(own: OwnDevice) {
    if (!isOwnDevice(own)) {
      throw argumentError(
        'ERR_INVALID_ARG_TYPE',
        `The "source" argument must be a path, the bytes of an image, or a device with sizeBytes, ${METHODS.join(', ')}`,
      );
    }
    this.own = own;
    this.sizeBytes = own.sizeBytes;
    this.readOnly = own.readOnly === true;
    if (own.discard !== undefined) this.discard = (at, length) => guarded('discard', () => own.discard?.(at, length));
  }

  read(offsetBytes: number, into: Uint8Array): void {
    guarded('read', () => this.own.read(offsetBytes, into));
  }

  write(offsetBytes: number, from: Uint8Array): void {
    guarded('write', () => this.own.write(offsetBytes, from));
  }

  flush(): void {
    guarded('flush', () => this.own.flush());
  }

  submit(steps: readonly IoStep[], whenDone: (error: FsError | null) => void): IoJob {
    return runInline(this, steps, whenDone);
  }

  close(): void {
    guarded('close', () => this.own.close?.());
  }
}

function isOwnDevice(own: OwnDevice): boolean {
  if (typeof own !== 'object' || own === null || !Number.isSafeInteger(own.sizeBytes) || own.sizeBytes < 0)
    return false;
  const mayBe = (name: (typeof OPTIONAL_METHODS)[number]) => own[name] === undefined || typeof own[name] === 'function';
  return METHODS.every((name) => typeof own[name] === 'function') && OPTIONAL_METHODS.every(mayBe);
}

function guarded(method: string, work: () => unknown): void {
  let result: unknown;
  try {
    result = work();
  } catch (error) {
    throw errorOf(method, error);
  }
  // It would be awaited by nobody.
  if (result instanceof Promise) {
    result.catch(() => {});
    throw new FsError('EIO', `the device's ${method}() returned a promise: it has to be done when it returns`);
  }
}

function errorOf(method: string, error: unknown): FsError {
  if (error instanceof FsError) return error;
  const code: unknown = error instanceof Error && 'code' in error ? error.code : undefined;
  const name = typeof code === 'string' && Object.hasOwn(Errno, code) ? (code as ErrnoName) : 'EIO';
  const told = new FsError(name, `the device's ${method}(): ${error instanceof Error ? error.message : String(error)}`);
  told.cause = error;
  return told;
}
