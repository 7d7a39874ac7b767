/** Requests read from /dev/fuse, into a few large buffers that are used again and again. */
import type { Native } from '../native.js';
import { REQUEST_BYTES } from './init.js';
import { Request } from './request.js';
import { DRAINED, FULL, type RequestSource } from './request-source.js';

/** Request buffers, 512 KiB each, made when first needed: so many large writes can be under way. */
const MAX_SLOTS = 16;
/** Only the data of writes that are longer still waits aside (kLeastSpliced). */
const NEVER_ASIDE = 64 << 10;

export class DeviceRequests implements RequestSource {
  private readonly native: Native;
  private readonly fuseFd: number;
  private readonly log: (line: string) => void;
  private readonly slots: Request[] = [];
  private slotsMade = 0;

  constructor(native: Native, fuseFd: number, log: (line: string) => void) {
    this.native = native;
    this.fuseFd = fuseFd;
    this.log = log;
  }

  next(): Request | number {
    for (;;) {
      const request = this.takeSlot();
      if (request === null) return FULL;
      const length = this.native.fuseRead(this.fuseFd, request.bytes);
      if (length > 0 && request.decode(length)) {
        request.payloadAside = length > NEVER_ASIDE && this.native.payloadAside(request.bytes);
        return request;
      }
      this.slots.push(request);
      if (length <= 0) return length === 0 ? DRAINED : length;
      this.log(`a request of ${length} bytes makes no sense`);
    }
  }

  private takeSlot(): Request | null {
    const free = this.slots.pop();
    if (free !== undefined) return free;
    if (this.slotsMade === MAX_SLOTS) return null;
    this.slotsMade++;
    return new Request(new Uint8Array(REQUEST_BYTES), true);
  }

  release(request: Request): void {
    this.slots.push(request);
  }

  /** All buffers but one go, with the pipes beside them. */
  relieveMemory(): void {
    const unused = this.slots.splice(1);
    for (const { bytes } of unused) this.native.forgetPayload(bytes);
    this.slotsMade -= unused.length;
  }
}
