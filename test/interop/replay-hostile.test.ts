/** Dirty images with random damage: replay either works or says what is wrong. It never crashes, hangs or half-writes. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { MemoryDevice } from '../../src/block/memory-device.js';
import { ownView } from '../../src/codec/view.js';
import { CorruptionError, FsError, UnsupportedError } from '../../src/errors.js';
import { openLogSource } from '../../src/ext4/journal-inode.js';
import { readGeometry } from '../../src/ext4/open.js';
import { recoverLog } from '../../src/ext4/recover.js';
import { CountingDevice } from '../support/counting-device.js';
import { BLOCK_SIZE, dirtyImage } from '../support/dirty-image.js';
import { checkProperty } from '../support/property.js';

type Place = 'superblock' | 'group descriptors' | 'journal inode' | 'journal superblock' | 'log';

const damage = fc.record({
  place: fc.constantFrom<Place>('superblock', 'group descriptors', 'journal inode', 'journal superblock', 'log'),
  at: fc.nat(0xffff),
  value: fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff)),
});

for (const checksums of [true, false])
  describe(`replay of a damaged image ${checksums ? 'with' : 'without'} checksums`, function () {
    this.timeout(120_000);
    const dirty = dirtyImage(checksums);
    const geometry = readGeometry(new MemoryDevice(dirty));
    const { superblock, blockMap } = openLogSource(new MemoryDevice(dirty), geometry);
    const logged = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
      .map((i) => superblock.start + i)
      .filter((i) => i < superblock.end);

    /** Byte offset and length of what is damaged. */
    function area(place: Place, at: number): [number, number] {
      switch (place) {
        case 'superblock':
          return [1024, 0x180];
        case 'group descriptors':
          return [2 * BLOCK_SIZE, 32];
        case 'journal inode': {
          const table = ownView(dirty).getUint32(2 * BLOCK_SIZE + 8, true);
          return [table * BLOCK_SIZE + 7 * geometry.inodeSize, 160];
        }
        case 'journal superblock':
          return [blockMap[0] * BLOCK_SIZE, 0x60];
        case 'log':
          return [blockMap[logged[at % logged.length]] * BLOCK_SIZE, 256];
      }
    }

    it('is refused with nothing written, or done', () => {
      const outcomes = new Map<string, number>();
      checkProperty(
        fc.property(fc.array(damage, { minLength: 1, maxLength: 4 }), (damages) => {
          const image = dirty.slice();
          for (const { place, at, value } of damages) {
            const [start, length] = area(place, at);
            image[start + (at % length)] = value;
          }
          const before = image.slice();
          const device = new CountingDevice(image);
          let outcome = 'replayed';
          try {
            recoverLog(device, readGeometry(device));
          } catch (error) {
            const known =
              error instanceof CorruptionError || error instanceof UnsupportedError || error instanceof FsError;
            assert.ok(known, `${error instanceof Error ? error.stack : error}`);
            assert.equal(device.writes, 0, 'a refused image is left alone');
            assert.ok(Buffer.compare(image, before) === 0);
            outcome = error.name;
          }
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
        }),
        { numRuns: 400 },
      );
      assert.ok((outcomes.get('CorruptionError') ?? 0) > 20, 'damage was found');
      if (!checksums) assert.ok((outcomes.get('replayed') ?? 0) > 20, 'damage that nothing can tell was survived');
    });
  });
