/**
 * Large writes and reads, whose data passes the server as pages in a pipe: whatever a request begins and ends in the
 * middle of, wherever its data has to go, and however long it waits, the bytes are those that were written.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, constants, fsyncSync, openSync, readFileSync, readSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { mustBeClean } from '../support/clean.js';
import { alignedBuffer, O_DIRECT } from '../support/direct-io.js';
import { makeImageFile } from '../support/mke2fs.js';
import { checkAsyncProperty } from '../support/property.js';
import { EXT4D, requireOrSkip, whyNoFuse, withMount, withMountpoint } from '../support/server.js';

const FILE_BYTES = 6 << 20;
const DIRECT_BYTES = 1 << 20;

const range = fc.record({ pos: fc.nat(FILE_BYTES - 1), length: fc.integer({ min: 100_000, max: 3 << 20 }) });

/** Different everywhere, so that a page in the wrong place is noticed. */
function pattern(serial: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i + 4 <= length; i += 4) bytes.writeUInt32LE((serial * 0x9e3779b1 + i) >>> 0, i);
  return bytes;
}

function readDirect(path: string, length: number): Buffer {
  const fd = openSync(path, constants.O_RDONLY | O_DIRECT);
  const into = alignedBuffer(DIRECT_BYTES);
  const parts: Buffer[] = [];
  try {
    for (let pos = 0; pos < length; pos += DIRECT_BYTES) {
      parts.push(Buffer.from(into.subarray(0, readSync(fd, into, 0, DIRECT_BYTES, pos))));
    }
  } finally {
    closeSync(fd);
  }
  return Buffer.concat(parts);
}

/** The same bytes? Without printing megabytes when they are not. */
function mustEqual(found: Buffer, expected: Buffer, how: string): void {
  assert.equal(found.length, expected.length, `${how}: length`);
  const at = found.findIndex((byte, i) => byte !== expected[i]);
  assert.equal(at, -1, `${how}: differs at byte ${at}`);
}

describe('large transfers', function () {
  this.timeout(120_000);
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse());
  });

  const PLACES: [mkfs: string[], options: string, where: string][] = [
    [['-b', '4096'], '', 'blocks like pages'],
    [['-b', '1024'], '', 'blocks smaller than pages'],
    [['-t', 'ext3'], '', 'block maps'],
    [['-b', '4096'], 'data=journal', 'the log'],
  ];
  for (const [mkfs, options, where] of PLACES) {
    it(`keep every byte in ${where}`, () =>
      withMountpoint(async (scratch, mountpoint) => {
        const image = join(scratch, 'image');
        await checkAsyncProperty(
          fc.asyncProperty(fc.array(range, { minLength: 1, maxLength: 6 }), async (ranges) => {
            makeImageFile(image, 64, mkfs);
            const path = join(mountpoint, 'file');
            let expected = Buffer.alloc(0);
            await withMount(image, mountpoint, options, () => {
              const fd = openSync(path, constants.O_RDWR | constants.O_CREAT);
              for (const [serial, { pos, length }] of ranges.entries()) {
                const bytes = pattern(serial + 1, length);
                writeSync(fd, bytes, 0, length, pos);
                fsyncSync(fd);
                const end = Math.max(expected.length, pos + length);
                expected = Buffer.concat([expected, Buffer.alloc(end - expected.length)]);
                bytes.copy(expected, pos);
              }
              closeSync(fd);
              mustEqual(readDirect(path, expected.length), expected, 'direct, where it was written');
            });
            mustBeClean(image);
            await withMount(image, mountpoint, options, () => {
              mustEqual(readFileSync(path), expected, 'through the page cache');
              mustEqual(readDirect(path, expected.length), expected, 'direct');
            });
          }),
          { numRuns: 4 },
        );
      }));
  }

  it('wait while the filesystem is frozen, and arrive whole', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 64);
      const path = join(mountpoint, 'file');
      const expected = pattern(1, FILE_BYTES);
      await withMount(image, mountpoint, '', () => {
        const fd = openSync(path, constants.O_RDWR | constants.O_CREAT);
        // Large enough writes before make the server expect more of them.
        writeSync(fd, pattern(2, FILE_BYTES));
        fsyncSync(fd);
        writeSync(fd, expected, 0, FILE_BYTES, 0);
        const script = '"$0" freeze "$1"; timeout 20 sync "$2" & sleep 1; "$0" thaw "$1"; wait $!';
        const frozen = spawnSync('sh', ['-c', script, EXT4D, mountpoint, path], { encoding: 'utf8', timeout: 30_000 });
        assert.equal(frozen.status, 0, frozen.stderr);
        closeSync(fd);
      });
      mustBeClean(image);
      await withMount(image, mountpoint, '', () => mustEqual(readFileSync(path), expected, 'after the thaw'));
    }));

  it('tell that space ran out, and leave what there is room for', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 16);
      const path = join(mountpoint, 'file');
      const bytes = pattern(1, 24 << 20);
      await withMount(image, mountpoint, '', () => {
        const fd = openSync(path, constants.O_RDWR | constants.O_CREAT);
        assert.throws(() => {
          writeSync(fd, bytes);
          fsyncSync(fd);
        }, /ENOSPC/);
        closeSync(fd);
      });
      mustBeClean(image);
      await withMount(image, mountpoint, '', () => {
        const { size } = statSync(path);
        assert.ok(size >= 4 << 20, `only ${size} bytes`);
        const found = readFileSync(path);
        // What found no room is a hole. Requests of the page cache are written in any order.
        for (let pos = 0; pos + 4096 <= size; pos += 4096) {
          const block = found.subarray(pos, pos + 4096);
          const kept = block.equals(bytes.subarray(pos, pos + 4096));
          assert.ok(kept || block.every((byte) => byte === 0), `something else at ${pos}`);
        }
      });
    }));
});
