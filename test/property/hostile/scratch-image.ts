/** An image that is damaged and written to thousands of times a minute: only what changed is put back. */
import type { SoundImage } from './sound-image.js';

const CHUNK_BYTES = 1024;

export class ScratchImage implements SoundImage {
  readonly bytes: Uint8Array;
  readonly journalAt: number | undefined;
  private readonly pristine: Uint8Array;
  private readonly changed = new Set<number>();

  constructor(sound: SoundImage) {
    this.pristine = sound.bytes;
    this.bytes = sound.bytes.slice();
    this.journalAt = sound.journalAt;
  }

  /** These bytes, to be changed. */
  writable(at: number, length: number): Uint8Array {
    this.touch(at, length);
    return this.bytes.subarray(at, at + length);
  }

  /** Call before or after any other change of {@link bytes}. */
  touch(at: number, length: number): void {
    const end = Math.min(at + length, this.bytes.length);
    for (let chunk = Math.floor(at / CHUNK_BYTES); chunk * CHUNK_BYTES < end; chunk++) this.changed.add(chunk);
  }

  restore(): void {
    for (const chunk of this.changed) {
      const at = chunk * CHUNK_BYTES;
      this.bytes.set(this.pristine.subarray(at, at + CHUNK_BYTES), at);
    }
    this.changed.clear();
  }
}
