/** Filesystems laid out otherwise than mke2fs does by default: written through ext4d, judged by e2fsck and the kernel. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fsckFile, makeImageFile, run } from '../support/mke2fs.js';
import { Mount, requireOrSkip, whyNoFuse, withMount, withMountpoint } from '../support/server.js';

const LAYOUTS: { name: string; args: string[]; kernel: boolean }[] = [
  {
    name: 'meta_bg, 1k blocks, small groups',
    args: ['-b', '1024', '-g', '1024', '-O', 'meta_bg,^resize_inode'],
    kernel: true,
  },
  {
    name: 'meta_bg without 64bit and flex_bg',
    args: ['-b', '1024', '-g', '512', '-O', 'meta_bg,^resize_inode,^64bit,^flex_bg'],
    kernel: true,
  },
  { name: 'sparse_super2', args: ['-b', '1024', '-g', '2048', '-O', 'sparse_super2,^resize_inode'], kernel: true },
  {
    name: 'every group with a superblock',
    args: ['-b', '1024', '-g', '2048', '-O', '^sparse_super,^resize_inode'],
    kernel: true,
  },
  { name: 'uninit_bg', args: ['-b', '1024', '-O', 'uninit_bg,^metadata_csum'], kernel: true },
  { name: 'fast_commit, clean', args: ['-b', '1024', '-O', 'fast_commit'], kernel: true },
  { name: '8k blocks', args: ['-b', '8192'], kernel: false },
  { name: '64k blocks', args: ['-b', '65536', '-J', 'size=64'], kernel: false },
];

function writeThings(at: (path: string) => string): void {
  mkdirSync(at('d'));
  for (let i = 0; i < 1500; i++) writeFileSync(at(`d/file number ${i}`), `content ${i}`);
  for (let i = 0; i < 1500; i += 2) rmSync(at(`d/file number ${i}`));
  writeFileSync(at('large'), Buffer.alloc(9_000_000, 'large '));
  symlinkSync('t'.repeat(300), at('link'));
}

function checkThings(at: (path: string) => string): void {
  assert.equal(readdirSync(at('d')).length, 750);
  for (let i = 1; i < 1500; i += 2) assert.equal(readFileSync(at(`d/file number ${i}`), 'utf8'), `content ${i}`);
  assert.ok(readFileSync(at('large')).equals(Buffer.alloc(9_000_000, 'large ')));
}

describe('a layout of its own', function () {
  this.timeout(120_000);
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse());
  });

  for (const { name, args, kernel } of LAYOUTS) {
    it(`is written, recovered after a kill, and read by others (${name})`, () =>
      withMountpoint(async (scratch, mountpoint) => {
        const image = join(scratch, 'image');
        makeImageFile(image, 256, args);
        const at = (path: string) => join(mountpoint, path);
        await withMount(image, mountpoint, '', () => writeThings(at));
        const { code, output } = fsckFile(image);
        assert.equal(code, 0, output);
        await withMount(image, mountpoint, '', () => checkThings(at));
        if (kernel && process.getuid?.() === 0) {
          assert.equal(run('mount', ['-i', '-o', 'loop,ro', image, mountpoint]).output, '');
          try {
            checkThings(at);
          } finally {
            run('umount', [mountpoint]);
          }
        }
        const mount = await Mount.start(image, mountpoint, '');
        try {
          rmSync(at('d'), { recursive: true });
          writeFileSync(at('synced'), 'synced');
          assert.equal(run('sync', [at('synced'), at('')]).output, '');
          await mount.kill();
        } finally {
          mount.cleanUp();
        }
        await withMount(image, mountpoint, '', () => assert.equal(readFileSync(at('synced'), 'utf8'), 'synced'));
        assert.equal(fsckFile(image).code, 0);
      }));
  }
});
