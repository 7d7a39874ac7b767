/** What `ext4d info` tells people, compared with what mke2fs, debugfs and e2fsck say of the same image. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { humanBytes } from '../../src/cli/info.js';
import { dirtyImage, TRANSACTIONS } from '../support/dirty-image.js';
import { makeImageFile, run, withScratch } from '../support/mke2fs.js';
import { EXT4D, requireOrSkip } from '../support/server.js';

function info(...args: string[]): string {
  const { code, output } = run(EXT4D, ['info', ...args]);
  assert.equal(code, 0, output);
  return output;
}

/** The value of `name` in dumpe2fs -h. */
function dumped(image: string, name: string): string {
  const { output } = run('dumpe2fs', ['-h', image]);
  return new RegExp(`^${name}: +(.*)$`, 'm').exec(output)?.[1] ?? '';
}

describe('ext4d info', function () {
  this.timeout(60_000);

  it('tells sizes, label, UUID and features as dumpe2fs does', () =>
    withScratch((directory) => {
      const image = join(directory, 'image');
      for (const mkfs of [
        ['-L', 'my disk'],
        ['-b', '1024', '-t', 'ext3'],
        ['-t', 'ext2', '-b', '2048'],
      ]) {
        makeImageFile(image, 32, mkfs);
        const facts = JSON.parse(info('--json', image));
        const { superblock } = facts;
        assert.equal(superblock.uuid, dumped(image, 'Filesystem UUID'));
        assert.equal(superblock.label, mkfs[1] === 'my disk' ? 'my disk' : '');
        assert.equal(superblock.freeBlocks, Number(dumped(image, 'Free blocks')));
        assert.equal(superblock.freeInodes, Number(dumped(image, 'Free inodes')));
        assert.equal(superblock.reservedBlocks, Number(dumped(image, 'Reserved block count')));
        assert.equal(superblock.clusterSize, Number(dumped(image, 'Cluster size') || dumped(image, 'Block size')));
        const features = facts.features.map(({ name }: { name: string }) => name);
        assert.deepEqual(features.sort(), dumped(image, 'Filesystem features').split(' ').sort());
        const type = mkfs.includes('ext3') ? 'ext3' : mkfs.includes('ext2') ? 'ext2' : 'ext4';
        assert.equal(facts.type, type);
        const text = info(image);
        assert.match(text, new RegExp(`^type: +${type}, made `, 'm'));
        assert.match(text, /^size: +32 MiB \(33554432 bytes\)/m);
        for (const line of text.split('\n')) assert.ok(line.length <= 100 || line.startsWith('image:'), line);
      }
    }));

  it('a clean image needs nothing', () =>
    withScratch((directory) => {
      const image = join(directory, 'image');
      makeImageFile(image, 32);
      const text = info(image);
      assert.match(text, /^mount: +read-write$/m);
      assert.match(text, /^state: +clean$/m);
      assert.match(text, /^journal: +clean; 4 MiB in inode 8/m);
      assert.doesNotMatch(text, /next:/);
    }));

  it('a dirty log: how much there is to replay, and with what', () =>
    withScratch((directory) => {
      const image = join(directory, 'image');
      writeFileSync(image, dirtyImage());
      const before = readFileSync(image);
      const text = info(image);
      assert.match(text, /^state: +not closed/m);
      assert.match(text, new RegExp(`^journal: +${TRANSACTIONS} transactions \\(\\d+ blocks\\) to replay`, 'm'));
      assert.match(text, new RegExp(`next: mount it, or: ext4d replay ${image}`));
      assert.ok(readFileSync(image).equals(before));
    }));

  it('recorded errors: when, where, and what to do', () =>
    withScratch((directory) => {
      const image = join(directory, 'image');
      makeImageFile(image, 32);
      for (const set of [
        'state 3',
        'error_count 5',
        'first_error_time 20260102030405',
        'first_error_func ext4_lookup',
        'first_error_line 1850',
        'first_error_ino 12',
        'last_error_time 20260203040506',
        'last_error_func ext4_find_extent',
        'last_error_block 777',
      ])
        run('debugfs', ['-w', '-R', `ssv ${set}`, image]);
      const text = info(image);
      assert.match(text, /^state: +clean, with errors \(5 recorded\)/m);
      assert.match(text, /^first error: +2026-01-02 03:04:05 UTC in ext4_lookup:1850, inode 12$/m);
      assert.match(text, /^last error: +2026-02-03 04:05:06 UTC in ext4_find_extent, block 777$/m);
      assert.match(text, new RegExp(`next: errors are recorded: e2fsck -f ${image}`));
      run('e2fsck', ['-fy', image]);
      assert.doesNotMatch(info(image), /next:|error/);
    }));

  it('says how the image would be mounted, and why no better', () =>
    withScratch((directory) => {
      const image = join(directory, 'image');
      makeImageFile(image, 32, ['-O', 'verity']);
      assert.match(info(image), /^mount: +read-only: the feature verity/m);
      makeImageFile(image, 32, ['-O', '^metadata_csum']);
      const bytes = readFileSync(image);
      bytes[1024 + 0x60 + 3] |= 0x80;
      writeFileSync(image, bytes);
      const text = info(image);
      assert.match(text, /^mount: +refused: .*unknown_incompat_31/m);
      assert.match(text, /^unsupported: +unknown_incompat_31$/m);
      assert.match(text, /^next: the kernel's ext4 may/m);
    }));

  it('a label cannot write to the terminal', () =>
    withScratch((directory) => {
      const image = join(directory, 'image');
      makeImageFile(image, 32, ['-L', 'x\u001b[2Jy', '-O', '^metadata_csum']);
      assert.match(info(image), /^label: +x\?\[2Jy$/m);
    }));

  it('of a whole disk, the partitions; --part shows one', function () {
    requireOrSkip(this, existsSync('/sbin/sfdisk') ? null : 'sfdisk is missing (fdisk)');
    withScratch((directory) => {
      const disk = join(directory, 'disk');
      const image = join(directory, 'image');
      makeImageFile(image, 32, ['-L', 'inside']);
      run('debugfs', ['-w', '-R', 'ssv state 3', image]);
      const script = 'label: gpt\\nsize=8M,name=boot\\nname=root\\n';
      const made = run('sh', ['-c', `truncate -s 48M ${disk} && printf '${script}' | /sbin/sfdisk -q ${disk}`]);
      assert.equal(made.code, 0, made.output);
      run('dd', [`if=${image}`, `of=${disk}`, 'bs=1M', 'seek=9', 'conv=notrunc', 'status=none']);

      const text = info(disk);
      assert.match(text, /a disk with 2 partitions/);
      assert.match(text, /part=1 \(boot\) +8 MiB from byte 1048576/);
      assert.match(text, /part=2 \(root\) .* from byte 9437184, ext2\/3\/4/);
      assert.match(text, /ext4d mount -o part=2/);
      assert.deepEqual(
        JSON.parse(info('--json', disk)).partitions.map((one: { ext4: boolean }) => one.ext4),
        [false, true],
      );
      for (const part of ['2', 'root']) assert.match(info('--part', part, disk), /^label: +inside$/m);
      // What it says to do is what helps.
      const [, next] = /^next: errors are recorded: (e2fsck .*)$/m.exec(info('--part', '2', disk)) ?? [];
      assert.match(next, /offset=9437184/);
      run('sh', ['-c', `${next} -y`]);
      assert.doesNotMatch(info('--part', '2', disk), /next:/);

      assert.equal(run(EXT4D, ['check', '--part', '2', disk]).code, 0);
      const { code, output } = run(EXT4D, ['check', disk]);
      assert.equal(code, 4);
      assert.match(output, /a disk with the partitions 1 \(boot\), 2 \(root\)/);
      assert.equal(run(EXT4D, ['info', '--part', '3', disk]).code, 8);

      assert.match(info('--offset', '9437184', disk), /^label: +inside$/m);
      for (const command of ['check', 'journal', 'replay', 'quota']) {
        const at = run(EXT4D, [command, '--offset', '9437184', disk]);
        // There is no quota feature, and it was found to say so.
        assert.equal(at.code, command === 'quota' ? 4 : 0, at.output);
        assert.equal(run(EXT4D, [command, '--offset', '0', disk]).code, 4);
      }
      assert.equal(run(EXT4D, ['info', '--offset', '9437184', '--part', '2', disk]).code, 16);
      assert.equal(run(EXT4D, ['info', '--offset', 'far', disk]).code, 16);
    });
  });

  it('sizes are told in the unit that fits, and never too large', () => {
    assert.deepEqual([0, 1, 1023, 1024, 1536, 1024 ** 2 - 1, 5 * 1024 ** 3, 16 * 1024 ** 4].map(humanBytes), [
      '0 bytes',
      '1 bytes',
      '1023 bytes',
      '1 KiB',
      '1.5 KiB',
      '1023 KiB',
      '5 GiB',
      '16 TiB',
    ]);
  });
});
