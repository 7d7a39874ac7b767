import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Rehearsal } from '../../../src/fuse/rehearsal.js';
import { loadNative } from '../../../src/native.js';
import { fsck, makeImageFile, scratchDirectory } from '../../support/mke2fs.js';
import { requireOrSkip } from '../../support/server.js';

describe('a rehearsal', () => {
  it('does real work on its filesystem, a little at a time, to the end', async function () {
    requireOrSkip(this as unknown as Mocha.Context, loadNative() === null ? 'the native addon is not built' : null);
    this.timeout(60_000);
    const path = join(scratchDirectory(), 'image');
    try {
      makeImageFile(path, 8, ['-b', '1024', '-J', 'size=1', '-N', '4096']);
      const rehearsal = new Rehearsal(path);
      const before = rehearsal.fs.statfs();
      let slices = 0;
      while (rehearsal.step(5)) {
        slices++;
        await new Promise((next) => setImmediate(next));
      }
      assert.ok(slices > 2, 'it should take more than a moment');
      const after = rehearsal.fs.statfs();
      const kept = before.ffree - after.ffree;
      assert.ok(kept > 1000, `it should leave files behind, it left ${kept}`);
      assert.ok(before.bfree - after.bfree > kept, 'its files should have content');
      const { device } = rehearsal.fs.volume;
      const image = new Uint8Array(device.sizeBytes);
      rehearsal.fs.closeSync();
      device.read(0, image);
      const { code, output } = fsck(image);
      assert.equal(code, 0, output);
      rehearsal.end();
    } finally {
      rmSync(dirname(path), { recursive: true });
    }
  });
});
