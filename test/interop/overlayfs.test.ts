/** A mount as the upper layer of the kernel's overlayfs, which asks for whiteouts, O_TMPFILE and trusted attributes. */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fsckFile, makeImageFile, run } from '../support/mke2fs.js';
import { requireOrSkip, whyNoFuse, withMount, withMountpoint } from '../support/server.js';

/** Why there can be no overlay here, or null. */
function whyNoOverlay(): string | null {
  if (process.getuid?.() !== 0) return 'mounting an overlay needs root';
  return readFileSync('/proc/filesystems', 'utf8').includes('\toverlay') || run('modprobe', ['overlay']).code === 0
    ? null
    : 'this kernel has no overlayfs';
}

describe('an upper layer of overlayfs', function () {
  this.timeout(60_000);
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse() ?? whyNoOverlay());
  });

  it('takes changes, whiteouts and opaque directories, which are there again at the next mount', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      const lower = join(scratch, 'lower');
      const merged = join(scratch, 'merged');
      for (const directory of [lower, merged, join(lower, 'd')]) mkdirSync(directory);
      for (const name of ['changed', 'gone', 'd/below']) writeFileSync(join(lower, name), name);
      const layers = `lowerdir=${lower},upperdir=${mountpoint}/up,workdir=${mountpoint}/work`;
      const overlaid = (use: () => void) => {
        const { code, output } = run('mount', ['-t', 'overlay', 'overlay', '-o', layers, merged]);
        assert.equal(code, 0, output);
        try {
          use();
        } finally {
          run('umount', [merged]);
        }
      };
      const at = (name: string) => join(merged, name);
      await withMount(image, mountpoint, '', () => {
        for (const name of ['up', 'work']) mkdirSync(join(mountpoint, name));
        overlaid(() => {
          appendFileSync(at('changed'), ' here');
          unlinkSync(at('gone'));
          unlinkSync(at('d/below'));
          rmdirSync(at('d'));
          mkdirSync(at('d'));
          renameSync(at('changed'), at('renamed'));
        });
        const whiteout = statSync(join(mountpoint, 'up/gone'));
        assert.ok(whiteout.isCharacterDevice() && whiteout.rdev === 0);
      });
      await withMount(image, mountpoint, '', () =>
        overlaid(() => {
          assert.deepEqual(readdirSync(merged).sort(), ['d', 'renamed']);
          assert.equal(readFileSync(at('renamed'), 'utf8'), 'changed here');
          assert.ok(!existsSync(at('d/below')), 'the new directory hides the old one');
        }),
      );
      assert.deepEqual(readdirSync(lower).sort(), ['changed', 'd', 'gone']);
      const { code, output } = fsckFile(image);
      assert.equal(code, 0, output);
    }));
});
