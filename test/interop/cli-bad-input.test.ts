/** Whatever is wrong with the input: one clear line, the right exit code, and an image without a changed byte. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { makeImageFile, run } from '../support/mke2fs.js';
import { EXT4D, isMounted, requireOrSkip, whyNoFuse, withMountpoint } from '../support/server.js';

const sha256 = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');

function poke(path: string, offset: number, bytes: number[]): void {
  const fd = openSync(path, 'r+');
  try {
    writeSync(fd, Uint8Array.from(bytes), 0, bytes.length, offset);
  } finally {
    closeSync(fd);
  }
}

/** `ext4d mount` must fail like this, and change nothing. */
function refuses(image: string, mountpoint: string, exit: number, line: RegExp, options: string[] = []): void {
  const before = sha256(image);
  const { status, stderr, stdout } = spawnSync(EXT4D, ['mount', ...options, image, mountpoint], {
    encoding: 'utf8',
    timeout: 20_000,
  });
  assert.match(stderr, line);
  assert.equal(stderr.trimEnd().split('\n').length, 1, `more than one line: ${stderr}`);
  assert.equal(stdout, '');
  assert.equal(status, exit, stderr);
  assert.equal(isMounted(mountpoint), false);
  assert.equal(sha256(image), before, 'the image was changed');
}

/** Offsets in the image: the superblock starts at byte 1024. */
const S_MAGIC = 1024 + 0x38;
const S_FEATURE_INCOMPAT = 1024 + 0x60;
const S_CHECKSUM_AREA = 1024 + 0x88;

describe('bad input to ext4d mount', function () {
  this.timeout(60_000);

  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse());
  });

  const cases: { title: string; exit: number; line: RegExp; options?: string[]; make: (image: string) => void }[] = [
    {
      title: 'an empty file',
      exit: 32,
      line: /not an ext4 filesystem/,
      make: (image) => writeFileSync(image, ''),
    },
    {
      title: 'a text file',
      exit: 32,
      line: /not an ext4 filesystem/,
      make: (image) => writeFileSync(image, 'hello\n'.repeat(10_000)),
    },
    {
      title: 'an image without the magic number',
      exit: 32,
      line: /not an ext4 filesystem/,
      make: (image) => {
        makeImageFile(image, 16);
        poke(image, S_MAGIC, [0, 0]);
      },
    },
    {
      title: 'a truncated image',
      exit: 32,
      line: /truncated/,
      make: (image) => {
        makeImageFile(image, 16);
        truncateSync(image, 5 << 20);
      },
    },
    {
      title: 'a superblock with a wrong checksum',
      exit: 32,
      line: /superblock.*checksum.*e2fsck/,
      make: (image) => {
        makeImageFile(image, 16);
        poke(image, S_CHECKSUM_AREA, [1, 2, 3]);
      },
    },
    {
      title: 'an unknown incompatible feature, by its bit',
      exit: 32,
      line: /unknown_incompat_31/,
      make: (image) => {
        makeImageFile(image, 16, ['-O', '^metadata_csum']);
        poke(image, S_FEATURE_INCOMPAT + 3, [0x80]);
      },
    },
    {
      title: 'an unsupported feature, by its name',
      exit: 32,
      line: /not supported: dirdata/,
      make: (image) => {
        makeImageFile(image, 16);
        run('debugfs', ['-w', '-R', 'feature dirdata', image]);
      },
    },
    {
      title: 'meta block groups that begin behind the last group',
      exit: 32,
      line: /s_first_meta_bg is 842150400/,
      make: (image) => {
        makeImageFile(image, 16, ['-O', 'meta_bg,^resize_inode']);
        run('debugfs', ['-w', '-R', 'ssv first_meta_bg 842150400', image]);
      },
    },
    {
      title: 'a journal inode that is not one',
      exit: 32,
      line: /journal|inode 8/,
      make: (image) => {
        makeImageFile(image, 16, ['-O', '^metadata_csum']);
        run('debugfs', ['-w', '-R', 'clri <8>', image]);
      },
    },
    {
      title: 'a corrupt journal superblock',
      exit: 32,
      line: /journal/,
      make: (image) => {
        makeImageFile(image, 16);
        const { output } = run('debugfs', ['-R', 'bmap <8> 0', image]);
        const block = Number(/^(\d+)$/m.exec(output)?.[1]);
        assert.ok(block > 0, output);
        poke(image, block * 4096, [1, 2, 3, 4]);
      },
    },
    {
      title: 'an unknown option',
      exit: 1,
      line: /unknown mount option: frobnicate; .*help mount$/m,
      options: ['-o', 'ro,frobnicate'],
      make: (image) => makeImageFile(image, 16),
    },
    {
      title: 'an unsupported option, with the reason',
      exit: 1,
      line: /dax is not supported/,
      options: ['-o', 'dax'],
      make: (image) => makeImageFile(image, 16),
    },
    {
      title: 'an offset behind the end',
      exit: 32,
      line: /offset/,
      options: ['-o', 'offset=1099511627776'],
      make: (image) => makeImageFile(image, 16),
    },
    {
      title: 'rw for an image that can only be read',
      exit: 32,
      line: /cannot be mounted read-write.*verity/,
      options: ['-o', 'rw'],
      make: (image) => makeImageFile(image, 16, ['-O', 'verity']),
    },
  ];
  for (const { title, exit, line, options, make } of cases) {
    it(title, () =>
      withMountpoint(async (scratch, mountpoint) => {
        const image = join(scratch, 'image');
        make(image);
        refuses(image, mountpoint, exit, line, options);
      }),
    );
  }

  it('an image or a mountpoint that does not exist, or is something else', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 16);
      const fails = (args: string[], line: RegExp) => {
        const { code, output } = run(EXT4D, ['mount', ...args]);
        assert.match(output, line);
        assert.equal(output.trimEnd().split('\n').length, 1, output);
        assert.equal(code, 32, output);
      };
      fails([join(scratch, 'nothing'), mountpoint], /no such file or device: check/);
      fails([scratch, mountpoint], /is a directory/);
      fails(['/dev/null', mountpoint], /not an image file or block device/);
      fails([image, join(scratch, 'nowhere')], /no such mountpoint.*mkdir/);
      fails([image, image], /not a directory/);
      for (const fd of [3, 8, 9, 20, 300]) {
        fails([image, `/dev/fd/${fd}`], /not a connection to \/dev\/fuse/);
        fails(['-f', image, `/dev/fd/${fd}`], /not a connection to \/dev\/fuse/);
      }
      for (const command of ['info', 'check', 'replay', 'journal', 'quota']) {
        const { code, output } = run(EXT4D, [command, '/dev/null']);
        assert.match(output, /not an image file or block device/);
        assert.equal(code, 8);
      }
    }));

  it('an image without permission to read it', function () {
    requireOrSkip(this, process.getuid?.() === 0 ? null : 'giving up permissions needs root');
    return withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 16);
      const before = sha256(image);
      run('chmod', ['600', image]);
      run('chmod', ['711', scratch]);
      run('chown', ['nobody', mountpoint]);
      const { code, output } = run('setpriv', [
        '--reuid=65534',
        '--regid=65534',
        '--clear-groups',
        process.execPath,
        EXT4D,
        'mount',
        image,
        mountpoint,
      ]);
      // Where an ordinary user may not use /dev/fuse at all, that is what is told.
      assert.match(output, /permission denied|may not be opened/);
      assert.ok(code === 1 || code === 2, `exit code ${code}`);
      assert.equal(sha256(image), before);
    });
  });

  it('wrong arguments show the usage', () => {
    for (const args of [['mount'], ['mount', 'a'], ['mount', 'a', 'b', 'c'], ['mount', '-x', 'a', 'b'], ['umount']]) {
      const { code, output } = run(EXT4D, args);
      assert.equal(code, 1, output);
      assert.match(output, /usage: ext4d/);
    }
    assert.equal(run(EXT4D, ['frobnicate']).code, 1);
    assert.match(run(EXT4D, ['--help']).output, /umount/);
    assert.match(run(EXT4D, ['--version']).output, /^ext4d \d+\./);
  });

  it('umount of what is not mounted, or not ours', () =>
    withMountpoint(async (_scratch, mountpoint) => {
      const { code, output } = run(EXT4D, ['umount', mountpoint]);
      assert.equal(code, 32);
      assert.match(output, /not mounted/);
      const other = run(EXT4D, ['umount', '/proc']);
      assert.equal(other.code, 32);
      assert.match(other.output, /proc.*not by ext4d/);
      assert.ok(statSync('/proc/self').isDirectory());
    }));
});

describe('the commands', () => {
  it('run through a symbolic link and from any directory', () =>
    withMountpoint(async (scratch) => {
      const link = join(scratch, 'link');
      run('ln', ['-s', EXT4D, link]);
      mkdirSync(join(scratch, 'elsewhere'));
      const { status, stdout } = spawnSync(link, ['--version'], { cwd: join(scratch, 'elsewhere'), encoding: 'utf8' });
      assert.equal(status, 0);
      assert.match(stdout, /^ext4d /);
    }));
});
