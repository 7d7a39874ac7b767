/** Filesystems with clusters: changed in turn by the kernel's ext4 and through ext4d, judged by both and by e2fsck. */
import assert from 'node:assert/strict';
import {
  closeSync,
  copyFileSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { mustBeClean } from '../support/clean.js';
import { makeKernelDirty, noKernelDirty } from '../support/kernel-dirty.js';
import { makeImageFile, run } from '../support/mke2fs.js';
import {
  requireOrSkip,
  whyNoFuse,
  whyNoKernelExt4,
  withKernelMount,
  withMount,
  withMountpoint,
} from '../support/server.js';
import { describeTree, treeDifferences } from '../support/tree.js';
import { generator } from '../unit/ext4/volume-fixture.js';

const FORMATS = [
  { name: '4k blocks, 16k clusters', args: ['-b', '4096', '-O', 'bigalloc', '-C', '16384'] },
  { name: '4k blocks, 64k clusters', args: ['-b', '4096', '-O', 'bigalloc', '-C', '65536'] },
  { name: '1k blocks, 8k clusters', args: ['-b', '1024', '-O', 'bigalloc', '-C', '8192'] },
  { name: 'no journal', args: ['-b', '4096', '-O', 'bigalloc,^has_journal', '-C', '16384'] },
  { name: 'one group after the other', args: ['-b', '1024', '-O', 'bigalloc,^flex_bg', '-C', '2048', '-g', '8192'] },
];

/** Files and what they hold, changed on whatever is mounted. */
class Changes {
  private readonly random: (limit: number) => number;
  private readonly contents = new Map<string, Buffer>();
  private made = 0;

  constructor(seed: number) {
    this.random = generator(seed);
  }

  run(root: string, steps: number): void {
    for (let step = 0; step < steps; step++) this.step(root);
  }

  check(root: string): void {
    for (const [name, content] of this.contents) {
      const found = readFileSync(join(root, name));
      assert.equal(found.length, content.length, name);
      const different = found.equals(content) ? -1 : found.findIndex((byte, i) => byte !== content[i]);
      assert.equal(different, -1, `byte ${different} of ${name} is ${found[different]}`);
    }
  }

  private step(root: string): void {
    const choice = this.random(100);
    if (choice < 10 || this.contents.size === 0) {
      const name = `file ${this.made++}`;
      this.contents.set(name, Buffer.alloc(0));
      writeFileSync(join(root, name), '');
      this.write(root, name, 0);
      return;
    }
    const names = [...this.contents.keys()];
    const name = names[this.random(names.length)];
    const path = join(root, name);
    const size = this.content(name).length;
    const offset = this.random(this.random(3) === 0 ? 2_000_000 : 200_000);
    const length = 1 + this.random([100, 5000, 100_000][this.random(3)]);
    if (choice < 35) this.write(root, name, offset);
    else if (choice < 45) this.write(root, name, size);
    else if (choice < 55) {
      truncateSync(path, offset);
      this.resize(name, offset);
    } else if (choice < 68) {
      this.fallocate('-p', path, offset, length);
      this.content(name).fill(0, Math.min(offset, size), Math.min(offset + length, size));
    } else if (choice < 74) {
      this.fallocate('-z', path, offset, length);
      this.resize(name, Math.max(size, offset + length));
      this.content(name).fill(0, offset, offset + length);
    } else if (choice < 80) {
      this.fallocate('-n', path, offset, length);
    } else if (choice < 86) {
      const directory = join(root, `directory ${this.made++}`);
      mkdirSync(directory);
      for (let i = this.random(120); i > 0; i--) writeFileSync(join(directory, `${'n'.repeat(200)}${i}`), '');
      symlinkSync('t'.repeat(1 + this.random(900)), join(directory, 'link'));
    } else if (choice < 89) {
      const directories = readdirSync(root).filter((each) => each.startsWith('directory'));
      if (directories.length > 0) rmSync(join(root, directories[0]), { recursive: true });
    } else if (choice < 94) {
      const value = 'v'.repeat(this.random(280));
      assert.equal(run('setfattr', ['-n', `user.${this.random(3)}`, '-v', value, path]).output, '');
    } else if (choice < 97) {
      this.contents.delete(name);
      rmSync(path);
    } else {
      const fd = openSync(path, 'r+');
      fsyncSync(fd);
      closeSync(fd);
    }
  }

  private content(name: string): Buffer {
    return this.contents.get(name) ?? Buffer.alloc(0);
  }

  private resize(name: string, size: number): void {
    const next = Buffer.alloc(size);
    this.content(name).copy(next);
    this.contents.set(name, next);
  }

  private write(root: string, name: string, offset: number): void {
    const data = Buffer.alloc(1 + this.random([300, 9000, 150_000][this.random(3)]), 1 + this.random(255));
    const fd = openSync(join(root, name), 'r+');
    writeSync(fd, data, 0, data.length, offset);
    closeSync(fd);
    this.resize(name, Math.max(this.content(name).length, offset + data.length));
    data.copy(this.content(name), offset);
  }

  private fallocate(mode: string, path: string, offset: number, length: number): void {
    assert.equal(run('fallocate', [mode, '-o', String(offset), '-l', String(length), path]).output, '');
  }
}

describe('clusters (bigalloc)', function () {
  this.timeout(180_000);
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse() ?? whyNoKernelExt4() ?? noKernelDirty());
  });

  FORMATS.forEach(({ name, args }, seed) => {
    it(`are the same to the kernel and to ext4d, each changing what the other left (${name})`, () =>
      withMountpoint(async (scratch, mountpoint) => {
        const image = join(scratch, 'image');
        makeImageFile(image, 160, args);
        const changes = new Changes(seed + 1);
        const turn = () => {
          changes.check(mountpoint);
          changes.run(mountpoint, 120);
          changes.check(mountpoint);
        };
        await withKernelMount(image, mountpoint, '', turn);
        for (let round = 0; round < 3; round++) {
          await withMount(image, mountpoint, '', turn);
          mustBeClean(image);
          await withKernelMount(image, mountpoint, '', turn);
          mustBeClean(image);
        }
      }));
  });

  it('are counted whole for the quotas of their owners', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 160, ['-b', '4096', '-O', 'bigalloc,quota,project', '-C', '16384']);
      const changes = new Changes(6);
      for (let round = 0; round < 2; round++) {
        await withMount(image, mountpoint, '', () => {
          changes.check(mountpoint);
          changes.run(mountpoint, 200);
        });
        // e2fsck counts them, too.
        mustBeClean(image);
      }
    }));

  for (const { name, args } of FORMATS.slice(0, 3)) {
    it(`are counted as the kernel counts them, filled to the last, freed and filled again (${name})`, () =>
      withMountpoint(async (scratch, mountpoint) => {
        const image = join(scratch, 'image');
        makeImageFile(image, 48, args);
        const space = () => {
          const { bsize, blocks, bfree, bavail, files, ffree } = statfsSync(mountpoint);
          return { bsize, blocks, bfree, files, ffree, reserved: bfree >= bavail };
        };
        const fill = (from: number): number => {
          for (let i = from; ; i++) {
            try {
              writeFileSync(join(mountpoint, `fill ${i}`), Buffer.alloc(1 + ((i * 7919) % 300_000), 'f'));
            } catch (error) {
              assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
              return i;
            }
          }
        };
        let empty = {};
        await withMount(image, mountpoint, '', () => {
          const before = space();
          empty = before;
          const first = fill(0);
          assert.ok(space().bfree < before.bfree / 10, `${space().bfree} of ${before.bfree} blocks are free`);
          for (let i = 0; i <= first; i += 2) rmSync(join(mountpoint, `fill ${i}`));
          const second = fill(first + 1);
          assert.ok(second > first + 4, `${second - first} files fitted where ${first / 2} were`);
          for (let i = 0; i <= second; i++) rmSync(join(mountpoint, `fill ${i}`), { force: true });
        });
        mustBeClean(image);
        let ours = {};
        let theirs = {};
        await withMount(image, mountpoint, '', () => {
          assert.deepEqual(space(), empty);
          writeFileSync(join(mountpoint, 'small'), 'x');
          // stat shows whole clusters.
          assert.equal(statSync(join(mountpoint, 'small')).blocks * 512, Number(args[args.length - 1]));
          ours = space();
        });
        mustBeClean(image);
        await withKernelMount(image, mountpoint, '', () => {
          theirs = space();
        });
        assert.deepEqual(ours, theirs);
      }));

    it(`left dirty by the kernel are recovered to its tree, and written to (${name})`, () =>
      withMountpoint(async (scratch, mountpoint) => {
        const image = join(scratch, 'image');
        const copy = join(scratch, 'copy');
        makeKernelDirty(image, scratch, { mkfs: args, sizeMiB: 160, operations: 500, seed: 3 });
        copyFileSync(image, copy);
        let want = new Map<string, string>();
        await withKernelMount(copy, mountpoint, '', () => {
          want = describeTree(mountpoint);
        });
        await withMount(image, mountpoint, '', () => {
          assert.deepEqual(treeDifferences(want, describeTree(mountpoint)), []);
          new Changes(4).run(mountpoint, 100);
        });
        mustBeClean(image);
      }));
  }
});
