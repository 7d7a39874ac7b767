/** A device in an image file or a block device node, through the native addon. */
import { Errno, FsError } from '../errors.js';
import { awaitJob, errorOf, type Native, requireNative, whenJobDone } from '../native.js';
import type { BlockDevice, IoJob, IoStep } from './device.js';

export interface FileDeviceOptions {
  readonly readOnly?: boolean;
  /** Where in the file the filesystem begins (mount -o offset=). Default 0. */
  readonly offsetBytes?: number;
  /** How much of the file belongs to it (mount -o sizelimit=). Default: up to the end. */
  readonly sizeLimitBytes?: number;
  /** Take no lock: the caller knows that nobody else has the image open. */
  readonly noLock?: boolean;
}

export class FileDevice implements BlockDevice {
  readonly path: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** For the data path, which does its I/O beside this class. */
  readonly fd: number;
  /** Byte of the file that is byte 0 of the device. */
  readonly baseOffset: number;
  readonly isBlockDevice: boolean;
  private readonly native: Native;
  private open = true;
  private discards = true;

  private constructor(native: Native, path: string, fd: number, options: FileDeviceOptions) {
    this.native = native;
    this.path = path;
    this.fd = fd;
    this.readOnly = options.readOnly ?? false;
    this.baseOffset = options.offsetBytes ?? 0;
    this.isBlockDevice = native.isBlockDevice(fd) === 1;
    const whole = native.sizeOf(fd);
    if (whole < 0) throw errorOf(whole, `size of ${path}`);
    if (this.baseOffset > whole)
      throw new FsError(
        'EINVAL',
        `offset ${this.baseOffset} is past the end of ${path}, which has ${whole} bytes: give a smaller one`,
      );
    this.sizeBytes = Math.min(whole - this.baseOffset, options.sizeLimitBytes ?? Number.POSITIVE_INFINITY);
  }

  /**
   * Opens and locks: shared for a reader, exclusive for a writer. Throws FsError: ENOENT, EACCES, EROFS, EBUSY when
   * another holds the lock or the block device is in use.
   */
  static open(path: string, options: FileDeviceOptions = {}): FileDevice {
    const native = requireNative();
    const fd = native.openFile(path, options.readOnly ?? false);
    if (fd < 0) throw errorOf(fd, path);
    try {
      if (options.noLock !== true) {
        const locked = native.lockFile(fd, options.readOnly !== true);
        if (locked === -11) throw new FsError('EBUSY', `${path} is in use by another process`);
        if (locked < 0) throw errorOf(locked, `lock ${path}`);
      }
      return new FileDevice(native, path, fd, options);
    } catch (error) {
      native.closeFile(fd);
      throw error;
    }
  }

  read(offsetBytes: number, into: Uint8Array): void {
    this.check(offsetBytes, into.length);
    const result = this.native.pread(this.fd, into, 0, into.length, this.baseOffset + offsetBytes);
    if (result < 0) throw this.failed(result, 'read', offsetBytes);
  }

  write(offsetBytes: number, from: Uint8Array): void {
    this.check(offsetBytes, from.length);
    this.checkWritable();
    const result = this.native.pwrite(this.fd, from, 0, from.length, this.baseOffset + offsetBytes);
    if (result < 0) throw this.failed(result, 'write', offsetBytes);
  }

  flush(): void {
    if (this.readOnly) return;
    const result = this.native.fdatasync(this.fd);
    if (result < 0) throw this.failed(result, 'flush', 0);
  }

  willRead(offsetBytes: number, lengthBytes: number): void {
    this.native.adviseRead(this.fd, this.baseOffset + offsetBytes, lengthBytes);
  }

  /** Punches a hole into an image file. A device or a filesystem that cannot is asked in vain, and only once. */
  discard(offsetBytes: number, lengthBytes: number): void {
    if (!this.discards) return;
    this.check(offsetBytes, lengthBytes);
    this.checkWritable();
    const result = this.native.discard(this.fd, this.baseOffset + offsetBytes, lengthBytes);
    if (result === -Errno.EOPNOTSUPP) this.discards = false;
    // Its page cache holds something of the range that is being written: it stays as it is.
    else if (result === -Errno.EBUSY) return;
    else if (result < 0) throw this.failed(result, 'discard', offsetBytes);
  }

  submit(steps: readonly IoStep[], whenDone: (error: FsError | null) => void): IoJob {
    this.checkWritable();
    const positions = new Float64Array(steps.length);
    const buffers: (Uint8Array | null)[] = new Array(steps.length);
    for (let i = 0; i < steps.length; i++) {
      const step = steps[i];
      if (step.kind === 'flush') {
        positions[i] = -1;
        buffers[i] = null;
      } else {
        this.check(step.offsetBytes, step.bytes.length);
        positions[i] = this.baseOffset + step.offsetBytes;
        buffers[i] = step.bytes;
      }
    }
    const { native } = this;
    const id = native.submitSteps(this.fd, positions, buffers);
    whenJobDone(id, (result) => whenDone(result < 0 ? this.failed(result, 'background write', 0) : null));
    return { wait: () => awaitJob(native, id) };
  }

  cancel(): void {
    if (this.open) this.native.cancelJobs(this.fd);
  }

  /** Lets the kernel's fuseblk claim the block device; this device goes on working. */
  releaseClaim(): void {
    if (!this.isBlockDevice) return;
    const result = this.native.releaseClaim(this.fd);
    if (result < 0) throw errorOf(result, `reopen ${this.path}`);
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    this.native.closeFile(this.fd);
  }

  private check(offsetBytes: number, lengthBytes: number): void {
    if (!this.open) throw new FsError('EIO', `${this.path} has been closed`);
    if (!(offsetBytes >= 0 && offsetBytes + lengthBytes <= this.sizeBytes)) {
      throw new FsError(
        'EIO',
        `bytes ${offsetBytes}+${lengthBytes} lie outside ${this.path} (${this.sizeBytes} bytes)`,
      );
    }
  }

  private checkWritable(): void {
    if (this.readOnly) throw new FsError('EROFS', `${this.path} was opened read-only`);
  }

  private failed(result: number, what: string, offsetBytes: number): FsError {
    return errorOf(result, `${what} at byte ${offsetBytes} of ${this.path}`);
  }
}
