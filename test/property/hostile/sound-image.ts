/** A sound image in memory, and where in it an external journal begins. */
import type { BlockDevice } from '../../../src/block/device.js';
import { MemoryDevice } from '../../../src/block/memory-device.js';

export interface SoundImage {
  readonly bytes: Uint8Array;
  /** Byte where the device with the journal begins, which is simply appended; undefined for a log inside. */
  readonly journalAt: number | undefined;
}

class MemoryWithJournal extends MemoryDevice implements BlockDevice {
  readonly journalAt: number | undefined;

  constructor({ bytes, journalAt }: SoundImage) {
    super(bytes);
    this.journalAt = journalAt;
  }
}

export function soundDevice(image: SoundImage): BlockDevice {
  return new MemoryWithJournal(image);
}
