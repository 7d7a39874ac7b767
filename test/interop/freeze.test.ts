/** `ext4d freeze`: the image is clean while it lasts, readers go on, writers wait and lose nothing. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { mustBeClean } from '../support/clean.js';
import { alignedBuffer, O_DIRECT } from '../support/direct-io.js';
import { makeImageFile, run } from '../support/mke2fs.js';
import {
  EXT4D,
  Mount,
  requireOrSkip,
  whyNoFuse,
  whyNoKernelExt4,
  withKernelMount,
  withMount,
  withMountpoint,
} from '../support/server.js';

const ext4d = (...args: string[]) => spawnSync(EXT4D, args, { encoding: 'utf8', timeout: 30_000 });

/** A process of its own, since this one must not be kept waiting. */
function writerOf(path: string, text: string): { child: ChildProcess; ended: Promise<number | null> } {
  const child = spawn('sh', ['-c', 'printf %s "$1" > "$0"', path, text], { stdio: 'ignore' });
  return { child, ended: new Promise((done) => child.once('close', done)) };
}

const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));

describe('a frozen filesystem', function () {
  this.timeout(60_000);
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse());
  });

  it('is clean on the image, can be read, and takes up what waited when it is thawed', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      const at = (name: string) => join(mountpoint, name);
      makeImageFile(image, 64);
      await withMount(image, mountpoint, '', async () => {
        const content = randomBytes(300_000);
        writeFileSync(at('before'), content);
        assert.equal(ext4d('freeze', mountpoint).stderr, '');
        const frozen = readFileSync(image);
        const copy = join(scratch, 'copy');
        copyFileSync(image, copy);
        mustBeClean(copy);
        assert.match(run('debugfs', ['-R', 'stat /before', copy]).output, /Size: 300000/);
        assert.doesNotMatch(run('dumpe2fs', ['-h', copy]).output, /needs_recovery/);

        const writer = writerOf(at('while'), 'waited');
        await pause(200);
        assert.equal(writer.child.exitCode, null, 'a file was made in a frozen filesystem');
        assert.deepEqual(readFileSync(at('before')), content);
        assert.ok(readFileSync(image).equals(frozen), 'the image changed while it was frozen');

        assert.match(ext4d('freeze', mountpoint).stderr, /frozen already; to end that: ext4d thaw/);
        assert.equal(ext4d('thaw', mountpoint).status, 0);
        assert.equal(await writer.ended, 0);
        assert.equal(readFileSync(at('while'), 'utf8'), 'waited');
        assert.match(ext4d('thaw', mountpoint).stderr, /not frozen/);
      });
      mustBeClean(image);
    }));

  it('holds overwrites that native code answers by itself, and more large writes than there are buffers', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      const at = (name: string) => join(mountpoint, name);
      makeImageFile(image, 96);
      await withMount(image, mountpoint, '', async () => {
        const fd = openSync(at('file'), constants.O_RDWR | constants.O_CREAT | O_DIRECT);
        const block = alignedBuffer(4096);
        for (let round = 0; round < 10; round++) writeSync(fd, block, 0, 4096, 0);
        closeSync(fd);
        assert.equal(ext4d('freeze', mountpoint).stderr, '');
        const frozen = readFileSync(image);
        const writers = Array.from({ length: 24 }, (_, k) =>
          spawn('dd', ['if=/dev/urandom', `of=${at(`file${k || ''}`)}`, 'bs=1M', 'count=2', 'oflag=direct'], {
            stdio: 'ignore',
          }),
        );
        const overwriter = spawn(
          'dd',
          ['if=/dev/urandom', `of=${at('file')}`, 'bs=4k', 'count=1', 'oflag=direct', 'conv=notrunc'],
          { stdio: 'ignore' },
        );
        const ended = [...writers, overwriter].map((child) => new Promise((done) => child.once('close', done)));
        await pause(400);
        assert.ok(readFileSync(image).equals(frozen), 'the image changed while it was frozen');
        assert.equal(ext4d('thaw', mountpoint).status, 0);
        assert.ok((await Promise.all(ended)).every((code) => code === 0));
        assert.equal(statSync(at('file23')).size, 2 << 20);
      });
      mustBeClean(image);
    }));

  it('is thawed when the command that it was frozen for ends, and by an unmount', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      await withMount(image, mountpoint, '', async () => {
        writeFileSync(join(mountpoint, 'a'), 'a');
        const copy = join(scratch, 'copy');
        const done = ext4d('freeze', mountpoint, '--', 'sh', '-c', 'cp "$0" "$1"; exit 7', image, copy);
        assert.equal(done.status, 7, done.stderr);
        mustBeClean(copy);
        writeFileSync(join(mountpoint, 'b'), 'b');
        assert.match(ext4d('freeze', mountpoint, '--', '/no/such/program').stderr, /cannot be run/);
        writeFileSync(join(mountpoint, 'c'), 'c');
      });
      const again = ext4d('mount', image, mountpoint);
      assert.equal(again.status, 0, again.stderr);
      assert.equal(ext4d('freeze', mountpoint).status, 0);
      const writer = writerOf(join(mountpoint, 'late'), 'x');
      await pause(100);
      const first = spawn(EXT4D, ['umount', mountpoint], { stdio: 'ignore' });
      const firstEnded = new Promise((done) => first.once('close', done));
      await writer.ended;
      // The file of the writer may have kept the mount busy; it is thawed now.
      if ((await firstEnded) !== 0) assert.equal(ext4d('umount', mountpoint).status, 0);
      mustBeClean(image);
    }));

  it('says why it cannot be frozen or thawed, and what to do', () =>
    withMountpoint(async (_scratch, mountpoint) => {
      assert.equal(ext4d('freeze').status, 1);
      assert.equal(ext4d('freeze', mountpoint, '--').status, 1);
      const { status, stderr } = ext4d('freeze', mountpoint);
      assert.equal(status, 32);
      assert.match(stderr, /not mounted; what is: findmnt/);
    }));

  it('tells the kernel of files that are deleted and still open', async function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoKernelExt4());
    await withMountpoint(async (scratch, mountpoint) => {
      for (const feature of ['orphan_file', '^orphan_file']) {
        const image = join(scratch, 'image');
        const copy = join(scratch, 'copy');
        makeImageFile(image, 32, ['-O', feature]);
        const mount = await Mount.start(image, mountpoint);
        try {
          const fd = openSync(join(mountpoint, 'open'), 'w+');
          writeSync(fd, randomBytes(100_000));
          rmSync(join(mountpoint, 'open'));
          assert.equal(ext4d('freeze', mountpoint).stderr, '');
          copyFileSync(image, copy);
          assert.equal(ext4d('thaw', mountpoint).status, 0);
          closeSync(fd);
          await mount.unmount();
        } finally {
          mount.cleanUp();
        }
        await withKernelMount(copy, mountpoint, '', () => assert.ok(!existsSync(join(mountpoint, 'open'))));
        mustBeClean(copy);
        mustBeClean(image);
      }
    });
  });
});
