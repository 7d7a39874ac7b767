/**
 * Fast commits that ext4d wrote, after SIGKILL: the kernel's ext4, e2fsck and ext4d each recover a copy of the image, and
 * each shows what had been fsynced.
 */
import assert from 'node:assert/strict';
import {
  closeSync,
  copyFileSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { MemoryDevice } from '../../src/block/memory-device.js';
import { Random } from '../../src/crash/crash-points.js';
import { openVolume } from '../../src/ext4/open.js';
import { fsckFile, makeImageFile, run } from '../support/mke2fs.js';
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
import { describeTree, type Tree, treeDifferences } from '../support/tree.js';

const ROUNDS = Number(process.env.EXT4D_FAST_COMMIT_ROUNDS ?? 3);
const FORMATS: Record<string, readonly string[]> = {
  '4k': ['-O', 'fast_commit'],
  '1k with an orphan file': ['-b', '1024', '-O', 'fast_commit,orphan_file'],
};
const DIRECTORIES = ['one', 'two'];

/** Times of directories are not recorded. */
function durable(root: string): Tree {
  const tree = describeTree(root);
  for (const [path, line] of tree) if (line.startsWith('mode 4')) tree.set(path, line.replace(/mtime \d+/, ''));
  return tree;
}

/** Changes files below `root`, each change of content followed by fsync; at the end everything is durable. */
function use(root: string, seed: number, held: number[]): void {
  const random = new Random(seed * 7919 + 1);
  const files: string[] = [];
  const anyFile = () => files[random.below(files.length)];
  const newName = () => join(root, DIRECTORIES[random.below(2)], `${random.next()}`);
  const write = (path: string, flags: string) => {
    const fd = openSync(path, flags);
    try {
      const block = Buffer.alloc(1 + random.below(30_000), random.below(255) + 1);
      writeSync(fd, block, 0, block.length, flags === 'a' ? null : random.below(60_000));
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  };
  for (let i = 0; i < 150; i++) {
    const kind = files.length < 4 ? 0 : random.below(10);
    if (kind <= 2) {
      const path = newName();
      write(path, 'w');
      files.push(path);
    } else if (kind <= 4) {
      write(anyFile(), random.below(2) === 0 ? 'a' : 'r+');
    } else if (kind === 5) {
      const fd = openSync(anyFile(), 'r+');
      ftruncateSync(fd, random.below(40_000));
      fsyncSync(fd);
      closeSync(fd);
    } else if (kind === 6) {
      const path = newName();
      linkSync(anyFile(), path);
      files.push(path);
    } else if (kind === 7) {
      const [from] = files.splice(random.below(files.length), 1);
      const to = random.below(2) === 0 ? newName() : anyFile();
      renameSync(from, to);
      if (!files.includes(to)) files.push(to);
    } else {
      const [path] = files.splice(random.below(files.length), 1);
      // Some are open without a name when the power goes.
      if (kind === 8) held.push(openSync(path, 'r'));
      unlinkSync(path);
    }
  }
  write(newName(), 'w');
}

describe('fast commits after SIGKILL', function () {
  this.timeout(180_000);

  for (const [format, mkfs] of Object.entries(FORMATS)) {
    it(`are replayed by the kernel, by e2fsck and by ext4d (${format})`, async function () {
      requireOrSkip(this, whyNoFuse() ?? whyNoKernelExt4());
      for (let seed = 1; seed <= ROUNDS; seed++) await round(mkfs, seed);
    });
  }
});

async function round(mkfs: readonly string[], seed: number): Promise<void> {
  await withMountpoint(async (scratch, mountpoint) => {
    const image = join(scratch, 'image');
    makeImageFile(image, 64, mkfs);
    const mount = await Mount.start(image, mountpoint, 'commit=300');
    const held: number[] = [];
    let want: Tree;
    try {
      for (const name of DIRECTORIES) mkdirSync(join(mountpoint, name));
      run('sync', ['-f', mountpoint]);
      use(mountpoint, seed, held);
      want = durable(mountpoint);
      await mount.kill();
    } finally {
      for (const fd of held) closeSync(fd);
      mount.cleanUp();
    }
    const { report } = openVolume(new MemoryDevice(new Uint8Array(readFileSync(image))), { readOnly: true });
    assert.ok((report.log?.fastCommits ?? 0) > 0, 'there are no fast commits');
    const same = (who: string) => {
      assert.deepEqual(treeDifferences(want, durable(mountpoint)), [], `seed ${seed}: ${who} shows something else`);
    };

    const copy = join(scratch, 'copy');
    copyFileSync(image, copy);
    await withKernelMount(copy, mountpoint, '', () => same('the kernel'));
    copyFileSync(image, copy);
    const mended = run('e2fsck', ['-fy', copy]);
    assert.ok(mended.code <= 1, `seed ${seed}: e2fsck -fy: exit ${mended.code}: ${mended.output}`);
    await withMount(copy, mountpoint, 'ro', () => same('e2fsck'));
    const replay = run(EXT4D, ['replay', image]);
    assert.ok(replay.code <= 1, replay.output);
    await withMount(image, mountpoint, '', () => same('ext4d'));
    const { code, output } = fsckFile(image);
    assert.equal(code, 0, output);
  });
}
