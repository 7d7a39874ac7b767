/**
 * Writes go to a side file, the device below stays as it is (mount -o overlay=FILE). The side file is sparse: a header, a
 * bitmap of the chunks that it holds, then each chunk at its own place.
 *
 * Crash: a chunk counts once its bit is on the disk, and bits are written only after the chunks they stand for have been
 * flushed. What no flush has covered may be lost, as on any disk, and never turns into something else.
 */
import { ownView, readView } from '../codec/view.js';
import { CorruptionError, type FsError } from '../errors.js';
import type { BlockDevice, IoJob, IoStep } from './device.js';
import type { FileDevice } from './file-device.js';
import { runInline } from './memory-device.js';

const MAGIC = 'ext4d overlay 1\n';
const HEADER_BYTES = 4096;
const CHUNK_BYTES = 4096;
/** Header: the magic text, then the size of the device below and an identity of it. */
const SIZE_AT = 16;
const IDENTITY_AT = 24;
const IDENTITY_BYTES = 16;

export class SideFileDevice implements BlockDevice {
  readonly sizeBytes: number;
  readonly readOnly = false;
  private readonly below: BlockDevice;
  private readonly side: FileDevice;
  private readonly bitmap: Uint8Array;
  private readonly dataAt: number;
  /** Bytes of the bitmap that the file does not have yet. */
  private dirtyFrom = Number.POSITIVE_INFINITY;
  private dirtyTo = 0;

  private constructor(below: BlockDevice, side: FileDevice, bitmap: Uint8Array) {
    this.below = below;
    this.side = side;
    this.sizeBytes = below.sizeBytes;
    this.bitmap = bitmap;
    this.dataAt = dataOffset(below.sizeBytes);
  }

  /** Bytes that a side file for a device of `sizeBytes` must have. */
  static fileBytes(sizeBytes: number): number {
    return dataOffset(sizeBytes) + Math.ceil(sizeBytes / CHUNK_BYTES) * CHUNK_BYTES;
  }

  /**
   * `side` is as long as {@link fileBytes} says, empty or used before for the same `below`, of which `identity` (16
   * bytes) is the proof. Throws CorruptionError if it belongs to something else.
   */
  static open(below: BlockDevice, side: FileDevice, identity: Uint8Array): SideFileDevice {
    const header = new Uint8Array(HEADER_BYTES);
    side.read(0, header);
    const view = ownView(header);
    const bitmap = new Uint8Array(bitmapBytes(below.sizeBytes));
    if (header.every((byte) => byte === 0)) {
      header.set(Buffer.from(MAGIC, 'latin1'));
      view.setUint32(SIZE_AT, below.sizeBytes >>> 0, true);
      view.setUint32(SIZE_AT + 4, Math.floor(below.sizeBytes / 0x1_0000_0000), true);
      header.set(identity.subarray(0, IDENTITY_BYTES), IDENTITY_AT);
      side.write(0, header);
      side.flush();
    } else {
      const bad = (finding: string) => new CorruptionError('overlay file', side.path, finding);
      if (Buffer.from(header.subarray(0, MAGIC.length)).toString('latin1') !== MAGIC)
        throw bad('it is no overlay file');
      const size = readView(header).getUint32(SIZE_AT, true) + readView(header).getUint32(SIZE_AT + 4, true) * 2 ** 32;
      const known = header.subarray(IDENTITY_AT, IDENTITY_AT + IDENTITY_BYTES);
      if (size !== below.sizeBytes || Buffer.compare(known, identity.subarray(0, IDENTITY_BYTES)) !== 0)
        throw bad('it belongs to another image');
      side.read(HEADER_BYTES, bitmap);
    }
    return new SideFileDevice(below, side, bitmap);
  }

  read(offsetBytes: number, into: Uint8Array): void {
    this.eachRun(offsetBytes, into.length, (at, length, here) => {
      const piece = into.subarray(at - offsetBytes, at - offsetBytes + length);
      if (here) this.side.read(this.dataAt + at, piece);
      else this.below.read(at, piece);
    });
  }

  write(offsetBytes: number, from: Uint8Array): void {
    const end = offsetBytes + from.length;
    // A chunk that is written in part for the first time brings the rest of it along.
    for (const edge of [offsetBytes, end]) {
      const chunk = Math.floor(edge / CHUNK_BYTES);
      if (edge % CHUNK_BYTES !== 0 && edge > 0 && !this.holds(chunk)) this.copyUp(chunk);
    }
    this.side.write(this.dataAt + offsetBytes, from);
    for (let chunk = Math.floor(offsetBytes / CHUNK_BYTES); chunk * CHUNK_BYTES < end; chunk++) this.mark(chunk);
  }

  flush(): void {
    this.side.flush();
    if (this.dirtyTo === 0) return;
    this.side.write(HEADER_BYTES + this.dirtyFrom, this.bitmap.subarray(this.dirtyFrom, this.dirtyTo));
    this.side.flush();
    this.dirtyFrom = Number.POSITIVE_INFINITY;
    this.dirtyTo = 0;
  }

  submit(steps: readonly IoStep[], whenDone: (error: FsError | null) => void): IoJob {
    return runInline(this, steps, whenDone);
  }

  close(): void {
    this.side.close();
    this.below.close();
  }

  private holds(chunk: number): boolean {
    return (this.bitmap[chunk >>> 3] & (1 << (chunk & 7))) !== 0;
  }

  private mark(chunk: number): void {
    if (this.holds(chunk)) return;
    this.bitmap[chunk >>> 3] |= 1 << (chunk & 7);
    this.dirtyFrom = Math.min(this.dirtyFrom, chunk >>> 3);
    this.dirtyTo = Math.max(this.dirtyTo, (chunk >>> 3) + 1);
  }

  private copyUp(chunk: number): void {
    const start = chunk * CHUNK_BYTES;
    const bytes = new Uint8Array(Math.min(CHUNK_BYTES, this.sizeBytes - start));
    this.below.read(start, bytes);
    this.side.write(this.dataAt + start, bytes);
    this.mark(chunk);
  }

  /** Pieces of the range that lie all in the side file (`here`), or all below. */
  private eachRun(offset: number, length: number, visit: (at: number, length: number, here: boolean) => void): void {
    const end = offset + length;
    for (let at = offset; at < end; ) {
      let chunk = Math.floor(at / CHUNK_BYTES);
      const here = this.holds(chunk);
      do chunk++;
      while (chunk * CHUNK_BYTES < end && this.holds(chunk) === here);
      const stop = Math.min(end, chunk * CHUNK_BYTES);
      visit(at, stop - at, here);
      at = stop;
    }
  }
}

function bitmapBytes(sizeBytes: number): number {
  return Math.ceil(Math.ceil(sizeBytes / CHUNK_BYTES) / 8);
}

function dataOffset(sizeBytes: number): number {
  return Math.ceil((HEADER_BYTES + bitmapBytes(sizeBytes)) / CHUNK_BYTES) * CHUNK_BYTES;
}
