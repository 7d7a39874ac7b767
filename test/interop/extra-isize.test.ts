/** Old inodes that are to have more room for fields grow as the kernel's do (xfstests ext4/022). */
import assert from 'node:assert/strict';
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openImage } from '../../src/index.js';
import { mustBeClean } from '../support/clean.js';
import { makeImageFile, run } from '../support/mke2fs.js';
import { requireOrSkip, whyNoKernelExt4, withKernelMount, withMountpoint } from '../support/server.js';

const INODE_BYTES = 1024;
/** Behind this much extra space 256 bytes are left for attributes: ten of 24 bytes, a header and an end. */
const BEFORE = INODE_BYTES - 128 - 256;
const WANTED = BEFORE + 80;
const LEAST = BEFORE + 16;
const BLOCK_BYTES = 4096 - 36;
/** So many small attributes each; those that do not fit the inode are in its block. */
const COUNTS = [0, 4, 7, 8, 10, 11, 10 + Math.floor((BLOCK_BYTES - 16) / 24), 10 + Math.floor(BLOCK_BYTES / 24)];
const NAMES = COUNTS.map((count) => `with-${count}`);

const SET = `
import os, sys
for name, count in zip(sys.argv[2].split(","), sys.argv[3].split(",")):
    path = os.path.join(sys.argv[1], name)
    open(path, "w").close()
    for i in range(int(count)):
        try:
            os.setxattr(path, f"user.{i}", b"aa")
        except OSError:
            break
`;

function setSuperblock(image: string, want: number, least: number): void {
  for (const [field, value] of Object.entries({ want_extra_isize: want, min_extra_isize: least }))
    run('debugfs', ['-w', '-R', `ssv ${field} ${value}`, image]);
}

function extraSizes(image: string): number[] {
  return NAMES.map((name) =>
    Number(/Size of extra inode fields: (\d+)/.exec(run('debugfs', ['-R', `stat ${name}`, image]).output)?.[1]),
  );
}

async function attributesIn(image: string): Promise<string[]> {
  const opened = await openImage(image, { readOnly: true });
  const found: string[] = [];
  for (const name of NAMES) {
    for (const attribute of (await opened.listxattr(`/${name}`)).sort())
      found.push(`${name} ${attribute} ${await opened.getxattr(`/${name}`, attribute)}`);
  }
  await opened.close();
  return found;
}

describe('i_extra_isize of old inodes', function () {
  this.timeout(60_000);

  before(function () {
    requireOrSkip(this, whyNoKernelExt4());
  });

  for (const by of ['the superblock', 'debug_want_extra_isize'] as const) {
    it(`grows as in the kernel, when ${by} asks for it, and no attribute is lost`, () =>
      withMountpoint(async (scratch, mountpoint) => {
        const [theirs, ours] = [join(scratch, 'theirs'), join(scratch, 'ours')];
        makeImageFile(theirs, 16, ['-I', String(INODE_BYTES)]);
        setSuperblock(theirs, BEFORE, BEFORE);
        await withKernelMount(theirs, mountpoint, '', () => {
          assert.equal(run('python3', ['-c', SET, mountpoint, NAMES.join(), COUNTS.join()]).output, '');
        });
        assert.deepEqual(new Set(extraSizes(theirs)), new Set([BEFORE]));
        const attributes = await attributesIn(theirs);
        const option = by === 'the superblock' ? undefined : WANTED;
        setSuperblock(theirs, option === undefined ? WANTED : BEFORE, LEAST);
        copyFileSync(theirs, ours);
        await withKernelMount(
          theirs,
          mountpoint,
          option === undefined ? '' : `debug_want_extra_isize=${option}`,
          () => {
            for (const name of NAMES) writeFileSync(join(mountpoint, name), 'aaaa');
          },
        );
        const image = await openImage(ours, option === undefined ? {} : { policy: { wantExtraIsize: option } });
        for (const name of NAMES) await image.writeFile(`/${name}`, 'aaaa');
        await image.writeFile('/new', '');
        await image.close();
        assert.deepEqual(extraSizes(ours), extraSizes(theirs));
        assert.ok(new Set(extraSizes(ours)).size > 1, 'some grow to what is wanted, some cannot');
        assert.match(run('debugfs', ['-R', 'stat new', ours]).output, new RegExp(`extra inode fields: ${WANTED}`));
        assert.deepEqual(await attributesIn(ours), attributes);
        mustBeClean(ours);
      }));
  }

  it('is refused where inodes have no such room', () =>
    withMountpoint(async (scratch) => {
      const path = join(scratch, 'image');
      makeImageFile(path, 8, ['-I', '256']);
      for (const wantExtraIsize of [3, 34, 132])
        await assert.rejects(openImage(path, { policy: { wantExtraIsize } }), /debug_want_extra_isize/);
      const image = await openImage(path, { policy: { wantExtraIsize: 128 } });
      await image.close();
    }));
});
