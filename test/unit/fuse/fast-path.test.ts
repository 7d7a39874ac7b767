/** What native code wrote to unwritten blocks becomes part of its file before anyone looks, or somebody is told. */
import assert from 'node:assert/strict';
import { FsError } from '../../../src/errors.js';
import type { Engine } from '../../../src/fuse/engine.js';
import { FastPath } from '../../../src/fuse/fast-path.js';
import { LostWrites } from '../../../src/fuse/lost-writes.js';
import type { Native } from '../../../src/native.js';

/** A fast path whose native code reports what is put into `written`, and an engine that notes what it converts. */
function setUp(fail: FsError | null = null) {
  const written: number[] = [];
  const converted: unknown[] = [];
  const lost: unknown[] = [];
  let counter: Float64Array = new Float64Array(1);
  const native = {
    fastPathStart(_fuseFd: number, _deviceFd: number, _blockSize: number, unconverted: Float64Array) {
      counter = unconverted;
    },
    fastPathWritten() {
      counter[0] = 0;
      return new Float64Array(written.splice(0));
    },
    fastWrites: () => 0,
    fastPathStop() {},
    mappingForget() {},
  } as unknown as Native;
  const fs = {
    beforeDataMoves() {},
    countWritesBeside() {},
    iomapConvert(ino: number, ranges: unknown) {
      if (fail !== null) throw fail;
      converted.push([ino, ranges]);
    },
  } as unknown as Engine;
  const path = new FastPath({
    native,
    fuseFd: 3,
    deviceFd: 4,
    base: 0,
    blockSize: 4096,
    fs,
    lost: (ino, error) => lost.push([ino, error]),
  });
  const write = (ino: number, offset: number, length: number) => {
    written.push(ino, offset, length);
    counter[0]++;
  };
  return { path, write, converted, lost };
}

describe('what native code wrote to unwritten blocks', () => {
  it('is converted by file, in order, neighbours together', () => {
    const { path, write, converted } = setUp();
    write(12, 8192, 4096);
    write(13, 0, 4096);
    write(12, 0, 4096);
    write(12, 4096, 4096);
    write(12, 65536, 8192);
    path.settle();
    assert.deepEqual(converted, [
      [
        12,
        [
          [0, 12288],
          [65536, 8192],
        ],
      ],
      [13, [[0, 4096]]],
    ]);
    path.settle();
    assert.equal(converted.length, 2);
  });

  it('is converted soon without being asked for, and at once when it is much', async () => {
    const { path, write, converted } = setUp();
    write(12, 0, 4096);
    path.served();
    assert.equal(converted.length, 0);
    await new Promise((done) => setTimeout(done, 50));
    assert.equal(converted.length, 1);
    for (let i = 0; i < 256; i++) write(12, i * 8192, 4096);
    path.served();
    assert.equal(converted.length, 2);
  });

  it('is converted before the end', () => {
    const { path, write, converted } = setUp();
    write(12, 0, 4096);
    path.stop();
    assert.equal(converted.length, 1);
  });

  it('is told to the next fsync, once, when it cannot be', () => {
    const { path, write, lost } = setUp(new FsError('ENOSPC', 'no room for the tree'));
    write(12, 0, 4096);
    path.settle();
    assert.deepEqual(lost, [[12, new FsError('ENOSPC', 'no room for the tree')]]);
    const told = new LostWrites();
    told.noteAnswered(12, new FsError('ENOSPC'));
    assert.equal(told.takeUnsynced(13), undefined);
    assert.equal(told.takeUnsynced(12)?.code, 'ENOSPC');
    assert.equal(told.takeUnsynced(12), undefined);
    told.noteAnswered(14, new FsError('EIO'));
    assert.equal(told.takeUnsynced(null)?.code, 'EIO');
    assert.equal(told.takeUnsynced(null), undefined);
  });
});
