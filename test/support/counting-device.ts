import { MemoryDevice } from '../../src/block/memory-device.js';

/** A memory device that counts what it is asked to do. */
export class CountingDevice extends MemoryDevice {
  writes = 0;
  flushes = 0;

  override write(offsetBytes: number, from: Uint8Array): void {
    super.write(offsetBytes, from);
    this.writes++;
  }

  override flush(): void {
    this.flushes++;
  }
}
