/** Reads come from the device below, writes stay in memory: a dirty log is replayed for a reader without touching the image. */
import type { FsError } from '../errors.js';
import type { BlockDevice, IoJob, IoStep } from './device.js';
import { runInline } from './memory-device.js';

/** Unit in which written ranges are kept; the smallest block ext4 has. */
const CHUNK_BYTES = 1024;

export class OverlayDevice implements BlockDevice {
  readonly sizeBytes: number;
  readonly readOnly = false;
  readonly journalAt: number | undefined;
  private readonly below: BlockDevice;
  private readonly chunks = new Map<number, Uint8Array>();

  constructor(below: BlockDevice) {
    this.below = below;
    this.sizeBytes = below.sizeBytes;
    this.journalAt = below.journalAt;
  }

  /** Nothing was written: the device below may be read directly. */
  get empty(): boolean {
    return this.chunks.size === 0;
  }

  /** Numbers of the blocks of `blockSize` bytes, at least 1024, in which something was written; sorted. */
  writtenBlocks(blockSize: number): number[] {
    const blocks = new Set<number>();
    for (const index of this.chunks.keys()) blocks.add(Math.floor((index * CHUNK_BYTES) / blockSize));
    return [...blocks].sort((a, b) => a - b);
  }

  read(offsetBytes: number, into: Uint8Array): void {
    this.below.read(offsetBytes, into);
    if (this.chunks.size === 0) return;
    this.eachChunk(offsetBytes, into.length, (index, inChunk, inBuffer, length) => {
      const chunk = this.chunks.get(index);
      if (chunk !== undefined) into.set(chunk.subarray(inChunk, inChunk + length), inBuffer);
    });
  }

  willRead(offsetBytes: number, lengthBytes: number): void {
    this.below.willRead?.(offsetBytes, lengthBytes);
  }

  write(offsetBytes: number, from: Uint8Array): void {
    this.eachChunk(offsetBytes, from.length, (index, inChunk, inBuffer, length) => {
      let chunk = this.chunks.get(index);
      if (chunk === undefined) {
        chunk = new Uint8Array(CHUNK_BYTES);
        this.below.read(index * CHUNK_BYTES, chunk);
        this.chunks.set(index, chunk);
      }
      chunk.set(from.subarray(inBuffer, inBuffer + length), inChunk);
    });
  }

  flush(): void {}

  submit(steps: readonly IoStep[], whenDone: (error: FsError | null) => void): IoJob {
    return runInline(this, steps, whenDone);
  }

  close(): void {
    this.below.close();
  }

  private eachChunk(
    offsetBytes: number,
    lengthBytes: number,
    visit: (index: number, inChunk: number, inBuffer: number, length: number) => void,
  ): void {
    for (let done = 0; done < lengthBytes; ) {
      const at = offsetBytes + done;
      const inChunk = at % CHUNK_BYTES;
      const length = Math.min(CHUNK_BYTES - inChunk, lengthBytes - done);
      visit(Math.floor(at / CHUNK_BYTES), inChunk, done, length);
      done += length;
    }
  }
}
