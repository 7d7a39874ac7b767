/** Files of ext2 and ext3, which map their blocks without extents: written through ext4d, judged by the kernel and e2fsck. */
import assert from 'node:assert/strict';
import {
  closeSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fsckFile, makeImageFile, run } from '../support/mke2fs.js';
import { requireOrSkip, whyNoFuse, withMount, withMountpoint } from '../support/server.js';

const FORMATS = [
  { name: 'ext3, 1k blocks', args: ['-t', 'ext3', '-b', '1024'] },
  { name: 'ext3, 4k blocks, small inodes', args: ['-t', 'ext3', '-b', '4096', '-I', '128'] },
  { name: 'ext4 without extents', args: ['-b', '2048', '-O', '^extent,^64bit,^large_file'] },
];

/** In the inode, and under one, two and three levels of indirect blocks, for blocks of 1024, 2048 and 4096 bytes. */
const PLACES = [0, 11_000, 40_000, 300_000, 5_000_000, 70_000_000, 600_000_000, 6_000_000_000];

const marker = (place: number) => Buffer.from(`<${place}>`.padEnd(3000, '.'));

function writePlaces(file: string): void {
  const fd = openSync(file, 'w+');
  for (const place of PLACES) writeSync(fd, marker(place), 0, 3000, place);
  fsyncSync(fd);
  closeSync(fd);
}

function checkPlaces(file: string, places: readonly number[]): void {
  const fd = openSync(file, 'r');
  for (const place of places) {
    const found = Buffer.alloc(3000);
    readSync(fd, found, 0, 3000, place);
    assert.ok(found.equals(marker(place)), `at ${place}`);
    const before = Buffer.alloc(1, 'x');
    if (place > 0) readSync(fd, before, 0, 1, place - 1);
    assert.equal(before[0], place > 0 ? 0 : 'x'.charCodeAt(0), `before ${place}`);
  }
  closeSync(fd);
}

describe('files without extents', function () {
  this.timeout(120_000);
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse());
  });

  for (const { name, args } of FORMATS) {
    it(`grow to three levels of indirect blocks, shrink, and are the same to the kernel (${name})`, () => {
      const asRoot = process.getuid?.() === 0;
      return withMountpoint(async (scratch, mountpoint) => {
        const image = join(scratch, 'image');
        makeImageFile(image, 64, args);
        await withMount(image, mountpoint, '', () => {
          const at = (path: string) => join(mountpoint, path);
          writePlaces(at('sparse'));
          checkPlaces(at('sparse'), PLACES);
          writePlaces(at('cut'));
          truncateSync(at('cut'), 400_000);
          writePlaces(at('gone'));
          rmSync(at('gone'));
          writePlaces(at('punched'));
          assert.equal(run('fallocate', ['-p', '-o', '20000', '-l', '5990000000', at('punched')]).output, '');
          mkdirSync(at('names'));
          for (let i = 0; i < 3000; i++) writeFileSync(at(`names/file with a longish name ${i}`), '');
          for (let i = 0; i < 3000; i += 3) rmSync(at(`names/file with a longish name ${i}`));
          symlinkSync('t'.repeat(700), at('symlink'));
          const full = openSync(at('full'), 'w');
          for (let i = 0; i < 20; i++) writeSync(full, Buffer.alloc(1 << 20, i));
          ftruncateSync(full, (19 << 20) + 5);
          closeSync(full);
        });
        const { code, output } = fsckFile(image);
        assert.equal(code, 0, output);
        if (!asRoot) return;
        assert.equal(run('mount', ['-o', 'loop,ro', image, mountpoint]).output, '');
        try {
          const at = (path: string) => join(mountpoint, path);
          checkPlaces(at('sparse'), PLACES);
          checkPlaces(at('cut'), PLACES.slice(0, 4));
          checkPlaces(at('punched'), [0, 11_000, 6_000_000_000]);
          assert.equal(
            run('ls', [at('names')])
              .output.trim()
              .split('\n').length,
            2000,
          );
          assert.equal(run('readlink', [at('symlink')]).output.trim(), 't'.repeat(700));
          const full = readFileSync(at('full'));
          assert.equal(full.length, (19 << 20) + 5);
          for (let i = 0; i < 20; i++) assert.equal(full[i << 20], i);
        } finally {
          run('umount', [mountpoint]);
        }
      });
    });
  }

  it('have no unwritten blocks, which fallocate says', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 16, FORMATS[0].args);
      await withMount(image, mountpoint, '', () => {
        const file = join(mountpoint, 'file');
        writeFileSync(file, 'x');
        const result = run('fallocate', ['-l', '100000', file]);
        assert.match(result.output, /not supported/i);
      });
    }));
});
