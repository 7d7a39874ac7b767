/** Filesystems whose journal is on a device of its own, and filesystems without one. */
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeImageFile, run } from '../support/mke2fs.js';
import { EXT4D, Mount, requireOrSkip, whyNoFuse, withMount, withMountpoint } from '../support/server.js';

const stateOf = (image: string) => /Filesystem state:\s*(.*)/.exec(run('dumpe2fs', ['-h', image]).output)?.[1];

function fillAndSync(mountpoint: string): void {
  mkdirSync(join(mountpoint, 'd'));
  for (let i = 0; i < 300; i++) writeFileSync(join(mountpoint, 'd', `file${i}`), `content ${i}`);
  assert.equal(
    run(
      'sync',
      [...Array(300).keys()].map((i) => join(mountpoint, 'd', `file${i}`)),
    ).output,
    '',
  );
  assert.equal(run('sync', [join(mountpoint, 'd')]).output, '');
}

function mustBeThere(mountpoint: string): void {
  for (let i = 0; i < 300; i++) assert.equal(readFileSync(join(mountpoint, 'd', `file${i}`), 'utf8'), `content ${i}`);
}

/** A filesystem and its journal; mke2fs wants that on a block device while it makes the filesystem. */
function makeWithJournal(scratch: string, blockSize: number): { image: string; journal: string } {
  const image = join(scratch, 'image');
  const journal = join(scratch, 'journal');
  writeFileSync(journal, '');
  truncateSync(journal, 16 << 20);
  assert.equal(run('mke2fs', ['-q', '-F', '-O', 'journal_dev', '-b', String(blockSize), journal]).code, 0);
  const loop = run('losetup', ['--find', '--show', journal]).output.trim();
  try {
    makeImageFile(image, 64, ['-b', String(blockSize), '-J', `device=${loop}`]);
  } finally {
    run('losetup', ['-d', loop]);
  }
  return { image, journal };
}

describe('an external journal', function () {
  this.timeout(60_000);
  before(function () {
    const asRoot = process.getuid?.() === 0 ? null : 'mke2fs wants a block device for a journal: root';
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse() ?? asRoot);
  });

  for (const blockSize of [1024, 4096]) {
    it(`is found by path and UUID, written, and recovered as e2fsck recovers it (${blockSize}-byte blocks)`, () =>
      withMountpoint(async (scratch, mountpoint) => {
        const { image, journal } = makeWithJournal(scratch, blockSize);
        const other = join(scratch, 'other');
        writeFileSync(other, Buffer.alloc(1 << 20));
        const mount = await Mount.start(image, mountpoint, `journal_path=${other},journal_path=${journal}`);
        try {
          fillAndSync(mountpoint);
          await mount.kill();
        } finally {
          mount.cleanUp();
        }
        copyFileSync(image, `${image}2`);
        copyFileSync(journal, `${journal}2`);
        const replayed = run(EXT4D, ['replay', '--journal', `${journal}2`, `${image}2`]);
        assert.equal(replayed.code, 1, replayed.output);
        assert.match(replayed.output, /transaction/);
        const judged = run('e2fsck', ['-fn', '-j', `${journal}2`, `${image}2`]);
        assert.equal(judged.code, 0, judged.output);
        await withMount(`${image}2`, mountpoint, `journal_path=${journal}2`, () => mustBeThere(mountpoint));
        assert.equal(run('e2fsck', ['-fy', '-j', journal, image]).code, 1);
        await withMount(image, mountpoint, `journal_path=${journal}`, () => mustBeThere(mountpoint));
      }));
  }

  it('is found by its number', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const { image, journal } = makeWithJournal(scratch, 4096);
      const loop = run('losetup', ['--find', '--show', journal]).output.trim();
      try {
        const { rdev } = statSync(loop);
        const [major, minor] = [(rdev >>> 8) & 0xfff, (rdev & 0xff) | ((rdev >>> 12) & 0xfff00)];
        for (const number of [`${major}:${minor}`, `${rdev}`, `0x${rdev.toString(16)}`])
          await withMount(image, mountpoint, `journal_dev=${number}`, () =>
            writeFileSync(join(mountpoint, 'x'), number),
          );
        assert.match(
          run(EXT4D, ['mount', '-o', 'journal_dev=4000:1', image, mountpoint]).output,
          /no such block device/,
        );
      } finally {
        run('losetup', ['-d', loop]);
      }
    }));

  it('that is missing makes the mount read-only, and the wrong one is refused, with its UUID', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const { image } = makeWithJournal(scratch, 4096);
      const wrong = join(scratch, 'wrong');
      writeFileSync(wrong, '');
      truncateSync(wrong, 16 << 20);
      run('mke2fs', ['-q', '-F', '-O', 'journal_dev', '-b', '4096', wrong]);
      const mount = await Mount.start(image, mountpoint, '');
      try {
        assert.throws(() => writeFileSync(join(mountpoint, 'x'), 'x'), { code: 'EROFS' });
        await mount.unmount();
        assert.match(mount.stderr, /the journal is on another device, with the UUID [0-9a-f-]{36}: name it with/);
      } finally {
        mount.cleanUp();
      }
      const refused = run(EXT4D, ['mount', '-o', `journal_path=${wrong}`, image, mountpoint]);
      assert.notEqual(refused.code, 0);
      assert.match(refused.output, /the journal with the UUID .* was not found: .* has [0-9a-f-]{36}/);
    }));
});

describe('a filesystem without a journal', function () {
  this.timeout(60_000);
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse());
  });

  for (const args of [
    ['-t', 'ext2'],
    ['-t', 'ext4', '-O', '^has_journal'],
  ]) {
    it(`is marked while it is written to, and clean afterwards; what is synced is on the disk (${args.join(' ')})`, () =>
      withMountpoint(async (scratch, mountpoint) => {
        const image = join(scratch, 'image');
        makeImageFile(image, 32, args);
        const mount = await Mount.start(image, mountpoint, '');
        try {
          assert.equal(stateOf(image), 'clean');
          fillAndSync(mountpoint);
          assert.equal(stateOf(image), 'not clean');
          copyFileSync(image, `${image}-crashed`);
          await mount.unmount();
          assert.match(mount.stderr, /no journal: after a crash it needs e2fsck/);
        } finally {
          mount.cleanUp();
        }
        assert.equal(stateOf(image), 'clean');
        assert.equal(run('e2fsck', ['-fn', image]).code, 0);
        await withMount(image, mountpoint, '', () => mustBeThere(mountpoint));
        assert.ok([0, 1].includes(run('e2fsck', ['-fy', `${image}-crashed`]).code));
        await withMount(`${image}-crashed`, mountpoint, '', () => mustBeThere(mountpoint));
      }));
  }

  it('that was not unmounted stays marked until e2fsck has seen it', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32, ['-t', 'ext2']);
      const mount = await Mount.start(image, mountpoint, '');
      try {
        fillAndSync(mountpoint);
        await mount.kill();
      } finally {
        mount.cleanUp();
      }
      await withMount(image, mountpoint, '', () => writeFileSync(join(mountpoint, 'more'), 'x'));
      assert.equal(stateOf(image), 'not clean');
    }));
});
