import assert from 'node:assert/strict';
import { readLogWrites, writeLogWrites } from '../../../src/crash/log-writes.js';
import { applyAll, type LogEntry } from '../../../src/crash/write-log.js';
import { CorruptionError } from '../../../src/errors.js';

const image = new Uint8Array(8192).fill(9);
const history: LogEntry[] = [
  { kind: 'write', offsetBytes: 1024, bytes: new Uint8Array(1024).fill(1), origin: 'journal' },
  { kind: 'flush', covers: 1 },
  { kind: 'mark', text: 'fsync a: done', promise: true },
  { kind: 'write', offsetBytes: 100, bytes: new Uint8Array(30).fill(2), origin: 'data' },
  { kind: 'write', offsetBytes: 1000, bytes: new Uint8Array(600).fill(3), origin: 'data' },
];

describe('the dm-log-writes format', () => {
  it('gives back what was written, partial sectors widened with what was there', () => {
    const read = readLogWrites(writeLogWrites(history, image));
    assert.deepEqual(
      read.map(({ kind }) => kind),
      history.map(({ kind }) => kind),
    );
    const expected = image.slice();
    applyAll(history, expected);
    const found = image.slice();
    applyAll(read, found);
    assert.deepEqual(found, expected);
  });

  it('has the fields where drivers/md/dm-log-writes.c has them', () => {
    const bytes = writeLogWrites(history, image);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    assert.equal(view.getBigUint64(0, true), 0x6a736677736872n);
    assert.equal(view.getBigUint64(16, true), 5n, 'entries');
    assert.equal(view.getUint32(24, true), 512, 'sector size');
    assert.deepEqual(
      [0, 8, 16].map((at) => view.getBigUint64(512 + at, true)),
      [2n, 2n, 0n],
      'sector, sectors, flags',
    );
  });

  it('refuses what is no such log, or ends too early', () => {
    const bytes = writeLogWrites(history, image);
    assert.throws(() => readLogWrites(new Uint8Array(4096)), CorruptionError);
    assert.throws(() => readLogWrites(bytes.subarray(0, bytes.length - 512)), CorruptionError);
  });
});
