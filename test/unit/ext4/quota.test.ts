/** Quotas counted and limited by the engine, over memory; e2fsck counts again. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { MemoryDevice } from '../../../src/block/memory-device.js';
import { CorruptionError, type ErrnoName, FsError } from '../../../src/errors.js';
import { mapBlock } from '../../../src/ext4/block-map.js';
import { checkFilesystem } from '../../../src/ext4/check/check.js';
import { realEnvironment } from '../../../src/ext4/environment.js';
import { Filesystem } from '../../../src/ext4/filesystem.js';
import { EXT4_PROJINHERIT_FL } from '../../../src/ext4/format/inode.js';
import { QUOTA_BLOCK_BYTES, QUOTA_ENTRY } from '../../../src/ext4/format/quota.js';
import { SUPERBLOCK, SUPERBLOCK_OFFSET } from '../../../src/ext4/format/superblock.js';
import { Inode } from '../../../src/ext4/inode.js';
import { OP_WRITE, OP_WRITEBACK } from '../../../src/ext4/iomap.js';
import type { MountPolicy } from '../../../src/ext4/mount-policy.js';
import type { Limits, Resource } from '../../../src/ext4/quota/quota-entry.js';
import type { QuotaType } from '../../../src/ext4/quota/quota-file.js';
import { fsck, makeImage, makeImageFile, run, withScratch } from '../../support/mke2fs.js';
import { checkProperty } from '../../support/property.js';

const QUOTA = ['-O', 'quota,project', '-E', 'quotatype=usrquota:grpquota:prjquota'];
const ROOT = 2;
const FREG = 0o100644;
const LIMITS: Partial<MountPolicy> = { userLimits: true, groupLimits: true, projectLimits: true };

const name = (text: string) => new TextEncoder().encode(text);
const user = (uid: number, gid = uid) => ({ uid, gid });

interface Opened {
  readonly fs: Filesystem;
  readonly image: Uint8Array;
  readonly clock: { seconds: number };
}

function open(image: Uint8Array, policy: Partial<MountPolicy> = {}): Opened {
  const clock = { seconds: 1_700_000_000 };
  const env = { ...realEnvironment, now: () => ({ ...clock, nanoseconds: 0 }), schedule: () => () => {} };
  return { fs: Filesystem.open(new MemoryDevice(image), { env, policy }), image, clock };
}

function closeAndCheck({ fs, image }: Opened): void {
  fs.volume.journal.flushAll();
  assert.deepEqual(checkFilesystem(fs.volume, { unmounted: false }).findings, []);
  fs.closeSync();
  const { code, output } = fsck(image);
  assert.equal(code, 0, output);
}

/** Allocates without data: what is counted is blocks. */
function fill(fs: Filesystem, ino: number, bytes: number): void {
  fs.fallocate(ino, 0, 0, bytes);
}

function setLimits({ fs }: Opened, type: QuotaType, id: number, limits: Partial<Record<Resource, Limits>>): void {
  const { volume } = fs;
  volume.journal.run(1, (handle) => volume.quotas?.setLimits(handle, type, id, limits));
}

function refused(code: ErrnoName, action: () => unknown): void {
  assert.throws(action, (error) => error instanceof FsError && error.code === code);
}

const used = ({ fs }: Opened, type: QuotaType, id: number) => {
  const entry = fs.volume.quotas?.entryOf(type, id) ?? null;
  return entry === null ? null : [entry.used('space'), entry.used('inodes')];
};

describe('quotas', function () {
  this.timeout(120_000);
  let base: Uint8Array;
  before(() => {
    base = makeImage(16, ['-b', '1024', ...QUOTA]);
  });

  const IDS = [0, 1, 255, 256, 1000, 65_535, 65_536, 70_000, 0xff_ffff, 0x100_0000, 0x8000_0000, 0xffff_fff0];
  const step = fc.record({
    kind: fc.constantFrom(
      'create',
      'create',
      'chown',
      'remove',
      'grow',
      'shrink',
      'xattr',
      'no xattr',
      'project',
      'commit',
    ),
    file: fc.nat(30),
    id: fc.oneof(fc.constantFrom(...IDS), fc.nat(0xffff_fffe)),
    size: fc.nat(60_000),
  });

  for (const args of [
    ['-b', '1024', ...QUOTA],
    ['-b', '4096', ...QUOTA],
    ['-b', '1024', ...QUOTA, '-O', '^extent,^64bit,^metadata_csum'],
    ['-b', '1024', ...QUOTA, '-O', 'ea_inode'],
    ['-b', '4096', ...QUOTA, '-O', 'ea_inode,bigalloc', '-C', '16384', '-I', '512'],
  ]) {
    const largest = args.join().includes('ea_inode') ? 60_000 : 900;
    it(`are what is used, whoever owns it and whatever happens to it (${args.join(' ')})`, () => {
      const fresh = makeImage(16, args);
      checkProperty(
        fc.property(fc.array(step, { minLength: 1, maxLength: 120 }), (steps) => {
          const opened = open(fresh.slice());
          const { fs } = opened;
          for (const { kind, file, id, size } of steps) {
            const path = name(`f${file}`);
            const ino = fs.lookup(ROOT, path);
            if (kind === 'commit') fs.volume.journal.commitNow();
            else if (ino === 0) {
              if (kind === 'create') fs.create(ROOT, path, FREG, user(id, id ^ 0x1234));
            } else if (kind === 'chown') fs.setattr(ino, { uid: id, gid: id >>> 3 });
            else if (kind === 'remove') fs.evict([fs.unlink(ROOT, path)]);
            else if (kind === 'grow') {
              if (Inode.get(fs.volume, ino).usesExtents) fill(fs, ino, size);
            } else if (kind === 'shrink') fs.setattr(ino, { size: size >>> 4 });
            else if (kind === 'xattr')
              fs.setxattr(ino, name(`user.long${id % 3}`), new Uint8Array(size % largest).fill(1), 0);
            else if (kind === 'no xattr' && fs.getxattr(ino, name('user.long0')) !== null)
              fs.removexattr(ino, name('user.long0'));
            else if (kind === 'project') fs.setProject(ino, id, user(0));
          }
          closeAndCheck(opened);
        }),
        { numRuns: 12 },
      );
    });
  }

  it('take and give back blocks of their files as ids come and go', () => {
    const opened = open(base.slice());
    const { fs } = opened;
    for (let i = 0; i < 300; i++) fs.create(ROOT, name(`f${i}`), FREG, user(i * 70_001));
    const blocks = () => Inode.load(fs.volume, 3).sizeBytes;
    const most = blocks();
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 300; i++) fs.evict([fs.unlink(ROOT, name(`f${i}`))]);
      assert.equal(used(opened, 'user', 70_001), null);
      for (let i = 299; i >= 0; i--) fs.create(ROOT, name(`f${i}`), FREG, user(i * 70_001));
    }
    assert.equal(blocks(), most, 'free blocks of the quota file are used again');
    closeAndCheck(opened);
  });

  it('are as before when a step fails in the middle', () => {
    const opened = open(base.slice());
    const { fs } = opened;
    const ino = fs.create(ROOT, name('f'), FREG, user(5));
    const before = [used(opened, 'user', 5), used(opened, 'group', 5), used(opened, 'project', 0)];
    assert.throws(() =>
      fs.volume.journal.run(100, () => {
        fs.create(ROOT, name('g'), FREG, user(5));
        fs.create(ROOT, name('h'), FREG, user(99_999));
        fs.setattr(ino, { uid: 77 });
        fill(fs, ino, 50_000);
        throw new Error('no');
      }),
    );
    assert.deepEqual([used(opened, 'user', 5), used(opened, 'group', 5), used(opened, 'project', 0)], before);
    assert.equal(used(opened, 'user', 99_999), null);
    fs.create(ROOT, name('h'), FREG, user(99_999));
    assert.deepEqual(used(opened, 'user', 99_999), [0, 1]);
    closeAndCheck(opened);
  });

  it('limit nobody where the mount does not ask for it', () => {
    const opened = open(base.slice());
    const { fs } = opened;
    setLimits(opened, 'user', 7, { space: { soft: 1024, hard: 2048 }, inodes: { soft: 1, hard: 1 } });
    fs.actAs(user(7));
    fill(fs, fs.create(ROOT, name('a'), FREG, user(7)), 100_000);
    fs.create(ROOT, name('b'), FREG, user(7));
    closeAndCheck(opened);
  });

  it('hold everybody but root to hard limits, to the block', () => {
    const opened = open(base.slice(), LIMITS);
    const { fs } = opened;
    setLimits(opened, 'user', 7, { space: { soft: 0, hard: 40 << 10 }, inodes: { soft: 0, hard: 2 } });
    fs.actAs(user(7));
    const a = fs.create(ROOT, name('a'), FREG, user(7));
    const mapping = fs.iomapBegin(a, 0, 100 << 10, OP_WRITE);
    assert.equal(mapping.lengthBytes, 40 << 10);
    refused('EDQUOT', () => fs.iomapBegin(a, 40 << 10, 1, OP_WRITE));
    fs.create(ROOT, name('b'), FREG, user(7));
    refused('EDQUOT', () => fs.create(ROOT, name('c'), FREG, user(7)));
    refused('EDQUOT', () => fs.setxattr(a, name('user.long'), new Uint8Array(900), 0));
    assert.equal(fs.lookup(ROOT, name('c')), 0);
    fs.actAs(user(0));
    fs.create(ROOT, name('c'), FREG, user(7));
    assert.ok(fs.iomapBegin(a, 40 << 10, 5000, OP_WRITE).addrBytes > 0);
    // What was allowed earlier, and is written now, is its owner's.
    fs.actAs(null);
    refused('EDQUOT', () => fs.iomapBegin(a, 80 << 10, 1, OP_WRITEBACK));
    assert.deepEqual(used(opened, 'user', 7), [45 << 10, 3]);
    fs.actAs(user(7));
    fs.setattr(a, { size: 0 });
    assert.ok(fs.iomapBegin(a, 0, 5000, OP_WRITE).addrBytes > 0);
    fs.setattr(a, { size: 0 });
    closeAndCheck(opened);
  });

  it('hold to soft limits when the grace is over, and not before', () => {
    const opened = open(base.slice(), LIMITS);
    const { fs, clock } = opened;
    setLimits(opened, 'group', 8, { space: { soft: 20 << 10, hard: 0 }, inodes: { soft: 1, hard: 0 } });
    const entry = () => fs.volume.quotas?.entryOf('group', 8);
    fs.actAs(user(9));
    const a = fs.create(ROOT, name('a'), FREG, user(9, 8));
    fs.create(ROOT, name('b'), FREG, user(9, 8));
    fill(fs, a, 30_000);
    const week = 7 * 86_400;
    assert.equal(entry()?.graceEnd('space'), clock.seconds + week);
    assert.equal(entry()?.graceEnd('inodes'), clock.seconds + week);
    clock.seconds += week - 1;
    fill(fs, a, 40_000);
    clock.seconds += 1;
    refused('EDQUOT', () => fill(fs, a, 50_000));
    refused('EDQUOT', () => fs.create(ROOT, name('c'), FREG, user(9, 8)));
    fs.setattr(a, { size: 0 });
    fs.evict([fs.unlink(ROOT, name('b'))]);
    assert.equal(entry()?.graceEnd('space'), 0);
    assert.equal(entry()?.graceEnd('inodes'), 0);
    fill(fs, a, 30_000);
    assert.equal(entry()?.graceEnd('space'), clock.seconds + week);
    closeAndCheck(opened);
  });

  it('of the new owner are asked before a file changes hands', () => {
    const opened = open(base.slice(), LIMITS);
    const { fs } = opened;
    setLimits(opened, 'group', 8, { space: { soft: 0, hard: 20 << 10 } });
    setLimits(opened, 'project', 3, { inodes: { soft: 0, hard: 1 } });
    const a = fs.create(ROOT, name('a'), FREG, user(9));
    const b = fs.create(ROOT, name('b'), FREG, user(9));
    fill(fs, a, 30_000);
    fs.setProject(b, 3, user(0));
    fs.actAs(user(9));
    refused('EDQUOT', () => fs.setattr(a, { gid: 8 }));
    assert.equal(fs.stat(a).gid, 9);
    fs.setattr(b, { gid: 8 });
    refused('EDQUOT', () => fs.volume.quotas && fs.setProject(a, 3, user(0)));
    closeAndCheck(opened);
  });

  describe('with values of attributes in inodes of their own', () => {
    const large = name('user.large');
    const CLUSTER = 1024;
    let image: Uint8Array;
    before(() => {
      image = makeImage(16, ['-b', '1024', ...QUOTA, '-O', 'ea_inode']);
    });

    it('charge everyone who has the value for all of it and an inode, and nobody for the inode itself', () => {
      const opened = open(image.slice());
      const { fs } = opened;
      // In the inode, and in a block that both share.
      for (const [ids, attributes] of [
        [[5, 6], [large]],
        [
          [15, 16],
          [large, ...[1, 2, 3].map((i) => name(`user.${i}${'n'.repeat(200)}`))],
        ],
      ] as const) {
        const inos = ids.map((id) => fs.create(ROOT, name(`f${id}`), FREG, user(id)));
        for (const ino of inos) for (const each of attributes) fs.setxattr(ino, each, new Uint8Array(2500).fill(9), 0);
        const block = attributes.length > 1 ? CLUSTER : 0;
        const charged = [attributes.length * 3 * CLUSTER + block, 1 + attributes.length];
        for (const id of ids) assert.deepEqual(used(opened, 'user', id), charged);
        fs.setattr(inos[0], { uid: 7 });
        assert.equal(used(opened, 'user', ids[0]), null);
        assert.deepEqual(used(opened, 'user', 7), charged);
        fs.setxattr(inos[0], large, new Uint8Array(10), 0);
        fs.evict([fs.unlink(ROOT, name(`f${ids[1]}`))]);
        assert.equal(used(opened, 'user', ids[1]), null);
        fs.evict([fs.unlink(ROOT, name(`f${ids[0]}`))]);
        assert.equal(used(opened, 'user', 7), null);
      }
      closeAndCheck(opened);
    });

    it('are refused to those who have no room for the value or its inode', () => {
      const opened = open(image.slice(), LIMITS);
      const { fs } = opened;
      setLimits(opened, 'user', 7, { space: { soft: 0, hard: 10 << 10 } });
      setLimits(opened, 'user', 8, { inodes: { soft: 0, hard: 2 } });
      const [a, b] = [7, 8].map((id) => fs.create(ROOT, name(`f${id}`), FREG, user(id)));
      fs.actAs(user(7));
      refused('EDQUOT', () => fs.setxattr(a, large, new Uint8Array(11_000), 0));
      fs.setxattr(a, large, new Uint8Array(5000), 0);
      refused('EDQUOT', () => fs.setxattr(a, name('user.other'), new Uint8Array(6000), 0));
      assert.deepEqual(used(opened, 'user', 7), [5 * CLUSTER, 2]);
      fs.actAs(user(8));
      fs.setxattr(b, large, new Uint8Array(5000), 0);
      refused('EDQUOT', () => fs.setxattr(b, name('user.other'), new Uint8Array(6000), 0));
      assert.deepEqual(used(opened, 'user', 8), [5 * CLUSTER, 2]);
      fs.actAs(user(0));
      fs.setxattr(b, name('user.other'), new Uint8Array(6000), 0);
      closeAndCheck(opened);
    });

    it('are given back by the mount that finds an inode with many of them deleted', () => {
      const opened = open(makeImage(16, ['-b', '1024', '-I', '1024', ...QUOTA, '-O', 'ea_inode', '-J', 'size=1']));
      const { fs } = opened;
      const ino = fs.create(ROOT, name('f'), FREG, user(5));
      for (let i = 0; i < 30; i++) fs.setxattr(ino, name(`user.${i}`), new Uint8Array(1500 + i).fill(i), 0);
      assert.deepEqual(used(opened, 'user', 5)?.[1], 31);
      fs.unlink(ROOT, name('f'));
      fs.volume.journal.commitNow();
      const crashed = open(opened.image.slice());
      assert.equal(crashed.fs.report.orphans?.deleted, 1);
      assert.equal(used(crashed, 'user', 5), null);
      closeAndCheck(crashed);
    });
  });

  it('of a project are inherited, and its files stay in it', () => {
    const opened = open(base.slice(), LIMITS);
    const { fs } = opened;
    const dir = fs.mkdir(ROOT, name('p'), 0o755, user(0));
    fs.setProject(dir, 42, user(0));
    fs.setFlags(dir, fs.getFlags(dir) | EXT4_PROJINHERIT_FL, user(0));
    const other = fs.create(ROOT, name('other'), FREG, user(1));
    const inside = fs.create(dir, name('inside'), FREG, user(1));
    const sub = fs.mkdir(dir, name('sub'), 0o755, user(1));
    assert.equal(fs.getProject(inside), 42);
    assert.equal(fs.getProject(sub), 42);
    assert.notEqual(fs.getFlags(sub) & EXT4_PROJINHERIT_FL, 0);
    refused('EXDEV', () => fs.link(other, dir, name('link')));
    refused('EXDEV', () => fs.rename(ROOT, name('other'), sub, name('other'), 0, user(1)));
    refused('EXDEV', () => fs.rename(dir, name('inside'), ROOT, name('other'), 2, user(1)));
    fs.rename(dir, name('inside'), ROOT, name('outside'), 0, user(1));
    fs.rename(ROOT, name('outside'), sub, name('back'), 0, user(1));
    assert.deepEqual(used(opened, 'project', 42), [2048, 3]);
    setLimits(opened, 'project', 42, { space: { soft: 0, hard: 100 << 10 }, inodes: { soft: 0, hard: 10 } });
    const { blocks, bavail, files, ffree } = fs.statfs(sub);
    assert.deepEqual([blocks, bavail, files, ffree], [100, 98, 10, 7]);
    assert.ok(fs.statfs(ROOT).blocks > 10_000);
    closeAndCheck(opened);
  });

  it('that cannot be read leave the filesystem readable', () => {
    const image = base.slice();
    const { fs } = open(image);
    const at = mapBlock(Inode.load(fs.volume, 4), 0).pblk * 1024;
    fs.closeSync();
    image.fill(0, at, at + 4);
    const damaged = open(image).fs;
    assert.equal(damaged.readOnly, true);
    assert.match(damaged.report.readOnlyReasons.join(), /group quota file.*magic.*e2fsck/);
    refused('EROFS', () => damaged.create(ROOT, name('a'), FREG, user(1)));
    damaged.closeSync();
  });

  it('of an image without the feature are none of our business', () => {
    const opened = open(makeImage(8, ['-b', '1024']), LIMITS);
    const { fs } = opened;
    fs.actAs(user(7));
    fs.create(ROOT, name('a'), FREG, user(7));
    closeAndCheck(opened);
  });
});

describe('a hostile quota file', function () {
  const runs = Number(process.env.EXT4D_HOSTILE_RUNS ?? 50);
  this.timeout(180_000 + runs * 2000);

  it('is refused as corrupt, or counts wrongly, but never loops, hangs or spoils anything else', () => {
    const prepared = open(makeImage(8, ['-b', '1024', ...QUOTA]));
    for (let i = 0; i < 40; i++) prepared.fs.create(ROOT, name(`f${i}`), FREG, user(i * 300_007, i * 5));
    // Blocks in both lists of free ones.
    for (let i = 10; i < 30; i++) prepared.fs.evict([prepared.fs.unlink(ROOT, name(`f${i}`))]);
    const { volume } = prepared.fs;
    const inode = Inode.load(volume, 3);
    const blocks = inode.sizeBytes / QUOTA_BLOCK_BYTES;
    const homes = Array.from({ length: blocks }, (_, i) => mapBlock(inode, i).pblk * QUOTA_BLOCK_BYTES);
    prepared.fs.closeSync();

    const value = fc.oneof(
      fc.nat(blocks + 2),
      fc.constantFrom(0, 1, 2, blocks - 1, blocks, 0x7fff_ffff, 0xffff_ffff, 13, 14, 15),
      fc.nat(0xffff_ffff),
    );
    // Words of headers and of the tree's first references more often than others.
    const word = fc.oneof(fc.nat(7), fc.nat(QUOTA_BLOCK_BYTES / 4 - 1));
    const damage = fc.array(fc.record({ block: fc.nat(blocks - 1), word, value }), { minLength: 1, maxLength: 6 });
    let corrupt = 0;
    checkProperty(
      fc.property(damage, (words) => {
        const image = prepared.image.slice();
        const view = new DataView(image.buffer);
        for (const { block, word, value } of words) view.setUint32(homes[block] + word * 4, value, true);
        const { fs } = open(image, LIMITS);
        const attempt = (action: () => unknown) => {
          try {
            action();
          } catch (error) {
            if (error instanceof CorruptionError) corrupt++;
            else if (!(error instanceof FsError)) throw error;
          }
        };
        fs.actAs(user(1));
        for (let i = 0; i < 40; i++) {
          attempt(() => fs.create(ROOT, name(`n${i}`), FREG, user(i * 300_007, 0)));
          attempt(() => fs.evict([fs.unlink(ROOT, name(`f${i}`))]));
          attempt(() => fs.setattr(fs.lookup(ROOT, name(`n${i}`)), { uid: i * 77_777 }));
          attempt(() => fill(fs, fs.lookup(ROOT, name(`n${i}`)), 4000));
        }
        fs.volume.journal.flushAll();
        const findings = checkFilesystem(fs.volume, { unmounted: false }).findings;
        const elsewhere = findings.filter(
          ({ structure, finding }) => !/quota/.test(structure) && !/no links|orphan/.test(finding),
        );
        assert.deepEqual(elsewhere, []);
        fs.closeSync();
      }),
      { numRuns: runs },
    );
    assert.ok(corrupt > 10, `only ${corrupt} were found`);
    if (runs > 50) console.log(`        ${runs} damaged files, ${corrupt} operations refused as corrupt`);
  });

  it('is none: the root, the log, a file, two at once, or nothing at all are not taken for one', () => {
    const prepared = open(makeImage(8, ['-b', '1024', ...QUOTA, '-O', '^metadata_csum']));
    const file = prepared.fs.create(ROOT, name('file'), FREG, user(5));
    fill(prepared.fs, file, 5000);
    prepared.fs.closeSync();
    for (const field of [SUPERBLOCK.s_usr_quota_inum, SUPERBLOCK.s_grp_quota_inum, SUPERBLOCK.s_prj_quota_inum]) {
      for (const ino of [ROOT, 3, 4, 7, 8, file, 100, 0x7fff_ffff]) {
        const image = prepared.image.slice();
        const view = new DataView(image.buffer);
        if (view.getUint32(SUPERBLOCK_OFFSET + field.offset, true) === ino) continue;
        view.setUint32(SUPERBLOCK_OFFSET + field.offset, ino, true);
        const { fs } = open(image);
        assert.equal(fs.readOnly, true, `${field.offset} ${ino}`);
        assert.match(fs.report.readOnlyReasons.join(), /run e2fsck/);
        fs.closeSync();
      }
    }
  });

  it('has no name that leads to it', () =>
    withScratch((scratch) => {
      const path = join(scratch, 'image');
      makeImageFile(path, 8, ['-b', '1024', ...QUOTA]);
      run('debugfs', ['-w', '-R', 'ln <3> /name', path]);
      const { fs } = open(new Uint8Array(readFileSync(path)));
      const ino = fs.lookup(ROOT, name('name'));
      assert.equal(ino, 3);
      for (const action of [() => fs.stat(ino), () => fs.unlink(ROOT, name('name')), () => fs.setattr(ino, { uid: 1 })])
        assert.throws(action, CorruptionError);
      fs.closeSync();
    }));

  it('may say that more is used than numbers can hold', () => {
    const prepared = open(makeImage(8, ['-b', '1024', ...QUOTA]));
    const a = prepared.fs.create(ROOT, name('a'), FREG, user(1));
    const at = mapBlock(Inode.load(prepared.fs.volume, 3), 5).pblk * QUOTA_BLOCK_BYTES;
    prepared.fs.closeSync();
    // Entries of ids 0 and 1.
    for (const entry of [at + 16, at + 16 + QUOTA_ENTRY.SIZE]) {
      prepared.image.fill(0xff, entry + 8, entry + 72);
      prepared.image.fill(0, entry + QUOTA_ENTRY.dqb_bhardlimit.offset + 1, entry + QUOTA_ENTRY.dqb_curspace.offset);
    }
    const { fs } = open(prepared.image, LIMITS);
    fs.actAs(user(1));
    refused('EDQUOT', () => fill(fs, a, 5000));
    fs.actAs(user(0));
    fill(fs, a, 5000);
    fs.evict([fs.unlink(ROOT, name('a'))]);
    fs.closeSync();
  });
});
