/** `mount -o remount`: read-only and writable again, known to the server. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, copyFileSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { mountAt } from '../../src/cli/mountinfo.js';
import { mustBeClean } from '../support/clean.js';
import { makeImageFile } from '../support/mke2fs.js';
import { EXT4D, requireOrSkip, whyNoFuse, withMount, withMountpoint } from '../support/server.js';

const HELPER = join(dirname(EXT4D), 'mount.fuse.ext4d');

/** As mount(8) runs it: the words of the mount table come first. */
function remount(image: string, mountpoint: string, words: string): { code: number | null; stderr: string } {
  const args = [image, mountpoint, '-o', words];
  const { status, stderr } = spawnSync(HELPER, args, { encoding: 'utf8', timeout: 30_000 });
  return { code: status, stderr };
}

const done = { code: 0, stderr: '' };

describe('a remount', function () {
  this.timeout(60_000);
  before(function () {
    requireOrSkip(this, process.getuid?.() === 0 ? whyNoFuse() : 'remounting is for root');
  });

  const mounted = (options: string, use: (image: string, mountpoint: string, scratch: string) => void) =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 64);
      await withMount(image, mountpoint, options, async () => use(image, mountpoint, scratch));
      mustBeClean(image);
    });

  it('with ro makes the image clean while it stays mounted, and with rw it can be written again', () =>
    mounted('', (image, mountpoint, scratch) => {
      const file = join(mountpoint, 'file');
      writeFileSync(file, 'before');
      assert.deepEqual(remount(image, mountpoint, 'ro,relatime,user_id=0,group_id=0,remount,ro'), done);
      assert.equal(mountAt(mountpoint)?.readOnly, true);
      const copy = join(scratch, 'copy');
      copyFileSync(image, copy);
      mustBeClean(copy);
      const stopped = readFileSync(image);
      assert.throws(() => writeFileSync(file, 'x'), { code: 'EROFS' });
      assert.equal(readFileSync(file, 'utf8'), 'before');
      assert.equal(statSync(mountpoint).isDirectory(), true);
      assert.ok(stopped.equals(readFileSync(image)), 'the image has changed');

      assert.deepEqual(remount(image, mountpoint, 'rw,relatime,user_id=0,group_id=0,remount,rw'), done);
      assert.equal(mountAt(mountpoint)?.readOnly, false);
      writeFileSync(file, 'after');
      assert.equal(readFileSync(file, 'utf8'), 'after');
    }));

  it('with ro can be followed by umount', () =>
    mounted('', (image, mountpoint) => {
      writeFileSync(join(mountpoint, 'file'), 'content');
      assert.deepEqual(remount(image, mountpoint, 'remount,ro'), done);
    }));

  it('with ro is refused while a file is open for writing, and nothing has changed', () =>
    mounted('', (image, mountpoint) => {
      const fd = openSync(join(mountpoint, 'file'), 'w');
      const { code, stderr } = remount(image, mountpoint, 'remount,ro');
      assert.equal(code, 32);
      assert.match(stderr, /files are open for writing: fuser -vm/);
      closeSync(fd);
      writeFileSync(join(mountpoint, 'other'), 'written');
    }));

  it('with rw is refused where the server itself is read-only', () =>
    mounted('ro', (image, mountpoint) => {
      const { code, stderr } = remount(image, mountpoint, 'remount,rw');
      assert.equal(code, 32);
      assert.match(stderr, /read-only for its server, too.*unmount, then mount/);
      assert.equal(mountAt(mountpoint)?.readOnly, true);
    }));

  it('changes what the kernel keeps of a mount, and says what it does not change', () =>
    mounted('nosuid,errors=continue', (image, mountpoint) => {
      const words = () => mountAt(mountpoint)?.words ?? [];
      assert.deepEqual(remount(image, mountpoint, 'rw,nosuid,errors=continue,remount,noexec'), done);
      assert.ok(words().includes('noexec') && words().includes('nosuid'));
      assert.deepEqual(remount(image, mountpoint, 'rw,nosuid,noexec,remount,nosymfollow'), done);
      assert.ok(words().includes('nosymfollow'));
      assert.deepEqual(remount(image, mountpoint, 'rw,nosuid,noexec,remount,symfollow'), done);
      assert.ok(!words().includes('nosymfollow'));
      assert.deepEqual(remount(image, mountpoint, 'rw,nosuid,noexec,remount,exec'), done);
      assert.ok(!words().includes('noexec') && words().includes('nosuid'));
      const kept = remount(image, mountpoint, 'remount,ro,commit=30');
      assert.equal(kept.code, 0);
      assert.match(kept.stderr, /^mount.fuse.ext4d: commit=30: as it was when it was mounted\n$/);
      const alone = remount(image, mountpoint, 'remount,ro,commit=30');
      assert.equal(alone.code, 32);
      assert.match(alone.stderr, /commit=30: not changed while mounted: unmount, then mount/);
    }));

  it('of what is not mounted, or not by ext4d, is refused', () =>
    withMountpoint(async (scratch, mountpoint) => {
      assert.match(remount(scratch, mountpoint, 'remount,ro').stderr, /not mounted, so it cannot be remounted/);
      assert.match(remount('proc', '/proc', 'remount,ro').stderr, /mounted as proc, not by ext4d/);
    }));
});
