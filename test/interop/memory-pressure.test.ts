/** Memory is given back when the kernel says that it is short. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { FileDevice } from '../../src/block/file-device.js';
import { pressureFile } from '../../src/cli/server-memory.js';
import { Filesystem } from '../../src/ext4/filesystem.js';
import { EXT4_ROOT_INO } from '../../src/ext4/format/inode.js';
import { requireNative } from '../../src/native.js';
import { fsckFile, makeImageFile, scratchDirectory } from '../support/mke2fs.js';
import { requireOrSkip } from '../support/server.js';

const CRED = { uid: 0, gid: 0 };
const nameOf = (i: number) => Buffer.from(`file${i}`);

describe('pressure on memory', function () {
  this.timeout(60_000);

  it('makes the engine keep little, and lose nothing', async () => {
    const scratch = scratchDirectory();
    const image = `${scratch}/image`;
    makeImageFile(image, 64, ['-N', '20000']);
    const fs = Filesystem.open(FileDevice.open(image), { cacheBytes: 4 << 20 });
    const { cache } = fs.volume;
    for (let i = 0; i < 10_000; i++) {
      fs.create(EXT4_ROOT_INO, nameOf(i), 0o100644, CRED);
      fs.endOfOperation();
    }
    const before = cache.cachedBlocks;
    fs.relieveMemory();
    fs.volume.journal.checkpointNow();
    fs.endOfOperation();
    assert.ok(cache.cachedBlocks < before / 2, `${before} blocks before, ${cache.cachedBlocks} after`);
    for (let i = 0; i < 10_000; i += 97) assert.notEqual(fs.lookup(EXT4_ROOT_INO, nameOf(i)), 0);
    fs.closeSync();
    const { code, output } = fsckFile(image);
    assert.equal(code, 0, output);
  });

  it('is told by the kernel', async function () {
    // Memory is not to be short on the machine of a test; processors are soon.
    const file = '/proc/pressure/cpu';
    requireOrSkip(this, existsSync(file) ? null : 'this kernel has no pressure stall information');
    assert.ok(readFileSync(pressureFile(), 'utf8').startsWith('some '));
    const told = new Promise<boolean>((done) => {
      assert.equal(
        requireNative().watchPressure(file, 'some 100000 2000000', () => done(true)),
        0,
      );
      setTimeout(() => done(false), 20_000).unref();
    });
    const busy = Array.from({ length: 16 }, () => spawn('sh', ['-c', 'while :; do :; done'], { stdio: 'ignore' }));
    try {
      assert.ok(await told, 'nobody said that processors are wanted by more than there are');
    } finally {
      for (const child of busy) child.kill('SIGKILL');
    }
  });
});
