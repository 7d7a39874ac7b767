/**
 * Requests that come over io_uring (decision 14): the buffer a request is in takes its answer, and is the kernel's again from
 * then on. So a request keeps its buffer for as long as it waits, and native code sees to it that there are others.
 */
import { Errno } from '../errors.js';
import { errorOf, type Native } from '../native.js';
import { IN_HEADER } from './abi.js';
import { MAX_WRITE } from './init.js';
import { Request } from './request.js';
import { DRAINED, type RequestSource, SERVED } from './request-source.js';

const NOT_OFFERED =
  'FUSE over io_uring takes Linux 6.14 or newer, and as root: echo Y > /sys/module/fuse/parameters/enable_uring';

export class RingRequests implements RequestSource {
  /** Becomes readable when there is a request. */
  readonly fd: number;
  private readonly native: Native;
  private readonly fuseFd: number;
  private readonly requests: Request[] = [];

  private constructor(native: Native, fuseFd: number, fd: number) {
    this.native = native;
    this.fuseFd = fuseFd;
    this.fd = fd;
  }

  /** An error that says why there is no ring: the kernel does not offer one, or this process may not have it. */
  static open(native: Native, fuseFd: number, offered: boolean): RingRequests | Error {
    if (!offered) return new Error(NOT_OFFERED);
    const fd = native.ringOpen(fuseFd, MAX_WRITE);
    return fd < 0 ? errorOf(fd, 'io_uring') : new RingRequests(native, fuseFd, fd);
  }

  /**
   * After INIT has been answered: the kernel uses the ring from now on. False: it refuses, and goes on without. Throws FsError: the
   * kernel waits for a ring that it does not get.
   */
  begin(): boolean {
    const result = this.native.ringRegister(this.fuseFd);
    if (result < 0) throw errorOf(result, 'FUSE over io_uring cannot begin, mount without io_uring');
    return result === 0;
  }

  next(): Request | number {
    const slot = this.native.ringNext(this.fuseFd);
    if (slot < 0) return slot === -Errno.EINTR ? SERVED : DRAINED;
    let request = this.requests[slot];
    if (request === undefined) {
      request = new Request(this.native.ringBytes(this.fuseFd, slot));
      this.requests[slot] = request;
    }
    if (!request.decode(IN_HEADER.len.get(request.view, 0))) throw new Error('a request without a header');
    return request;
  }

  release(): void {}

  relieveMemory(): void {
    this.native.ringRelieve(this.fuseFd);
  }

  close(): void {
    this.native.ringClose(this.fuseFd);
  }
}
