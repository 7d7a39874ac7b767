/** Where a session's requests come from: {@link DeviceRequests}, and beside it {@link RingRequests}. */
import { Errno } from '../errors.js';
import type { Request } from './request.js';

/** Why there is no request: none is waiting... */
export const DRAINED = 0;
/** ...those that were waiting have been answered by native code, others may be... */
export const SERVED = -Errno.EINTR;
/** ...all buffers hold requests that wait for something. */
export const FULL = 1;

export interface RequestSource {
  /** The next request, decoded; or {@link DRAINED}, {@link SERVED}, {@link FULL}, or the negative errno that ended the connection. */
  next(): Request | number;
  /** Nobody needs the request's buffer any more. */
  release(request: Request): void;
  /** Memory is short: what holds no request is let go. */
  relieveMemory(): void;
}
