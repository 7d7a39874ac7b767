/**
 * Images of many formats that the kernel left with a log to replay: the tree is the one that the kernel's own replay
 * gives, and what is left can be written to, lose its server, and be replayed again.
 */
import assert from 'node:assert/strict';
import { closeSync, copyFileSync, fsyncSync, mkdirSync, openSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { mustBeClean } from '../support/clean.js';
import { type DirtyOptions, makeKernelDirty, noKernelDirty } from '../support/kernel-dirty.js';
import { run } from '../support/mke2fs.js';
import {
  EXT4D,
  Mount,
  requireOrSkip,
  whyNoFuse,
  withKernelMount,
  withMount,
  withMountpoint,
} from '../support/server.js';
import { describeTree, type Tree, treeDifferences } from '../support/tree.js';

/** Fast commits are not here: the kernel's own replay of them loses some. See fast-commit.test.ts. */
const FORMATS: Record<string, DirtyOptions> = {
  bigalloc: { mkfs: ['-O', 'bigalloc', '-C', '16384'] },
  'inline data': { mkfs: ['-O', 'inline_data', '-I', '256'] },
  ext3: { mkfs: ['-t', 'ext3'] },
  'ext3 with 1 KiB blocks': { mkfs: ['-t', 'ext3', '-b', '1024'] },
  'no extents': { mkfs: ['-O', '^extent,^64bit'] },
  'attribute inodes': { mkfs: ['-O', 'ea_inode'] },
  'meta block groups': { mkfs: ['-b', '1024', '-O', 'meta_bg,^resize_inode'] },
  'data=journal': { mkfs: ['-J', 'size=16'], mountOptions: 'data=journal', sizeMiB: 96 },
};

const FILES = 12;

function replay(image: string): void {
  const { code, output } = run(EXT4D, ['replay', image]);
  assert.ok(code <= 1, `ext4d replay: exit ${code}: ${output}`);
}

function fsyncPath(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Work on what the replay left, every part of it promised by fsync: old entries removed, new files, an attribute too big for the inode. */
function change(root: string): void {
  for (const name of readdirSync(root)
    .filter((entry) => entry !== 'lost+found')
    .sort()
    .slice(0, 3))
    rmSync(join(root, name), { recursive: true });
  const directory = join(root, 'after-the-replay');
  mkdirSync(directory);
  for (let i = 0; i < FILES; i++) {
    const path = join(directory, `file-${i}`);
    writeFileSync(path, Buffer.alloc(i * i * 700, i + 1));
    const { code, output } = run('setfattr', ['-n', 'user.value', '-v', 'v'.repeat(i * 50), path]);
    assert.equal(code, 0, output);
    fsyncPath(path);
  }
  fsyncPath(directory);
  fsyncPath(root);
}

describe('images that the kernel left dirty', function () {
  this.timeout(120_000);
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, noKernelDirty() ?? whyNoFuse());
  });

  for (const [title, options] of Object.entries(FORMATS)) {
    it(`replays to the kernel's tree, is written to, killed, and replayed again (${title})`, () =>
      withMountpoint(async (scratch, mountpoint) => {
        const ours = join(scratch, 'ours');
        const theirs = join(scratch, 'theirs');
        makeKernelDirty(ours, scratch, { operations: 200, ...options });
        copyFileSync(ours, theirs);

        let want: Tree = new Map();
        await withKernelMount(theirs, mountpoint, '', () => {
          want = describeTree(mountpoint);
        });
        assert.ok(want.size > 20, `the kernel's replay left only ${want.size} entries`);

        replay(ours);
        mustBeClean(ours);
        await withMount(ours, mountpoint, 'ro', () => {
          assert.deepEqual(treeDifferences(want, describeTree(mountpoint)), []);
        });

        let promised: Tree = new Map();
        const mount = await Mount.start(ours, mountpoint);
        try {
          change(mountpoint);
          promised = describeTree(mountpoint);
          await mount.kill();
        } finally {
          mount.cleanUp();
        }
        assert.match(run('dumpe2fs', ['-h', ours]).output, /needs_recovery/, 'the kill left a log to replay');
        replay(ours);
        mustBeClean(ours);
        await withKernelMount(ours, mountpoint, 'ro', () => {
          assert.deepEqual(treeDifferences(promised, describeTree(mountpoint)), []);
        });
      }));
  }
});
