/** The commands that look into an image: exit codes, what they print, and that looking changes nothing. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FileDevice } from '../../src/block/file-device.js';
import { MemoryDevice } from '../../src/block/memory-device.js';
import { runInfo } from '../../src/cli/info.js';
import { runJournal } from '../../src/cli/journal.js';
import { runReplay } from '../../src/cli/replay.js';
import { openLogSource } from '../../src/ext4/journal-inode.js';
import { readGeometry } from '../../src/ext4/open.js';
import { command } from '../support/command.js';
import { makeKernelDirty, noKernelDirty } from '../support/kernel-dirty.js';
import { fsckFile, makeImage, makeImageFile, withScratch } from '../support/mke2fs.js';
import { requireOrSkip } from '../support/server.js';

describe('ext4d replay, journal and info', function () {
  this.timeout(60_000);

  it('replay: 16 for wrong usage, 8 without an image, 4 for something else than ext4', () =>
    withScratch((directory) => {
      assert.equal(command(runReplay).code, 16);
      assert.equal(command(runReplay, '--frobnicate', 'x').code, 16);
      assert.equal(command(runReplay, join(directory, 'missing')).code, 8);
      const path = join(directory, 'zeroes');
      writeFileSync(path, new Uint8Array(1 << 20));
      const { code, err } = command(runReplay, path);
      assert.equal(code, 4);
      assert.match(err, /not an ext4 filesystem/);
    }));

  it('an image in use can be looked at, not replayed', () =>
    withScratch((directory) => {
      const path = join(directory, 'image');
      makeImageFile(path, 16);
      const user = FileDevice.open(path);
      try {
        assert.equal(command(runReplay, path).code, 8);
        assert.equal(command(runReplay, '-n', path).code, 8);
        const { code, err } = command(runInfo, path);
        assert.equal(code, 0);
        assert.match(err, /in use/);
      } finally {
        user.close();
      }
    }));

  it('a clean image has nothing to replay and an empty log', () =>
    withScratch((directory) => {
      const path = join(directory, 'image');
      makeImageFile(path, 16);
      const before = readFileSync(path);
      assert.deepEqual(command(runReplay, path).code, 0);
      const journal = command(runJournal, path);
      assert.equal(journal.code, 0);
      assert.match(journal.out, /the log is empty/);
      const { code, out } = command(runInfo, '--json', path);
      assert.equal(code, 0);
      const info = JSON.parse(out);
      assert.equal(info.journal.state, 'clean');
      assert.deepEqual(info.orphans, { list: [], file: [] });
      assert.ok(readFileSync(path).equals(before));
    }));

  it('info names each feature with what is done about it', () =>
    withScratch((directory) => {
      const path = join(directory, 'image');
      const image = makeImage(16, ['-O', 'inline_data,verity,^metadata_csum', '-I', '256']);
      // s_feature_incompat: dirdata, which mke2fs does not know.
      image[1024 + 0x61] |= 0x10;
      writeFileSync(path, image);
      const { features } = JSON.parse(command(runInfo, '--json', path).out);
      const support = Object.fromEntries(features.map((f: { name: string; support: string }) => [f.name, f.support]));
      assert.equal(support.extent, 'supported');
      assert.equal(support.inline_data, 'supported');
      assert.equal(support.verity, 'read-only');
      assert.equal(support.dirdata, 'unsupported');
      const refused = command(runReplay, path);
      assert.equal(refused.code, 4);
      assert.match(refused.err, /dirdata/);
    }));

  it('an unknown journal feature is refused', () =>
    withScratch((directory) => {
      const image = makeImage(16);
      const device = new MemoryDevice(image);
      const { blockMap } = openLogSource(device, readGeometry(device));
      // s_feature_incompat
      image[blockMap[0] * 4096 + 0x28] |= 0x80;
      const path = join(directory, 'image');
      writeFileSync(path, image);
      const { code, err } = command(runReplay, path);
      assert.equal(code, 4);
      assert.match(err, /unknown incompatible feature/);
    }));

  describe('on images that the kernel left dirty', () => {
    const obstacle = noKernelDirty();
    before(function () {
      requireOrSkip(this as unknown as Mocha.Context, obstacle);
    });

    for (const [name, mkfs] of Object.entries({
      'default features': [],
      'an orphan file': ['-O', 'orphan_file'],
      '1 KiB blocks': ['-b', '1024'],
    })) {
      it(`${name}: looking changes nothing, replay ends clean`, () =>
        withScratch((directory) => {
          const path = join(directory, 'image');
          makeKernelDirty(path, directory, { mkfs, seed: 5, operations: 500 });
          const dirty = readFileSync(path);

          const info = JSON.parse(command(runInfo, '--json', path).out);
          assert.equal(info.journal.state, 'needs recovery');
          const orphans = info.orphans.list.length + info.orphans.file.length;
          assert.ok(orphans > 0, 'the workload leaves orphans');

          const journal = command(runJournal, '--json', path);
          assert.equal(journal.code, 0);
          const { transactions, end } = JSON.parse(journal.out);
          assert.equal(transactions.at(-1).tid + 1, end.tid);
          const uses = new Set<string>();
          for (const { blocks } of transactions) for (const { owner } of blocks) uses.add(owner.what);
          // The list of orphans starts in the superblock.
          if (!name.includes('file')) assert.ok(uses.has('superblock'), 'superblock is in the log');
          for (const use of ['group descriptors', 'block bitmap', 'inode bitmap', 'inode table', 'directory']) {
            assert.ok(uses.has(use), `${use} is in the log`);
          }
          assert.match(command(runJournal, path).out, /replay ends before transaction/);

          assert.equal(command(runReplay, '-n', path).code, 1);
          assert.ok(readFileSync(path).equals(dirty), 'info, journal and replay -n write nothing');

          const { code, out } = command(runReplay, path);
          assert.equal(code, 1);
          assert.match(out, /transactions? .*replayed/);
          const { code: fsck, output } = fsckFile(path);
          assert.equal(fsck, 0, output);
          const clean = readFileSync(path);
          assert.equal(command(runReplay, path).code, 0);
          assert.ok(readFileSync(path).equals(clean));
          assert.deepEqual(JSON.parse(command(runInfo, '--json', path).out).orphans, { list: [], file: [] });
        }));
    }
  });
});
