/** errors=: what a mounted filesystem does when it comes across corruption, and what it leaves for e2fsck. */
import assert from 'node:assert/strict';
import { closeSync, mkdirSync, openSync, readdirSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { codeOf } from '../support/code-of.js';
import { makeImageFile, run } from '../support/mke2fs.js';
import { EXT4D, Mount, requireOrSkip, whyNoFuse, withMountpoint } from '../support/server.js';

const BLOCK_SIZE = 4096;

/** An image whose directory /bad has a block of garbage. */
function damagedImage(scratch: string): string {
  const tree = join(scratch, 'tree');
  mkdirSync(join(tree, 'bad'), { recursive: true });
  writeFileSync(join(tree, 'bad', 'file'), 'x');
  writeFileSync(join(tree, 'good'), 'good');
  const image = join(scratch, 'image');
  makeImageFile(image, 32, ['-d', tree]);
  const block = Number(/^\d+/m.exec(run('debugfs', ['-R', 'blocks /bad', image]).output)?.[0]);
  assert.ok(block > 0, 'where /bad is');
  const fd = openSync(image, 'r+');
  writeSync(fd, Buffer.alloc(64, 0x55), 0, 64, block * BLOCK_SIZE + 100);
  closeSync(fd);
  return image;
}

describe('corruption in a mounted filesystem', function () {
  this.timeout(60_000);

  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse());
  });

  for (const [policy, afterwards] of [
    ['continue', 'done'],
    ['remount-ro', 'EROFS'],
  ] as const) {
    it(`errors=${policy}: the caller is told, the superblock remembers, and a later change: ${afterwards}`, () =>
      withMountpoint(async (scratch, mountpoint) => {
        const image = damagedImage(scratch);
        const mount = await Mount.start(image, mountpoint, `errors=${policy}`);
        try {
          assert.equal(
            codeOf(() => writeFileSync(join(mountpoint, 'before'), 'x')),
            'done',
          );
          // EBADMSG, as the kernel says for a wrong checksum; Node has no name for it in every version.
          assert.match(
            codeOf(() => readdirSync(join(mountpoint, 'bad'))),
            /EBADMSG|EUCLEAN|Unknown system error/,
          );
          assert.equal(
            codeOf(() => writeFileSync(join(mountpoint, 'after'), 'x')),
            afterwards,
          );
          assert.deepEqual(
            codeOf(() => readdirSync(mountpoint)),
            'done',
            'the rest can still be read',
          );
          await mount.unmount();
          assert.match(mount.stderr, /corrupt directory block/);
        } finally {
          mount.cleanUp();
        }
        assert.match(run(EXT4D, ['info', image]).output, /error/i);
        assert.match(run('dumpe2fs', ['-h', image]).output, /clean with errors/);
        run('e2fsck', ['-fy', image]);
        assert.equal(run('e2fsck', ['-fn', image]).code, 0);
        const { output } = run('debugfs', ['-R', 'ls /', image]);
        assert.match(output, /before/);
        assert.equal(/after/.test(output), afterwards === 'done');
      }));
  }

  it('errors=panic: the server ends, and what was fsynced is replayed', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = damagedImage(scratch);
      const mount = await Mount.start(image, mountpoint, 'errors=panic');
      try {
        const fd = openSync(join(mountpoint, 'kept'), 'w');
        writeSync(fd, 'kept');
        closeSync(fd);
        assert.equal(run('sync', [join(mountpoint, 'kept'), mountpoint]).code, 0);
        assert.notEqual(
          codeOf(() => readdirSync(join(mountpoint, 'bad'))),
          'done',
        );
        await mount.kill();
      } finally {
        mount.cleanUp();
      }
      assert.equal(run(EXT4D, ['replay', image]).code, 1);
      assert.match(run('debugfs', ['-R', 'cat /kept', image]).output, /kept/);
    }));

  for (const policy of ['continue', 'remount-ro'] as const) {
    it(`errors=${policy}: a bad block bitmap that the allocator passes over is told and remembered as well`, () =>
      withMountpoint(async (scratch, mountpoint) => {
        const image = join(scratch, 'image');
        makeImageFile(image, 32, ['-g', '1024']);
        const bitmap = Number(/Block bitmap at (\d+)/.exec(run('dumpe2fs', [image]).output)?.[1]);
        assert.ok(bitmap > 0, 'where the bitmap is');
        const fd = openSync(image, 'r+');
        writeSync(fd, Buffer.alloc(16, 0x55), 0, 16, bitmap * BLOCK_SIZE + 64);
        closeSync(fd);
        const mount = await Mount.start(image, mountpoint, `errors=${policy}`);
        try {
          // Spread over the groups, so that the bad one is asked sooner or later; none of them needs it.
          const codes = Array.from({ length: 16 }, (_, i) =>
            codeOf(() => mkdirSync(join(mountpoint, `directory${i}`))),
          );
          assert.equal(codes[0], 'done');
          assert.equal(codes[15], policy === 'continue' ? 'done' : 'EROFS', codes.join(' '));
          await mount.unmount();
          assert.match(mount.stderr, /corrupt block bitmap/);
        } finally {
          mount.cleanUp();
        }
        assert.match(run('dumpe2fs', ['-h', image]).output, /clean with errors/);
      }));
  }
});
