/** The counts of what the kernel holds, against a map. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { LookupCounts } from '../../../src/fuse/lookup-counts.js';

const inode = fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 2 ** 32 - 80, max: 2 ** 32 - 1 }));
const step = fc.record({
  ino: inode,
  by: fc.oneof(fc.integer({ min: 1, max: 3 }), fc.constantFrom(100, 200, 40_000)),
  up: fc.boolean(),
});

describe('the counts of what the kernel holds', () => {
  it('are those of a map, however often they rise and fall', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const counts = new LookupCounts();
        const map = new Map<number, number>();
        for (const { ino, by, up } of steps) {
          const before = map.get(ino) ?? 0;
          const after = up ? before + by : Math.max(0, before - by);
          map.set(ino, after);
          if (up) counts.add(ino, by);
          else assert.equal(counts.subtract(ino, by), after);
          for (const [known, count] of map) assert.equal(counts.get(known), count);
        }
        counts.clear();
        for (const known of map.keys()) assert.equal(counts.get(known), 0);
      }),
    );
  });

  it('take a few bytes for each of a million neighbours, and give them back', () => {
    const counts = new LookupCounts();
    const before = process.memoryUsage().arrayBuffers;
    for (let ino = 1; ino <= 1_000_000; ino++) counts.add(ino, 1);
    const bytes = process.memoryUsage().arrayBuffers - before;
    assert.ok(bytes < 2_000_000, `${bytes} bytes`);
    for (let ino = 1; ino <= 1_000_000; ino++) assert.equal(counts.subtract(ino, 1), 0);
    for (let ino = 1; ino <= 1_000_000; ino++) counts.add(ino + 2 ** 31, 1);
    assert.ok(process.memoryUsage().arrayBuffers - before < 2_100_000, 'pages are used again');
  });
});
