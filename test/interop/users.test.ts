/** Who may mount, who may enter, and whose permissions count. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fsckFile, makeImageFile, run } from '../support/mke2fs.js';
import { EXT4D, isMounted, Mount, requireOrSkip, whyNoFuse, withMount, withMountpoint } from '../support/server.js';

/** nobody on Debian: no name is needed for what is tested here. */
const USER = 65534;

/** Runs a shell command as an ordinary user. */
function asUser(command: string): { code: number; output: string } {
  const { status, stdout, stderr } = spawnSync('sh', ['-c', command], {
    uid: USER,
    gid: USER,
    encoding: 'utf8',
    cwd: '/',
    timeout: 60_000,
    env: { ...process.env, HOME: '/' },
  });
  return { code: status ?? -1, output: stdout + stderr };
}

describe('users', function () {
  this.timeout(60_000);
  let deviceMode = 0;

  before(function () {
    const test = this as unknown as Mocha.Context;
    requireOrSkip(test, whyNoFuse());
    requireOrSkip(test, process.getuid?.() === 0 ? null : 'playing several users needs root');
    requireOrSkip(test, asUser('fusermount3 --version').code === 0 ? null : 'fusermount3 is not installed');
    // udev opens the device to everyone; a bare container may not have udev.
    deviceMode = statSync('/dev/fuse').mode & 0o7777;
    chmodSync('/dev/fuse', 0o666);
  });

  after(() => {
    if (deviceMode !== 0) chmodSync('/dev/fuse', deviceMode);
  });

  it('an ordinary user mounts, works and unmounts through fusermount3', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32, ['-E', `root_owner=${USER}:${USER}`]);
      for (const path of [scratch, image, mountpoint]) chownSync(path, USER, USER);
      const mounted = asUser(`${EXT4D} mount ${image} ${mountpoint}`);
      assert.deepEqual(mounted, { code: 0, output: '' });
      assert.ok(isMounted(mountpoint));
      const worked = asUser(`cd ${mountpoint} && mkdir d && echo hello > d/f && sync d/f && cat d/f && stat -c %u d/f`);
      assert.deepEqual(worked, { code: 0, output: `hello\n${USER}\n` });
      assert.deepEqual(asUser(`${EXT4D} umount ${mountpoint}`), { code: 0, output: '' });
      assert.ok(!isMounted(mountpoint));
      const { code, output } = fsckFile(image);
      assert.equal(code, 0, output);
    }));

  it('modes are checked for the ordinary user who mounts', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      await withMount(image, mountpoint, '', async () => {
        writeFileSync(join(mountpoint, 'secret'), 'secret', { mode: 0o600 });
        chmodSync(mountpoint, 0o755);
      });
      for (const path of [scratch, image, mountpoint]) chownSync(path, USER, USER);
      assert.equal(asUser(`${EXT4D} mount ${image} ${mountpoint}`).code, 0);
      const read = asUser(`cat ${mountpoint}/secret`);
      const written = asUser(`touch ${mountpoint}/new`);
      assert.equal(asUser(`${EXT4D} umount ${mountpoint}`).code, 0);
      assert.match(read.output, /Permission denied/);
      assert.match(written.output, /Permission denied/);
    }));

  it('a file that a user writes to loses its setuid bit, which everybody sees at once', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      chmodSync(scratch, 0o755);
      await withMount(image, mountpoint, 'allow_other', () => {
        for (const how of ['oflag=direct', 'conv=fsync']) {
          const file = join(mountpoint, how);
          writeFileSync(file, '');
          chmodSync(file, 0o6777);
          assert.equal((statSync(file).mode & 0o7777).toString(8), '6777');
          const written = asUser(
            `dd if=/dev/zero of=${file} bs=4096 count=1 conv=notrunc,fsync ${how.replace(/^conv.*/, '')}`,
          );
          assert.equal(written.code, 0, written.output);
          assert.equal((statSync(file).mode & 0o7777).toString(8), '777', how);
        }
      });
    }));

  it('what root mounts is closed to others, unless allow_other lets them in; then modes are checked', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      chmodSync(scratch, 0o755);
      const alone = await Mount.start(image, mountpoint);
      try {
        mkdirSync(join(mountpoint, 'open'), { mode: 0o777 });
        chmodSync(join(mountpoint, 'open'), 0o777);
        writeFileSync(join(mountpoint, 'secret'), 'secret', { mode: 0o600 });
        assert.match(asUser(`ls ${mountpoint}`).output, /Permission denied/);
        assert.equal(await alone.unmount(), 0);
      } finally {
        alone.cleanUp();
      }
      for (const option of ['allow_other', 'default_permissions']) {
        const shared = await Mount.start(image, mountpoint, option);
        try {
          assert.equal(asUser(`echo hello > ${mountpoint}/open/${option}`).code, 0);
          assert.match(asUser(`cat ${mountpoint}/secret`).output, /Permission denied/);
          assert.match(asUser(`touch ${mountpoint}/new`).output, /Permission denied/);
          assert.equal(await shared.unmount(), 0);
        } finally {
          shared.cleanUp();
        }
      }
    }));

  it('where root is alone, access(2) tells what may be executed as execve does', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      await withMount(image, mountpoint, '', async () => {
        const file = join(mountpoint, 'f');
        writeFileSync(file, '#!/bin/sh\n');
        const asked: Record<string, boolean> = {};
        for (const mode of [0o600, 0o000, 0o700, 0o601]) {
          chmodSync(file, mode);
          asked[mode.toString(8)] = run('test', ['-x', file]).code === 0;
          assert.equal(run('test', ['-r', file]).code, 0);
          assert.equal(run('test', ['-w', file]).code, 0);
        }
        assert.deepEqual(asked, { 600: false, 0: false, 700: true, 601: true });
        mkdirSync(join(mountpoint, 'd'), { mode: 0 });
        assert.equal(run('test', ['-x', join(mountpoint, 'd')]).code, 0);
      });
    }));

  it('an access control list sets the mode that is seen, whoever checks it, and a later chmod keeps its entries', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      for (const options of ['', 'fakeroot', 'allow_other']) {
        await withMount(image, mountpoint, options, async () => {
          const file = join(mountpoint, `f${options}`);
          writeFileSync(file, '');
          chmodSync(file, 0o644);
          assert.equal(statSync(file).mode & 0o777, 0o644);
          assert.deepEqual(run('setfacl', ['-m', 'u:1000:rwx', file]), { code: 0, output: '' });
          assert.equal((statSync(file).mode & 0o777).toString(8), '674', options);
          assert.equal(run('chmod', ['o+x', file]).code, 0);
          const { output } = run('getfacl', ['-n', '-p', file]);
          assert.match(output, /mask::rwx/, options);
          assert.match(output, /user:1000:rwx\n/, options);
          // Neither is an error where there is none.
          for (let times = 0; times < 2; times++)
            assert.deepEqual(run('setfacl', ['-b', file]), { code: 0, output: '' });
          assert.equal(run('setfattr', ['-x', 'system.posix_acl_access', file]).output, '');
        });
      }
      const { code, output } = fsckFile(image);
      assert.equal(code, 0, output);
    }));

  it('attributes of the namespace trusted are listed for root only', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      chmodSync(scratch, 0o755);
      await withMount(image, mountpoint, 'allow_other', async () => {
        const file = join(mountpoint, 'f');
        writeFileSync(file, '');
        for (const name of ['trusted.t', 'user.u'])
          assert.equal(run('setfattr', ['-n', name, '-v', '1', file]).code, 0);
        assert.match(run('getfattr', ['-m', '-', file]).output, /^trusted\.t$/m);
        const { output } = asUser(`getfattr -m - ${file}`);
        assert.match(output, /^user\.u$/m);
        assert.doesNotMatch(output, /trusted/);
      });
    }));

  it('access control lists are kept and inherited also where root is alone', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      await withMount(image, mountpoint, '', async () => {
        const directory = join(mountpoint, 'd');
        mkdirSync(directory);
        assert.deepEqual(run('setfacl', ['-d', '-m', `u:${USER}:rwx`, directory]), { code: 0, output: '' });
        writeFileSync(join(directory, 'f'), '');
        assert.match(run('getfacl', ['-n', '-p', join(directory, 'f')]).output, new RegExp(`user:${USER}:rwx`));
        assert.equal(run('setfacl', ['-m', `u:${USER}:r`, join(directory, 'f')]).code, 0);
        chmodSync(join(directory, 'f'), 0o600);
        const { output } = run('getfacl', ['-n', '-p', join(directory, 'f')]);
        assert.match(output, new RegExp(`user:${USER}:r-x?`));
        assert.match(output, /mask::---/);
        assert.equal(statSync(join(directory, 'f')).mode & 0o777, 0o600);
      });
      const { code, output } = fsckFile(image);
      assert.equal(code, 0, output);
    }));
});
