/** Small files and directories that lie in their inodes, read and written by ext4d and by the kernel in turn. */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fsckFile, makeImageFile, run } from '../support/mke2fs.js';
import {
  requireOrSkip,
  whyNoFuse,
  whyNoKernelExt4,
  withKernelMount,
  withMount,
  withMountpoint,
} from '../support/server.js';
import { describeTree, type Tree, treeDifferences } from '../support/tree.js';

const SIZES = [0, 1, 40, 59, 60, 61, 64, 80, 100, 120, 128, 130, 140, 200, 1024, 1025, 5000, 70_000];

function content(size: number, seed: number): Buffer {
  return Buffer.from(Array.from({ length: size }, (_, i) => 33 + ((i * 7 + seed) % 90)));
}

/** Files of all sizes around the limits, directories that fill step by step, links, attributes. */
function populate(root: string): void {
  const at = (path: string) => join(root, path);
  for (const size of SIZES) writeFileSync(at(`file-${size}`), content(size, size));
  for (const size of SIZES) symlinkSync('x'.repeat(Math.max(1, Math.min(size, 900))), at(`link-${size}`));
  for (let names = 0; names < 14; names++) {
    mkdirSync(at(`dir-${names}`));
    for (let i = 0; i < names; i++) writeFileSync(at(`dir-${names}/n${i}`), content(i * 9, i));
  }
  mkdirSync(at('long'));
  writeFileSync(at(`long/${'l'.repeat(200)}`), 'content');
  mkdirSync(at('deep/er/and/deeper'), { recursive: true });
  for (const size of [0, 30, 90, 120]) {
    const path = at(`attributes-${size}`);
    writeFileSync(path, content(size, 5));
    assert.equal(run('setfattr', ['-n', 'user.a', '-v', 'short', path]).code, 0);
    assert.equal(run('setfattr', ['-n', 'user.b', '-v', 'b'.repeat(100), path]).code, 0);
  }
  writeFileSync(at('cut'), content(120, 8));
  truncateSync(at('cut'), 70);
  truncateSync(at('cut'), 30);
  truncateSync(at('cut'), 50);
  writeFileSync(at('grown'), content(20, 9));
  truncateSync(at('grown'), 3000);
  writeFileSync(at('sparse'), content(100, 9));
  appendFileSync(at('sparse'), content(3, 9));
}

function assertSame(want: Tree, got: Tree): void {
  assert.deepEqual(treeDifferences(want, got), []);
}

/** Random changes to a tree, the same ones for the same seed. */
function churn(root: string, seed: number, steps: number): void {
  let state = seed;
  const random = (limit: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
  const directories = [root];
  const files: string[] = [];
  for (let i = 0; i < steps; i++) {
    const directory = directories[random(directories.length)];
    const fresh = join(directory, `${i}${'n'.repeat(random(4) === 0 ? random(90) : random(6))}`);
    const n = random(files.length);
    const kind = random(12);
    if (kind < 3 || files.length < 4) {
      writeFileSync(fresh, content(SIZES[random(SIZES.length)], i));
      files.push(fresh);
    } else if (kind === 3) {
      mkdirSync(fresh);
      directories.push(fresh);
    } else if (kind === 4) appendFileSync(files[n], content(random(90), i));
    else if (kind === 5) truncateSync(files[n], SIZES[random(SIZES.length - 3)]);
    else if (kind === 6) unlinkSync(files.splice(n, 1)[0]);
    else if (kind === 7) {
      renameSync(files[n], fresh);
      files[n] = fresh;
    } else if (kind === 8) {
      const fd = openSync(files[n], 'r+');
      writeSync(fd, content(1 + random(40), i), 0, 1, random(150));
      closeSync(fd);
    } else if (kind === 9) {
      assert.equal(run('setfattr', ['-n', `user.${random(3)}`, '-v', 'v'.repeat(random(60)), files[n]]).code, 0);
    } else if (kind === 10) {
      symlinkSync('t'.repeat(1 + random(120)), fresh);
    } else {
      const empty = directories.findIndex((path, at) => at > 0 && readdirSync(path).length === 0);
      if (empty > 0) rmdirSync(directories.splice(empty, 1)[0]);
      else if (directories.length > 2) {
        const moved = directories[directories.length - 1];
        const to = join(root, `moved-${i}`);
        renameSync(moved, to);
        directories[directories.length - 1] = to;
        files.forEach((path, at) => {
          if (path.startsWith(`${moved}/`)) files[at] = to + path.slice(moved.length);
        });
      }
    }
  }
}

/** Changes what earlier rounds, of the other side, have left. */
function churnOld(root: string, seed: number): void {
  const paths = run('find', [root, '-type', 'f', '-not', '-path', `*/round-${seed}/*`])
    .output.split('\n')
    .filter(Boolean)
    .sort();
  paths.forEach((path, i) => {
    const kind = (i * 7 + seed) % 6;
    if (kind === 0) unlinkSync(path);
    else if (kind === 1) appendFileSync(path, content((i * 13) % 70, i));
    else if (kind === 2) truncateSync(path, SIZES[i % 14]);
    else if (kind === 3) renameSync(path, `${path}-${seed}`);
  });
}

function assertClean(image: string): void {
  const { code, output } = fsckFile(image);
  assert.equal(code, 0, output);
  const { code: own, output: said } = run(join(process.cwd(), 'bin/ext4d'), ['check', image]);
  assert.equal(own, 0, said);
}

function inlineFiles(image: string, path: string): boolean {
  return /Flags: 0x1/.test(run('debugfs', ['-R', `stat ${path}`, image]).output);
}

describe('inline data', function () {
  this.timeout(180_000);
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse() ?? whyNoKernelExt4());
  });

  for (const mkfs of [
    ['-b', '1024', '-I', '256'],
    ['-b', '4096', '-I', '256'],
    ['-b', '4096', '-I', '1024'],
    ['-b', '1024', '-I', '256', '-O', '^extents,^64bit,^metadata_csum'],
  ]) {
    describe(mkfs.join(' '), () => {
      const make = (image: string) => makeImageFile(image, 32, ['-O', 'inline_data', ...mkfs]);

      it('of the kernel is read as the kernel reads it', () =>
        withMountpoint(async (scratch, mountpoint) => {
          const image = join(scratch, 'image');
          make(image);
          let want: Tree = new Map();
          await withKernelMount(image, mountpoint, '', () => {
            populate(mountpoint);
            want = describeTree(mountpoint);
          });
          assert.ok(inlineFiles(image, 'file-61') && inlineFiles(image, 'dir-2'));
          await withMount(image, mountpoint, 'ro', () => assertSame(want, describeTree(mountpoint)));
          assertClean(image);
        }));

      it('of ext4d is read by the kernel as it was written, and e2fsck finds nothing', () =>
        withMountpoint(async (scratch, mountpoint) => {
          const image = join(scratch, 'image');
          make(image);
          let want: Tree = new Map();
          await withMount(image, mountpoint, '', () => {
            populate(mountpoint);
            want = describeTree(mountpoint);
          });
          assert.ok(inlineFiles(image, 'file-61') && inlineFiles(image, 'dir-2'));
          assertClean(image);
          await withKernelMount(image, mountpoint, 'ro', () => assertSame(want, describeTree(mountpoint)));
          await withMount(image, mountpoint, 'ro', () => assertSame(want, describeTree(mountpoint)));
        }));

      it('is changed at random by both in turn, and stays what both say it is', () =>
        withMountpoint(async (scratch, mountpoint) => {
          const image = join(scratch, 'image');
          make(image);
          let want: Tree = new Map();
          const change = (seed: number) => () => {
            if (want.size > 0) assertSame(want, describeTree(mountpoint));
            mkdirSync(join(mountpoint, `round-${seed}`));
            churn(join(mountpoint, `round-${seed}`), seed, 200);
            churnOld(mountpoint, seed);
            want = describeTree(mountpoint);
          };
          for (let round = 1; round <= 3; round++) {
            await withMount(image, mountpoint, '', change(round * 2));
            assertClean(image);
            await withKernelMount(image, mountpoint, '', change(round * 2 + 1));
            assertClean(image);
            // What a kernel writes behind a size that it raised over inline data may be lost when it unmounts: it is not
            // what the kernel showed before that which must be found.
            await withKernelMount(image, mountpoint, 'ro', () => {
              want = describeTree(mountpoint);
            });
          }
          await withMount(image, mountpoint, 'ro', () => assertSame(want, describeTree(mountpoint)));
        }));
    });
  }
});
