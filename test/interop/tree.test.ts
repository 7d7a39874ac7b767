/** A large tree goes in through ext4d and comes out of the kernel's ext4 unchanged, and the other way round. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fsckFile, makeImageFile } from '../support/mke2fs.js';
import {
  requireOrSkip,
  whyNoFuse,
  whyNoKernelExt4,
  withKernelMount,
  withMount,
  withMountpoint,
} from '../support/server.js';
import { describeTree, type Tree, treeDifferences } from '../support/tree.js';

const FILES = 8000;

/** 8,000 files of every kind, deterministic. An attribute has to fit into one block. */
function makeTree(root: string, largestAttribute = 2000): void {
  mkdirSync(root);
  let state = 12345;
  const random = (limit: number) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
  const directories = [root];
  for (let i = 0; i < 200; i++) {
    const path = join(directories[random(Math.min(directories.length, 40))], `directory-${i}`);
    mkdirSync(path);
    directories.push(path);
  }
  for (let i = 0; i < FILES; i++) {
    const path = join(directories[random(directories.length)], `${'n'.repeat(1 + random(60))}-${i}`);
    const kind = random(100);
    if (kind < 4) {
      symlinkSync('t'.repeat([5, 59, 60, 61, 1000][random(5)]), path);
      continue;
    }
    writeFileSync(path, Buffer.alloc([0, 1, 100, 4096, 5000, 70_000][random(6)], String.fromCharCode(97 + random(26))));
    if (kind < 8) truncateSync(path, random(1 << 20));
    if (kind < 12) linkSync(path, `${path}-link`);
    chmodSync(path, [0o644, 0o600, 0o4755, 0o2711][random(4)]);
    chownSync(path, random(70_000), random(70_000));
    utimesSync(path, random(2 ** 31), 1_000_000_000 + random(1_000_000_000) + 0.123456);
    if (kind < 30)
      execFileSync('setfattr', ['-n', `user.attribute${random(3)}`, '-v', 'v'.repeat(random(largestAttribute)), path]);
  }
  execFileSync('mknod', [join(root, 'fifo'), 'p']);
  execFileSync('mknod', [join(root, 'null'), 'c', '1', '3']);
  execFileSync('mknod', [join(root, 'block'), 'b', '259', '70000']);
}

function copyTree(from: string, to: string): void {
  execFileSync('cp', ['-a', `${from}/.`, to]);
}

function assertClean(image: string): void {
  const { code, output } = fsckFile(image);
  assert.equal(code, 0, output);
}

function assertSame(want: Tree, got: Tree): void {
  assert.ok(want.size > FILES, `the tree has only ${want.size} paths`);
  assert.deepEqual(treeDifferences(want, got), []);
}

describe('a tree of 8,000 files', function () {
  this.timeout(300_000);

  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse() ?? whyNoKernelExt4());
  });

  for (const blockSize of ['4096', '1024']) {
    it(`written through ext4d is read unchanged by the kernel (${blockSize}-byte blocks)`, () =>
      withMountpoint(async (scratch, mountpoint) => {
        const source = join(scratch, 'source');
        makeTree(source, blockSize === '1024' ? 900 : 2000);
        const want = describeTree(source);
        const image = join(scratch, 'image');
        makeImageFile(image, 512, ['-b', blockSize, '-I', '256']);
        await withMount(image, mountpoint, '', () => {
          copyTree(source, mountpoint);
          assertSame(want, describeTree(mountpoint));
        });
        assertClean(image);
        await withKernelMount(image, mountpoint, 'ro', () => assertSame(want, describeTree(mountpoint)));
      }));
  }

  it('written by the kernel is read unchanged through ext4d', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 512);
      let want: Tree = new Map();
      await withKernelMount(image, mountpoint, '', () => {
        makeTree(join(mountpoint, 'tree'));
        want = describeTree(mountpoint);
      });
      await withMount(image, mountpoint, '', () => assertSame(want, describeTree(mountpoint)));
      assertClean(image);
    }));
});
