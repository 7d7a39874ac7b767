/** The table of operations in docs/COMPARISON.md: what each column really does, where it can be asked. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { makeImageFile, run } from '../support/mke2fs.js';
import {
  EXT4D,
  isMounted,
  requireOrSkip,
  skip,
  whyNoFuse,
  whyNoKernelExt4,
  withKernelMount,
  withMount,
  withMountpoint,
} from '../support/server.js';

const ROOT = dirname(dirname(EXT4D));
const COLUMNS = { ext4d: 2, fuse2fs: 3, kernel: 5 } as const;
/** What the table is about. */
const FUSE2FS = '1.47.0';

const rows = readFileSync(join(ROOT, 'docs', 'COMPARISON.md'), 'utf8')
  .split('\n')
  .filter((line) => line.startsWith('| '))
  .map((line) => line.split('|').map((cell) => cell.trim()));

/** Asks a mounted filesystem, and compares each answer with the first word of its cell: yes, or anything else. */
function compare(mountpoint: string, column: keyof typeof COLUMNS): void {
  const { code, output } = run('python3', [join(ROOT, 'test', 'support', 'probe.py'), mountpoint]);
  assert.equal(code, 0, output);
  const answers = output.trimEnd().split('\n');
  assert.ok(answers.length >= 12, output);
  for (const answer of answers) {
    const [name, found, why] = answer.split('\t');
    const row = rows.filter(([, first]) => first.startsWith(name));
    assert.equal(row.length, 1, `one row of docs/COMPARISON.md begins with "${name}"`);
    const told = /^yes\b/.test(row[0][COLUMNS[column]]) ? 'yes' : 'no';
    assert.equal(told, found, `${name}: the table says ${row[0][COLUMNS[column]]} of ${column}; ${why}`);
  }
}

describe('the comparison of operations', function () {
  this.timeout(60_000);

  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, process.getuid?.() === 0 ? null : 'some operations are for root');
  });

  it('is true of ext4d', function () {
    requireOrSkip(this, whyNoFuse());
    return withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 64);
      await withMount(image, mountpoint, '', () => compare(mountpoint, 'ext4d'));
    });
  });

  it('is true of the kernel', function () {
    requireOrSkip(this, whyNoKernelExt4());
    return withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 64);
      await withKernelMount(image, mountpoint, '', () => compare(mountpoint, 'kernel'));
    });
  });

  it(`is true of fuse2fs ${FUSE2FS}, where that is installed`, function () {
    const { stderr } = spawnSync('fuse2fs', ['-V'], { encoding: 'utf8' });
    // No other test needs it, and other versions do other things.
    if (!stderr?.includes(FUSE2FS)) skip(this, `fuse2fs ${FUSE2FS} is not installed`);
    return withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 64);
      // It goes on in the background, and its stdout with it.
      spawnSync('fuse2fs', ['-o', 'fakeroot', image, mountpoint], { stdio: 'ignore' });
      assert.ok(isMounted(mountpoint));
      compare(mountpoint, 'fuse2fs');
    });
  });
});
