/** The filesystem that a rehearsal plays on: in memory, empty, of the shape that most real ones have. */
import type { BlockDevice } from '../block/device.js';
import { runInline } from '../block/memory-device.js';
import { OverlayDevice } from '../block/overlay-device.js';

const SIZE_BYTES = 4 * 2 ** 30;
const BLOCK_BYTES = 4096;

/** Zeroes. Nothing is written here: an overlay is on top. */
const blank: BlockDevice = {
  sizeBytes: SIZE_BYTES,
  readOnly: true,
  read: (_offsetBytes, into) => {
    into.fill(0);
  },
  write: () => {
    throw new Error('the blank device was written to');
  },
  flush: () => {},
  submit: (steps, whenDone) => runInline(blank, steps, whenDone),
  close: () => {},
};

/**
 * A fresh one each time. `records` is what scripts/build-rehearsal-stage.mjs writes: blocks of 4 KiB, each after its number
 * (32 bits, little-endian); the other blocks of its 4 GiB are zeroes.
 */
export function openStage(records: Buffer): OverlayDevice {
  const device = new OverlayDevice(blank);
  for (let at = 0; at + 4 + BLOCK_BYTES <= records.length; at += 4 + BLOCK_BYTES) {
    device.write(records.readUInt32LE(at) * BLOCK_BYTES, records.subarray(at + 4, at + 4 + BLOCK_BYTES));
  }
  return device;
}
