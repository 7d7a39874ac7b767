import assert from 'node:assert/strict';
import fc from 'fast-check';
import { MemoryDevice } from '../../../src/block/memory-device.js';
import { LogBlocks } from '../../../src/jbd2/log-blocks.js';
import { BLOCK_SIZE, LogBuilder } from '../../support/log-builder.js';

const LOG_BLOCKS = 3000;

class NotingDevice extends MemoryDevice {
  readonly sizes: number[] = [];

  override read(offsetBytes: number, into: Uint8Array): void {
    super.read(offsetBytes, into);
    this.sizes.push(into.length);
  }
}

/** A log of blocks that begin with their number, in pieces of `pieceBlocks` on the device, the pieces in reverse order. */
function log(pieceBlocks: number): { blocks: LogBlocks; device: NotingDevice } {
  const image = new Uint8Array(LOG_BLOCKS * BLOCK_SIZE);
  const piece = (i: number) => Math.floor(i / pieceBlocks) * pieceBlocks;
  const blockMap = Float64Array.from(
    { length: LOG_BLOCKS },
    (_, i) => LOG_BLOCKS - Math.min(piece(i) + pieceBlocks, LOG_BLOCKS) + (i - piece(i)),
  );
  blockMap.forEach((block, i) => {
    new DataView(image.buffer).setUint32(block * BLOCK_SIZE, i);
  });
  const device = new NotingDevice(image);
  const { superblock } = new LogBuilder({ logBlocks: LOG_BLOCKS });
  return { blocks: new LogBlocks({ device, superblock, blockMap }), device };
}

const numberIn = (block: Uint8Array) => new DataView(block.buffer, block.byteOffset).getUint32(0);

describe('blocks of a log', () => {
  it('are those asked for, in whatever order and however the log lies on the device', () => {
    const walks = fc.array(fc.tuple(fc.nat(LOG_BLOCKS - 1), fc.integer({ min: 1, max: 700 })), { maxLength: 8 });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: LOG_BLOCKS }), walks, (pieceBlocks, runs) => {
        const { blocks } = log(pieceBlocks);
        for (const [start, length] of runs)
          for (let i = start; i < Math.min(start + length, LOG_BLOCKS); i++) {
            const block = blocks.read(i);
            assert.equal(block.length, BLOCK_SIZE);
            assert.equal(numberIn(block), i);
          }
      }),
    );
  });

  it('come in reads of up to 1 MiB to who goes forward', () => {
    const { blocks, device } = log(LOG_BLOCKS);
    for (let i = 0; i < LOG_BLOCKS; i++) blocks.read(i);
    assert.equal(Math.max(...device.sizes), 1 << 20);
    assert.ok(device.sizes.length < 20, `${device.sizes.length} reads`);
  });

  it('come one by one to who does not', () => {
    const { blocks, device } = log(LOG_BLOCKS);
    for (let i = LOG_BLOCKS - 1; i >= 0; i -= 7) blocks.read(i);
    assert.equal(Math.max(...device.sizes), BLOCK_SIZE);
  });
});
