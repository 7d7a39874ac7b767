/** data=journal: file data goes through the log. Judged by e2fsck's replay and by the kernel. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  fsyncSync,
  openSync,
  readFileSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { makeImageFile, run } from '../support/mke2fs.js';
import { EXT4D, Mount, requireOrSkip, whyNoFuse, withMount, withMountpoint } from '../support/server.js';

const digest = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');

describe('data=journal', function () {
  this.timeout(60_000);
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse());
  });

  for (const args of [
    ['-b', '1024', '-J', 'size=4'],
    ['-b', '4096'],
    ['-t', 'ext3', '-b', '1024'],
  ]) {
    it(`overwrites what was fsynced in the log: e2fsck alone brings it home (${args.join(' ')})`, () =>
      withMountpoint(async (scratch, mountpoint) => {
        const image = join(scratch, 'image');
        makeImageFile(image, 64, args);
        const large = randomBytes(20 << 20);
        const small = randomBytes(5000);
        const mount = await Mount.start(image, mountpoint, 'data=journal');
        try {
          writeFileSync(join(mountpoint, 'large'), large);
          truncateSync(join(mountpoint, 'large'), 9_999_999);
          const fd = openSync(join(mountpoint, 'small'), 'w');
          for (const content of [randomBytes(9000), small]) {
            writeSync(fd, content, 0, content.length, 0);
            fsyncSync(fd);
          }
          closeSync(fd);
          assert.equal(run('sync', ['-f', mountpoint]).output, '');
          assert.ok(readFileSync(join(mountpoint, 'large')).equals(large.subarray(0, 9_999_999)));
          await mount.kill();
        } finally {
          mount.cleanUp();
        }
        copyFileSync(image, `${image}2`);
        assert.ok([0, 1].includes(run('e2fsck', ['-fy', `${image}2`]).code));
        assert.equal(run('e2fsck', ['-fn', `${image}2`]).code, 0);
        run('debugfs', ['-R', `dump /small ${join(scratch, 'dumped')}`, `${image}2`]);
        assert.ok(readFileSync(join(scratch, 'dumped')).subarray(0, 5000).equals(small));
        assert.equal(run(EXT4D, ['replay', image]).code, 1);
        await withMount(image, mountpoint, '', () => {
          assert.ok(readFileSync(join(mountpoint, 'small')).subarray(0, 5000).equals(small));
          assert.ok(readFileSync(join(mountpoint, 'large')).length <= large.length);
          writeFileSync(join(mountpoint, 'ordered'), large);
          assert.equal(digest(join(mountpoint, 'ordered')), createHash('sha256').update(large).digest('hex'));
        });
        assert.equal(run('e2fsck', ['-fn', image]).code, 0);
      }));
  }

  it('is what the superblock may ask for (tune2fs -o journal_data)', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32, ['-b', '1024']);
      run('tune2fs', ['-o', 'journal_data', image]);
      const content = Buffer.from('through the log '.repeat(1000));
      const mount = await Mount.start(image, mountpoint, '');
      try {
        const fd = openSync(join(mountpoint, 'file'), 'w');
        writeSync(fd, content);
        fsyncSync(fd);
        closeSync(fd);
        const { output } = run(EXT4D, ['journal', image]);
        assert.match(output, /file data|\/file/);
        await mount.unmount();
      } finally {
        mount.cleanUp();
      }
      run('debugfs', ['-R', `dump /file ${join(scratch, 'dumped')}`, image]);
      assert.ok(readFileSync(join(scratch, 'dumped')).equals(content));
    }));
});
