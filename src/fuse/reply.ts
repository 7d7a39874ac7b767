/** Builds replies and sends them. The payload is built at {@link PAYLOAD} of `bytes` and sent before the next begins. */
import { ownView, type WriteView } from '../codec/view.js';
import { Errno } from '../errors.js';
import type { Native } from '../native.js';
import { OUT_HEADER, WRITE_OUT } from './abi.js';
import type { Request } from './request.js';

export const PAYLOAD = OUT_HEADER.SIZE;

export class ReplyWriter {
  readonly bytes: Uint8Array;
  readonly view: WriteView;
  private readonly native: Native;
  private readonly fd: number;
  private open = true;
  /** Messages that wait; null: they are sent at once. */
  private held: Uint8Array[] | null = null;
  /** Replies without a payload may be sent while another is being built. */
  private readonly short = new Uint8Array(PAYLOAD + WRITE_OUT.SIZE);
  private readonly shortView = ownView(this.short);

  constructor(native: Native, fd: number, payloadBytes: number) {
    this.native = native;
    this.fd = fd;
    this.bytes = new Uint8Array(PAYLOAD + payloadBytes);
    this.view = ownView(this.bytes);
  }

  /** The connection is gone: late answers go nowhere. */
  close(): void {
    this.open = false;
  }

  /** Sends the payload built in `bytes`. False: nobody waits for it any more. */
  payload(request: Request, payloadBytes: number): boolean {
    this.header(this.view, request, PAYLOAD + payloadBytes, 0);
    if (this.held !== null) {
      this.held.push(this.bytes.slice(0, PAYLOAD + payloadBytes));
      return true;
    }
    if (!this.open) return false;
    return this.sent(this.native.fuseWrite(this.fd, this.bytes, 0, PAYLOAD + payloadBytes));
  }

  /** Sends bytes that lie elsewhere. */
  data(request: Request, data: Uint8Array): boolean {
    this.header(this.shortView, request, PAYLOAD + data.length, 0);
    if (!this.open) return false;
    return this.sent(this.native.fuseWritev(this.fd, this.short, 0, PAYLOAD, data, 0, data.length));
  }

  /** Success, or an errno, with nothing else to say. */
  status(request: Request, errno: number): boolean {
    this.header(this.shortView, request, PAYLOAD, errno);
    return this.sendShort(PAYLOAD);
  }

  written(request: Request, byteCount: number): boolean {
    this.header(this.shortView, request, PAYLOAD + WRITE_OUT.SIZE, 0);
    WRITE_OUT.size.set(this.shortView, PAYLOAD, byteCount);
    WRITE_OUT.padding.set(this.shortView, PAYLOAD, 0);
    return this.sendShort(PAYLOAD + WRITE_OUT.SIZE);
  }

  /** What is answered from now on waits; {@link data} does not, being for reads. */
  hold(): void {
    this.held = [];
  }

  takeHeld(): Uint8Array[] {
    const { held } = this;
    this.held = null;
    return held ?? [];
  }

  sendHeld(messages: readonly Uint8Array[]): void {
    if (!this.open) return;
    for (const message of messages) this.sent(this.native.fuseWrite(this.fd, message, 0, message.length));
  }

  private sendShort(length: number): boolean {
    if (this.held !== null) {
      this.held.push(this.short.slice(0, length));
      return true;
    }
    return this.open && this.sent(this.native.fuseWrite(this.fd, this.short, 0, length));
  }

  private header(view: WriteView, request: Request, length: number, errno: number): void {
    OUT_HEADER.len.set(view, 0, length);
    OUT_HEADER.error.set(view, 0, -errno);
    OUT_HEADER.unique.set(view, 0, request.unique);
  }

  /** ENOENT: interrupted meanwhile. ENODEV: unmounted. Anything else means that a reply was malformed. */
  private sent(result: number): boolean {
    if (result >= 0) return true;
    if (result === -Errno.ENOENT || result === -Errno.ENODEV) return false;
    throw new Error(`the kernel did not accept a reply: errno ${-result}`);
  }
}
