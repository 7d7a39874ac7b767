import assert from 'node:assert/strict';
import {
  crashPoints,
  crashPositions,
  keptRanges,
  nameOf,
  pointNamed,
  QUICK,
  Random,
  unflushedAt,
} from '../../../src/crash/crash-points.js';
import { History } from '../../../src/crash/history.js';
import { StateImage } from '../../../src/crash/state-image.js';
import type { LogEntry, LoggedWrite } from '../../../src/crash/write-log.js';

const write = (offsetBytes: number, length: number, fill: number): LoggedWrite => ({
  kind: 'write',
  offsetBytes,
  bytes: new Uint8Array(length).fill(fill),
  origin: 'data',
});
/** The third write came after the flush was issued, and before it ended. */
const log: LogEntry[] = [
  write(0, 512, 1),
  write(512, 1024, 2),
  write(2048, 512, 3),
  { kind: 'flush', covers: 2 },
  write(0, 512, 4),
];

describe('crash points', () => {
  it('may lose what was written while a flush was under way', () => {
    assert.deepEqual(unflushedAt(log, 3), [0, 1, 2]);
    assert.deepEqual(unflushedAt(log, 5), [2, 4]);
  });

  it('are every subset of a few unflushed writes, each once', () => {
    const names = [...crashPoints(log, 5, { exhaustiveWrites: 3, randomSubsets: 0, tornStates: 0 }, new Random(1))].map(
      (point) => nameOf(point, unflushedAt(log, 5)),
    );
    assert.deepEqual(names.sort(), ['5:2', '5:4', '5:all', '5:none']);
  });

  it('have names from which they are made again, torn writes too', () => {
    for (const position of crashPositions(log)) {
      for (const point of crashPoints(log, position, { ...QUICK, tornStates: 20 }, new Random(7))) {
        const name = nameOf(point, unflushedAt(log, position));
        assert.equal(nameOf(pointNamed(log, name), unflushedAt(log, position)), name);
      }
    }
    assert.throws(() => pointNamed(log, '9:all'), /no crash point/);
  });

  it('keep single sectors of a torn write', () => {
    const ranges: [number, number][] = [];
    keptRanges(log[1] as LoggedWrite, Uint32Array.of(0b10), (from, to) => ranges.push([from, to]));
    assert.deepEqual(ranges, [[512, 1024]]);
  });

  it('are made on an image and taken back', () => {
    const image = new StateImage(new Uint8Array(4096));
    const history = new History(image, log);
    const level = image.level;
    history.apply(pointNamed(log, '5:2'));
    assert.deepEqual(
      [0, 512, 2048].map((at) => image.bytes[at]),
      [1, 2, 3],
    );
    image.undoTo(level);
    assert.ok(image.bytes.every((byte) => byte === 0));
  });
});
