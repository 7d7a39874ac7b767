/**
 * The native addon, typed. Everything here is a thin system call, or what threads of native/src do beside JavaScript.
 *
 * Results: a length, a descriptor, a job number or 0; below 0 it is `-errno`. Wrong arguments throw RangeError or
 * TypeError: a bug in this program. All offsets, positions and lengths are in bytes.
 */
import { createRequire } from 'node:module';
import { useNativeCrc32c } from './codec/crc.js';
import { Errno, type ErrnoName, FsError } from './errors.js';
import { addonPaths } from './native-paths.js';

/** Number of work that runs off the JavaScript thread; its result comes through {@link whenJobDone}. */
export type JobId = number;

export interface Native {
  crc32c(seed: number, bytes: Uint8Array): number;

  /** Opens an image file or block device; a block device is claimed (O_EXCL). */
  openFile(path: string, readOnly: boolean): number;
  isBlockDevice(fd: number): number;
  sizeOf(fd: number): number;
  /** Of a page of memory. */
  pageBytes(): number;
  /** posix_fadvise(POSIX_FADV_WILLNEED). */
  adviseRead(fd: number, offset: number, length: number): void;
  /** Keeps the block device open but lets another, the kernel's fuseblk, claim it. */
  releaseClaim(fd: number): number;
  /** flock(2), never waiting: -EAGAIN while another holds it. */
  lockFile(fd: number, exclusive: boolean): number;
  pread(fd: number, into: Uint8Array, offset: number, length: number, position: number): number;
  pwrite(fd: number, from: Uint8Array, offset: number, length: number, position: number): number;
  fdatasync(fd: number): number;
  closeFile(fd: number): number;
  /** ioctl(2) without an argument: 0, or the negative errno. */
  control(fd: number, command: number): number;
  /** The range becomes a hole of the file, or is discarded by the block device. */
  discard(fd: number, position: number, length: number): number;

  /** Jobs submitted for it so far end with EIO at their next step. */
  cancelJobs(fd: number): void;
  /** `positions[i]` is where `buffers[i]` goes, -1 a flush; strictly in order. The buffers must not change until done. */
  submitSteps(fd: number, positions: Float64Array, buffers: readonly (Uint8Array | null)[]): JobId;
  onJobsDone(tell: () => void): void;
  /** Takes one completion, its result into `result[0]`; 0 when there is none. */
  takeJob(result: Float64Array): JobId;
  /** Blocks until the job is done; its result. */
  waitJob(id: JobId): number;

  openFuse(): number;
  /**
   * `readable` returns for how many microseconds more is worth waiting for before the event loop goes on. `aside`, for the
   * descriptor of a ring: its connection, which is not looked at while requests come over the ring; otherwise -1.
   */
  pollStart(fd: number, readable: () => number, aside: number): number;
  pollPause(fd: number, paused: boolean): number;
  pollStop(fd: number): void;
  /**
   * Length of the request read into `slot`, 0 when none is there, -ENODEV once unmounted; -EINTR when those that were there
   * have been answered and others may wait.
   */
  fuseRead(fd: number, slot: Uint8Array): number;
  /** The data of the large write in `slot` waits elsewhere: {@link writeData} finds it, {@link fetchPayload} brings it. */
  payloadAside(slot: Uint8Array): boolean;
  /** 0 or the negative errno. */
  fetchPayload(slot: Uint8Array): number;
  /** Before `slot` is given up: what waited aside for it, or could, is let go. */
  forgetPayload(slot: Uint8Array): void;
  fuseWrite(fd: number, reply: Uint8Array, offset: number, length: number): number;
  fuseWritev(
    fd: number,
    header: Uint8Array,
    headerOffset: number,
    headerLength: number,
    payload: Uint8Array,
    payloadOffset: number,
    payloadLength: number,
  ): number;

  /**
   * FUSE over io_uring, with buffers for payloads of that size. Becomes readable when there are requests. What is answered, in whatever way, goes back over the ring if its request came by it.
   */
  ringOpen(fuseFd: number, payloadBytes: number): number;
  /** After the answer to INIT. 0; an errno: the kernel refuses and goes on by /dev/fuse; a negative one: it waits for the ring. */
  ringRegister(fuseFd: number): number;
  /** The buffer that the next request is in; -EAGAIN when none is there, -EINTR as for {@link fuseRead}. */
  ringNext(fuseFd: number): number;
  /** What requests in that buffer are read from: until they are answered. */
  ringBytes(fuseFd: number, slot: number): Uint8Array;
  /** The memory of each buffer is given back with its next answer. */
  ringRelieve(fuseFd: number): void;
  /** When nothing that came over it is under way. */
  ringClose(fuseFd: number): void;

  /**
   * Reads and replies without the bytes entering JavaScript. `segments` holds `count` pairs [device position or -1 for
   * zeroes, length]. An I/O error is replied as such and returned.
   */
  readReplySync(fuseFd: number, unique: number, deviceFd: number, segments: Float64Array, count: number): number;
  readReply(fuseFd: number, unique: number, deviceFd: number, segments: Float64Array, count: number): JobId;
  /** The bytes of `from`, or those that wait aside of it, go to the segments in order; `from` must not change until done. */
  writeData(
    deviceFd: number,
    from: Uint8Array,
    offset: number,
    length: number,
    segments: Float64Array,
    count: number,
    aside: boolean,
  ): JobId;
  /** Requests of this connection for what {@link mappingLearn} told are answered inside {@link fuseRead}. */
  fastPathStart(fuseFd: number, deviceFd: number, blockSize: number, unconverted: Float64Array): void;
  /**
   * [ino, offset, length] of each range that was unwritten and has data now, since the last call. `unconverted[0]` of
   * {@link fastPathStart} says how many there are.
   */
  fastPathWritten(fuseFd: number): Float64Array;
  /** Returns when what was under way has been answered. */
  fastPathStop(fuseFd: number): void;
  /** [ino, size, may be read until this second or 0, by write-back, by callers, file offset, length, device offset, unwritten] */
  mappingLearn(fuseFd: number, mapping: Float64Array): void;
  /** Returns when nobody uses a mapping of the file (0: of any file) any more. */
  mappingForget(fuseFd: number, ino: number): void;
  /** Writes that have reached the device in this way so far. */
  fastWrites(fuseFd: number): number;
  /**
   * Calls back while `trigger` holds in a pressure file (psi), at most once a second for all files, of which there may be two; no
   * more when the file has gone, with its control group. 0, or the negative errno.
   */
  watchPressure(path: string, trigger: string, tell: () => void): number;
  /** A notification to the kernel: it may wait for requests that this process has yet to answer. */
  notify(fuseFd: number, message: Uint8Array, offset: number, length: number): JobId;

  mount(source: string, target: string, type: string, flags: number, data: string): number;
  /** As a bind mount that is no peer of its source; `attributes`: MOUNT_ATTR_*. -ENOSYS before Linux 5.12. */
  cloneMount(source: string, target: string, attributes: number): number;
  unmount(target: string, flags: number): JobId;
  /** Runs fusermount3 and receives the connection from it: [descriptor or -errno, what it said]. */
  mountWithHelper(helper: string, options: string, target: string): [number, string];

  /** Wall-clock time as the kernel stamps inodes: seconds and nanoseconds. */
  clockCoarse(into: Float64Array): void;
  /** 3 = error, 4 = warning, 5 = notice, 6 = info. */
  syslog(priority: number, line: string): void;
  detachStdio(): number;
  setsid(): number;
  /** This process writes back other processes' memory (PR_SET_IO_FLUSHER); call before anything else. Needs root. */
  setIoFlusher(): number;
}

let loaded: Native | null | undefined;
let failure = '';

/** The addon, or null where none loads: images can then be opened in memory, but nothing can be mounted. */
export function loadNative(): Native | null {
  if (loaded === undefined) {
    loaded = null;
    failure = 'it has not been built';
    for (const path of addonPaths()) {
      try {
        loaded = createRequire(import.meta.url)(path) as Native;
        break;
      } catch (error) {
        failure = error instanceof Error ? error.message.split('\n')[0] : String(error);
      }
    }
    if (loaded !== null) {
      useNativeCrc32c(loaded.crc32c);
      loaded.onJobsDone(deliverJobs);
    }
  }
  return loaded;
}

/** {@link loadNative} once more, after it has been built. */
export function reloadNative(): Native | null {
  if (loaded === null) loaded = undefined;
  return loadNative();
}

/** Why it did not load. */
export const nativeFailure = () => failure;

/** The addon; throws an Error that says how to build it. */
export function requireNative(): Native {
  const native = loadNative();
  if (native === null) throw new Error(`the native addon is missing (${failure}); build it: npm run build:native`);
  return native;
}

const waiting = new Map<JobId, (result: number) => void>();
const result = new Float64Array(1);

/** Calls back, from the event loop, when the job is done; {@link awaitJob} calls back sooner. */
export function whenJobDone(id: JobId, tell: (result: number) => void): void {
  waiting.set(id, tell);
}

/** Blocks until the job is done. Its callback has run when this returns. */
export function awaitJob(native: Native, id: JobId): void {
  const tell = waiting.get(id);
  if (tell === undefined) return;
  const value = native.waitJob(id);
  waiting.delete(id);
  tell(value);
}

function deliverJobs(): void {
  const native = loaded;
  if (!native) return;
  // One at a time: what a callback does may wait for a job whose completion is queued behind it.
  for (let id = native.takeJob(result); id !== 0; id = native.takeJob(result)) {
    const tell = waiting.get(id);
    waiting.delete(id);
    tell?.(result[0]);
  }
}

const names = new Map<number, ErrnoName>(
  Object.entries(Errno).map(([name, number]) => [number, name as ErrnoName] as const),
);

/** The error that a negative result stands for; errnos this program has no name for become EIO. */
export function errorOf(negativeErrno: number, what: string): FsError {
  const name = names.get(-negativeErrno);
  return new FsError(name ?? 'EIO', name === undefined ? `${what}: errno ${-negativeErrno}` : what);
}
