import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { OverlayDevice } from '../../../src/block/overlay-device.js';
import { rehearseWhenIdle } from '../../../src/cli/rehearse.js';
import { Filesystem } from '../../../src/ext4/filesystem.js';
import { Rehearsal } from '../../../src/fuse/rehearsal.js';
import { openStage } from '../../../src/fuse/rehearsal-stage.js';
import { loadNative } from '../../../src/native.js';
import { fsckFile, scratchDirectory, withScratch } from '../../support/mke2fs.js';
import { requireOrSkip } from '../../support/server.js';

const STAGE = fileURLToPath(new URL('../../../rehearsal.stage', import.meta.url));
const BLOCK_BYTES = 4096;

/** The blocks that are not zeroes, as a sparse file for e2fsck. */
function writeOut(device: OverlayDevice, path: string): void {
  const fd = openSync(path, 'w');
  const block = new Uint8Array(BLOCK_BYTES);
  for (const number of [...device.writtenBlocks(BLOCK_BYTES), device.sizeBytes / BLOCK_BYTES - 1]) {
    device.read(number * BLOCK_BYTES, block);
    writeSync(fd, block, 0, BLOCK_BYTES, number * BLOCK_BYTES);
  }
  closeSync(fd);
}

describe('a rehearsal', () => {
  it('does real work on its filesystems, a little at a time, to the end, and none on the one that it is for', async function () {
    requireOrSkip(this as unknown as Mocha.Context, loadNative() === null ? 'the native addon is not built' : null);
    this.timeout(60_000);
    const records = readFileSync(STAGE);
    const premiere = Filesystem.open(openStage(records));
    const atFirst = premiere.statfs();
    const rehearsal = new Rehearsal(records, premiere);
    assert.ok(rehearsal.step(5), 'it should begin');
    const { fs } = rehearsal;
    assert.ok(fs !== null);
    const before = fs.statfs();
    let slices = 0;
    while (rehearsal.step(5)) {
      slices++;
      await new Promise((next) => setImmediate(next));
    }
    assert.ok(slices > 2, 'it should take more than a moment');
    assert.notEqual(rehearsal.fs, fs, 'it should have had more than one filesystem');
    const after = fs.statfs();
    const kept = before.ffree - after.ffree;
    assert.ok(kept > 100, `it should leave files behind, it left ${kept}`);
    assert.ok(before.bfree - after.bfree > kept, 'its files should have content');
    withScratch((directory) => {
      fs.closeSync();
      const path = join(directory, 'image');
      writeOut(fs.volume.device as OverlayDevice, path);
      const { code, output } = fsckFile(path);
      assert.equal(code, 0, output);
    });
    rehearsal.end();
    assert.deepEqual(premiere.statfs(), atFirst);
    premiere.closeSync();
  });

  for (const [what, spoil] of [
    ['is empty', (records: Buffer) => records.subarray(0, 0)],
    ['is cut', (records: Buffer) => records.subarray(0, BLOCK_BYTES)],
    ['is nonsense', (records: Buffer) => Buffer.alloc(records.length, 0x5a)],
  ] as const) {
    it(`whose stage ${what} ends with a line in the log, and nothing else`, async function () {
      requireOrSkip(this as unknown as Mocha.Context, loadNative() === null ? 'the native addon is not built' : null);
      const fs = Filesystem.open(openStage(readFileSync(STAGE)));
      const directory = scratchDirectory();
      try {
        const stage = join(directory, 'stage');
        writeFileSync(stage, spoil(readFileSync(STAGE)));
        const line = await new Promise<string>((log) => {
          rehearseWhenIdle({ closing: false, idleMs: 1000, fs, log }, stage);
        });
        assert.match(line, /no rehearsal/);
      } finally {
        rmSync(directory, { recursive: true });
        fs.closeSync();
      }
    });
  }
});
