/** What scripts rely on: when mount and umount return, with which code, and what is left then. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { readMountinfo } from '../../src/cli/mountinfo.js';
import { isAlive, serverOf } from '../../src/cli/server-process.js';
import { fsckFile, makeImageFile, run } from '../support/mke2fs.js';
import { EXT4D, isMounted, Mount, requireOrSkip, whyNoFuse, withMountpoint } from '../support/server.js';

const isRoot = process.getuid?.() === 0;
const HELPER = join(dirname(EXT4D), 'mount.fuse.ext4d');
const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
const sleep = (ms: number) => new Promise((done) => setTimeout(done, ms));

/** Ends the daemon behind a mountpoint, whatever a failed test left. */
function killServer(mountpoint: string, image: string): void {
  const server = isMounted(mountpoint) ? serverOf(mountpoint, image) : null;
  if (server !== null) process.kill(server.pid, 'SIGKILL');
}

async function withImage(use: (image: string, mountpoint: string, scratch: string) => Promise<void>): Promise<void> {
  await withMountpoint(async (scratch, mountpoint) => {
    const image = join(scratch, 'image');
    makeImageFile(image, 32);
    try {
      await use(image, mountpoint, scratch);
    } finally {
      killServer(mountpoint, image);
    }
  });
}

function clean(image: string): void {
  const { code, output } = fsckFile(image);
  assert.equal(code, 0, output);
  assert.match(run(EXT4D, ['info', image]).output, /^state: +clean/m);
}

function succeeds(command: string, args: string[]): void {
  const { code, output } = run(command, args);
  assert.equal(code, 0, `${command} ${args.join(' ')}: ${output}`);
  assert.equal(output, '');
}

describe('mount and umount', function () {
  this.timeout(60_000);

  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse());
  });

  it('mount returns once mounted and lets go of stderr; umount once the image is clean and the server gone', () =>
    withImage(async (image, mountpoint) => {
      // run() waits for the end of stderr: a daemon that kept it would never let this return.
      succeeds(EXT4D, ['mount', image, mountpoint]);
      assert.ok(isMounted(mountpoint));
      const server = serverOf(mountpoint, image);
      assert.ok(server !== null);
      assert.ok(readFileSync(`/proc/${server.pid}/cmdline`, 'utf8').includes(image), 'ps shows the image');
      writeFileSync(join(mountpoint, 'file'), 'content');
      succeeds(EXT4D, ['umount', mountpoint]);
      assert.ok(!isMounted(mountpoint));
      assert.ok(!isAlive(server), 'the server is still there');
      clean(image);
    }));

  it('a plain umount ends clean as well', () =>
    withImage(async (image, mountpoint) => {
      const mount = await Mount.start(image, mountpoint);
      try {
        writeFileSync(join(mountpoint, 'file'), 'content');
        assert.equal(await mount.unmount(), 0);
        clean(image);
      } finally {
        mount.cleanUp();
      }
    }));

  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    it(`${signal} unmounts and ends clean`, () =>
      withImage(async (image, mountpoint) => {
        const child = spawn(EXT4D, ['mount', '-f', image, mountpoint], { stdio: 'ignore' });
        try {
          for (let i = 0; i < 500 && !isMounted(mountpoint); i++) await sleep(20);
          writeFileSync(join(mountpoint, 'file'), 'content');
          child.kill(signal);
          const code = await new Promise((done) => child.on('exit', done));
          assert.equal(code, 0);
          assert.ok(!isMounted(mountpoint));
          clean(image);
        } finally {
          child.kill('SIGKILL');
        }
      }));
  }

  it('umount ends the mount that it is called from inside of', () =>
    withImage(async (image, mountpoint) => {
      succeeds(EXT4D, ['mount', image, mountpoint]);
      const { status, stderr } = spawnSync(EXT4D, ['umount', '.'], { cwd: mountpoint, encoding: 'utf8' });
      assert.equal(status, 0, stderr);
      clean(image);
    }));

  it('a busy mount is not unmounted, and the user is named', () =>
    withImage(async (image, mountpoint) => {
      succeeds(EXT4D, ['mount', image, mountpoint]);
      writeFileSync(join(mountpoint, 'file'), 'content');
      const fd = openSync(join(mountpoint, 'file'), 'r');
      try {
        const { code, output } = run(EXT4D, ['umount', mountpoint]);
        assert.equal(code, 32);
        assert.match(output, new RegExp(`busy.*pid ${process.pid}`));
        assert.ok(isMounted(mountpoint));
      } finally {
        closeSync(fd);
      }
      succeeds(EXT4D, ['umount', mountpoint]);
      clean(image);
    }));

  it('an image that is mounted is locked: the second mount names the holder and changes nothing', () =>
    withImage(async (image, mountpoint, scratch) => {
      const second = join(scratch, 'second');
      mkdirSync(second);
      succeeds(EXT4D, ['mount', image, mountpoint]);
      const server = serverOf(mountpoint, image);
      for (const options of [[], ['-o', 'ro']]) {
        const { code, output } = run(EXT4D, ['mount', ...options, image, second]);
        assert.equal(code, 32, output);
        assert.match(
          output,
          new RegExp(`already in use by ext4d \\(pid ${server?.pid}\\): .*umount ${mountpoint}$`, 'm'),
        );
        assert.equal(output.trimEnd().split('\n').length, 1);
        assert.ok(!isMounted(second));
      }
      // Nor is anything mounted over it.
      const other = join(scratch, 'other');
      makeImageFile(other, 16);
      const over = run(EXT4D, ['mount', other, mountpoint]);
      assert.equal(over.code, 32);
      assert.match(over.output, /busy/);
      succeeds(EXT4D, ['umount', mountpoint]);
      clean(image);
    }));

  it('two read-only mounts of one image are served side by side; the image keeps every byte', () =>
    withImage(async (image, mountpoint, scratch) => {
      const second = join(scratch, 'second');
      mkdirSync(second);
      const before = sha256(image);
      succeeds(EXT4D, ['mount', '-o', 'ro', image, mountpoint]);
      try {
        succeeds(EXT4D, ['mount', '-r', image, second]);
        assert.notEqual(serverOf(mountpoint, image)?.pid, serverOf(second, image)?.pid);
        assert.throws(() => writeFileSync(join(second, 'file'), ''), { code: 'EROFS' });
        succeeds(EXT4D, ['umount', second]);
        assert.ok(isMounted(mountpoint));
        succeeds(EXT4D, ['umount', mountpoint]);
      } finally {
        killServer(second, image);
        if (isMounted(second)) run(isRoot ? 'umount' : 'fusermount3', [isRoot ? '-l' : '-uz', second]);
      }
      assert.equal(sha256(image), before);
    }));

  it('a dead mount is told apart, and umount removes it', () =>
    withImage(async (image, mountpoint) => {
      succeeds(EXT4D, ['mount', image, mountpoint]);
      const fd = openSync(join(mountpoint, 'file'), 'w');
      writeSync(fd, 'content');
      fsyncSync(fd);
      closeSync(fd);
      killServer(mountpoint, image);
      await sleep(200);
      const again = run(EXT4D, ['mount', image, mountpoint]);
      assert.equal(again.code, 32);
      assert.match(again.output, /dead mount.*ext4d umount/);
      const removed = run(EXT4D, ['umount', mountpoint]);
      assert.match(removed.output, /did not end cleanly.*ext4d replay/);
      assert.equal(removed.code, 32);
      assert.ok(!isMounted(mountpoint));
      succeeds(EXT4D, ['mount', image, mountpoint]);
      assert.equal(readFileSync(join(mountpoint, 'file'), 'utf8'), 'content');
      succeeds(EXT4D, ['umount', mountpoint]);
      clean(image);
    }));

  it('a filesystem inside a larger image is found with offset=', () =>
    withImage(async (image, mountpoint, scratch) => {
      const disk = join(scratch, 'disk');
      run('truncate', ['-s', '40M', disk]);
      run('dd', [`if=${image}`, `of=${disk}`, 'bs=1M', 'seek=3', 'conv=notrunc']);
      succeeds(EXT4D, ['mount', '-o', `offset=${3 << 20}`, disk, mountpoint]);
      writeFileSync(join(mountpoint, 'file'), 'content');
      succeeds(EXT4D, ['umount', mountpoint]);
      run('dd', [`if=${disk}`, `of=${image}`, 'bs=1M', 'skip=3', 'count=32', 'conv=notrunc']);
      clean(image);
      assert.match(run('debugfs', ['-R', 'cat file', image]).output, /content/);
    }));

  it('paths with spaces, relative paths, and a mountpoint behind a symbolic link', () =>
    withImage(async (image, mountpoint, scratch) => {
      const directory = join(scratch, 'a b');
      mkdirSync(directory);
      run('cp', [image, join(directory, 'my image')]);
      symlinkSync(mountpoint, join(scratch, 'link'));
      const call = (args: string[]) => spawnSync(EXT4D, args, { cwd: directory, encoding: 'utf8', timeout: 20_000 });
      assert.equal(call(['mount', 'my image', '../link']).status, 0);
      try {
        assert.ok(isMounted(mountpoint));
        assert.ok(readMountinfo().some((entry) => entry.source === join(directory, 'my image')));
        const { status, stderr } = call(['umount', '../link']);
        assert.equal(status, 0, stderr);
      } finally {
        killServer(mountpoint, join(directory, 'my image'));
      }
    }));
});

describe('mount.fuse.ext4d', function () {
  this.timeout(60_000);

  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse());
  });

  it('takes what mount(8) passes', () =>
    withImage(async (image, mountpoint) => {
      const before = sha256(image);
      // -f is "fake" here, not "foreground".
      succeeds(HELPER, [image, mountpoint, '-f', '-o', 'rw,nosuid']);
      assert.ok(!isMounted(mountpoint));
      assert.equal(run(HELPER, [image, mountpoint, '-o', 'frobnicate']).code, 1);
      assert.equal(run(HELPER, [image, join(mountpoint, 'nowhere')]).code, 32);
      assert.equal(run(HELPER, []).code, 1);
      succeeds(HELPER, [image, mountpoint, '-sn', '-o', 'ro,frobnicate,noatime', '-t', 'fuse.ext4d']);
      assert.ok(isMounted(mountpoint));
      succeeds(EXT4D, ['umount', mountpoint]);
      assert.equal(sha256(image), before);
    }));

  it('mount -t fuse.ext4d and umount', function () {
    requireOrSkip(this, isRoot ? null : 'mount(8) needs root');
    const link = '/sbin/mount.fuse.ext4d';
    const installed = lstatSync(link, { throwIfNoEntry: false }) !== undefined;
    return withImage(async (image, mountpoint) => {
      if (!installed) symlinkSync(HELPER, link);
      try {
        succeeds('mount', ['-t', 'fuse.ext4d', '-o', 'noatime,nofail', image, mountpoint]);
        assert.equal(readMountinfo().findLast((entry) => entry.mountpoint === mountpoint)?.type, 'fuse.ext4d');
        writeFileSync(join(mountpoint, 'file'), 'content');
        succeeds('mount', ['-o', 'remount,ro', mountpoint]);
        assert.match(run(EXT4D, ['info', image]).output, /^state: +clean/m);
        succeeds('mount', ['-o', 'remount,rw', mountpoint]);
        writeFileSync(join(mountpoint, 'file'), 'other content');
        const server = serverOf(mountpoint, image);
        succeeds('umount', [mountpoint]);
        for (let i = 0; i < 500 && existsSync(`/proc/${server?.pid}`); i++) await sleep(20);
        clean(image);
      } finally {
        if (!installed) unlinkSync(link);
      }
    });
  });
});

describe('a block device', function () {
  this.timeout(60_000);

  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse());
    requireOrSkip(
      this as unknown as Mocha.Context,
      isRoot && existsSync('/dev/loop-control') ? null : 'needs root and loop devices',
    );
  });

  it('is mounted as fuseblk: when umount returns the image is clean', () =>
    withImage(async (image, mountpoint, scratch) => {
      const { output } = run('losetup', ['-f', '--show', image]);
      const device = output.trim();
      try {
        succeeds(EXT4D, ['mount', device, mountpoint]);
        assert.equal(readMountinfo().findLast((entry) => entry.mountpoint === mountpoint)?.type, 'fuseblk.ext4d');
        const second = join(scratch, 'second');
        mkdirSync(second);
        for (const words of ['offset=1024', 'part=1']) {
          const other = run(EXT4D, ['mount', '-o', words, device, second]);
          assert.equal(other.code, 32);
          assert.match(other.output, /already mounted/);
        }
        writeFileSync(join(mountpoint, 'file'), 'content');
        succeeds('umount', [mountpoint]);
        const { code, output: said } = fsckFile(device);
        assert.equal(code, 0, said);
        succeeds(EXT4D, ['mount', device, mountpoint]);
        assert.equal(readFileSync(join(mountpoint, 'file'), 'utf8'), 'content');
        succeeds(EXT4D, ['umount', mountpoint]);
      } finally {
        killServer(mountpoint, device);
        if (isMounted(mountpoint)) run('umount', ['-l', mountpoint]);
        run('losetup', ['-d', device]);
      }
    }));

  it('is shown in a second place by a second mount, until both are gone', () =>
    withImage(async (image, mountpoint, scratch) => {
      const device = run('losetup', ['-f', '--show', image]).output.trim();
      const second = join(scratch, 'second');
      mkdirSync(second);
      try {
        succeeds(EXT4D, ['mount', device, mountpoint]);
        // As everything below / is where systemd runs.
        succeeds('mount', ['--make-shared', mountpoint]);
        const server = serverOf(mountpoint, device);
        const { code, output } = run(HELPER, [device, second, '-o', 'rw,noexec,nosuid,nofail,commit=30']);
        assert.equal(code, 0);
        assert.equal(output, `${device}: commit=30: as on ${mountpoint}\n`);
        writeFileSync(join(second, 'file'), 'content');
        assert.equal(readFileSync(join(mountpoint, 'file'), 'utf8'), 'content');
        const { words = [] } = readMountinfo().findLast((entry) => entry.mountpoint === second) ?? {};
        assert.ok(words.includes('noexec') && words.includes('nosuid'));
        assert.ok(
          !readMountinfo()
            .find((entry) => entry.mountpoint === mountpoint)
            ?.words.includes('noexec'),
        );
        succeeds('umount', [mountpoint]);
        assert.ok(server !== null && isAlive(server));
        writeFileSync(join(second, 'file'), 'more content');
        const differs = run(EXT4D, ['mount', '-o', 'ro', device, mountpoint]);
        assert.equal(differs.code, 32);
        assert.match(differs.output, /already mounted read-write on .*: mount -o remount,ro /);
        succeeds(EXT4D, ['umount', second]);
        assert.ok(!isAlive(server));
        clean(image);
      } finally {
        for (const at of [second, mountpoint]) {
          killServer(at, device);
          if (isMounted(at)) run('umount', ['-l', at]);
        }
        run('losetup', ['-d', device]);
      }
    }));

  const withLoop = (
    flags: string[],
    use: (device: string, mountpoint: string, image: string) => void | Promise<void>,
  ) =>
    withImage(async (image, mountpoint) => {
      const device = run('losetup', ['-f', '--show', ...flags, image]).output.trim();
      try {
        await use(device, mountpoint, image);
      } finally {
        killServer(mountpoint, device);
        if (isMounted(mountpoint)) run('umount', ['-l', mountpoint]);
        run('losetup', ['-d', device]);
      }
    });

  it('that is write-protected is mounted read-only, unless rw was asked for', () =>
    withLoop(['-r'], (device, mountpoint) => {
      const asked = run(EXT4D, ['mount', '-o', 'rw', device, mountpoint]);
      assert.equal(asked.code, 32, asked.output);
      const { code, output } = run(HELPER, [device, mountpoint, '-o', 'rw,noatime']);
      assert.equal(code, 0, output);
      assert.match(output, /write-protected, mounting read-only/);
      assert.throws(() => writeFileSync(join(mountpoint, 'file'), ''), { code: 'EROFS' });
      succeeds('umount', [mountpoint]);
    }));

  it('tells where the blocks of a file are (FIBMAP), with what is still in the page cache', () =>
    withLoop([], (device, mountpoint) => {
      succeeds(EXT4D, ['mount', device, mountpoint]);
      const file = join(mountpoint, 'file');
      writeFileSync(file, Buffer.alloc(5 * 4096, 'x'));
      succeeds('fallocate', ['-o', '20480', '-l', '8192', file]);
      // FIBMAP is number 1; python is what the native part is built with.
      const ask = `import fcntl, struct
      with open(${JSON.stringify(file)}) as f:
        print([struct.unpack('i', fcntl.ioctl(f, 1, struct.pack('i', n)))[0] for n in range(7)])`;
      const shown = run('python3', ['-c', ask.replace(/^ {6}/gm, '')]).output;
      succeeds('umount', [mountpoint]);
      const first = Number(/^\d+/m.exec(run('debugfs', ['-R', 'bmap file 0', device]).output)?.[0]);
      assert.deepEqual(
        JSON.parse(shown),
        [0, 1, 2, 3, 4, 5, 6].map((n) => first + n),
        'swap files are made with fallocate',
      );
    }));

  it('data that goes through the log is where FIBMAP says, and is not written there again', () =>
    withLoop([], (device, mountpoint) => {
      succeeds(EXT4D, ['mount', '-o', 'data=journal', device, mountpoint]);
      const file = join(mountpoint, 'file');
      const content = Buffer.alloc(64 << 10, 'x');
      writeFileSync(file, content, { mode: 0o600 });
      const ask = `import fcntl, struct
      with open(${JSON.stringify(file)}) as f:
        print(struct.unpack('i', fcntl.ioctl(f, 1, struct.pack('i', 0)))[0])`;
      const block = Number(run('python3', ['-c', ask.replace(/^ {6}/gm, '')]).output);
      const disk = openSync(device, 'r+');
      const there = Buffer.alloc(content.length);
      readSync(disk, there, 0, there.length, block * 4096);
      assert.ok(there.equals(content), 'it was in the log only');
      // As the kernel does with a swap file.
      const swapped = Buffer.alloc(content.length, 'y');
      writeSync(disk, swapped, 0, swapped.length, block * 4096);
      fsyncSync(disk);
      succeeds('umount', [mountpoint]);
      readSync(disk, there, 0, there.length, block * 4096);
      closeSync(disk);
      assert.ok(there.equals(swapped), 'a checkpoint wrote over it');
      const { code, output } = fsckFile(device);
      assert.equal(code, 0, output);
    }));
});
