/** Fast commits written by hand: what no kernel of today writes, what none may write, and what only a broken disk holds. */
import assert from 'node:assert/strict';
import { MemoryDevice } from '../../../src/block/memory-device.js';
import { Random } from '../../../src/crash/crash-points.js';
import { CorruptionError, FsError, UnsupportedError } from '../../../src/errors.js';
import { checkFilesystem } from '../../../src/ext4/check/check.js';
import { listFastCommits } from '../../../src/ext4/fast-commit-listing.js';
import { Filesystem } from '../../../src/ext4/filesystem.js';
import { S_IFDIR, S_IFLNK } from '../../../src/ext4/format/inode.js';
import { inlineContent } from '../../../src/ext4/inline-data.js';
import { Inode } from '../../../src/ext4/inode.js';
import { openLogSource } from '../../../src/ext4/journal-inode.js';
import { closeVolume, readGeometry } from '../../../src/ext4/open.js';
import { CountingDevice } from '../../support/counting-device.js';
import {
  addRange,
  BLOCK_SIZE,
  creat,
  delRange,
  FastCommitImage,
  head,
  INODE_BYTES,
  type InodeFields,
  inode,
  link,
  type Record,
  unlink,
} from '../../support/fast-commit-builder.js';
import { fsck } from '../../support/mke2fs.js';

const NEW = 60;
const text = (name: string) => new TextEncoder().encode(name);

/** Mounts, looks, unmounts, and lets e2fsck judge. */
function replayed(
  image: FastCommitImage,
  fastCommits: number,
  look: (filesystem: Filesystem) => void = () => {},
): void {
  const bytes = image.bytes.slice();
  const filesystem = Filesystem.open(new MemoryDevice(bytes));
  assert.equal(filesystem.report.log?.fastCommits, fastCommits);
  look(filesystem);
  closeVolume(filesystem.volume);
  const { code, output } = fsck(bytes);
  assert.equal(code, 0, output);
}

/** Refused before anything is written. */
function refused(
  image: FastCommitImage,
  family: typeof CorruptionError | typeof UnsupportedError,
  finding: RegExp,
): void {
  const device = new CountingDevice(image.bytes.slice());
  assert.throws(
    () => Filesystem.open(device),
    (error: unknown) => error instanceof family && finding.test(error.message),
  );
  assert.equal(device.writes, 0);
}

describe('fast commits written by hand', function () {
  this.timeout(20_000);

  it('a file is created, a directory is made, a name is added and one is taken away', () => {
    const image = new FastCommitImage();
    const dir = image.inoOf('dir');
    image.commit([
      inode(NEW),
      creat(dir, NEW, 'new'),
      inode(NEW + 1, { mode: S_IFDIR | 0o755, links: 2, size: BLOCK_SIZE }),
      creat(dir, NEW + 1, 'made'),
      link(NEW + 1, image.inoOf('a'), 'again'),
      unlink(2, image.inoOf('b'), 'b'),
      image.same('a', { links: 2 }),
    ]);
    replayed(image, 1, (filesystem) => {
      assert.equal(filesystem.lookup(dir, text('new')), NEW);
      assert.equal(filesystem.lookup(NEW + 1, text('again')), image.inoOf('a'));
      assert.equal(filesystem.lookup(2, text('b')), 0);
      assert.equal(filesystem.stat(dir).nlink, 4);
      assert.equal(filesystem.stat(dir).mtime.seconds, 1_800_000_000);
    });
  });

  it('a directory is renamed where it is', () => {
    const image = new FastCommitImage();
    const dir = image.inoOf('dir');
    image.commit([link(2, dir, 'renamed'), unlink(2, dir, 'dir')]);
    replayed(image, 1, (filesystem) => {
      assert.equal(filesystem.lookup(2, text('renamed')), dir);
      assert.equal(filesystem.lookup(2, text('dir')), 0);
      assert.equal(filesystem.lookup(dir, text('c')), image.inoOf('dir/c'));
    });
  });

  it('an empty directory is removed', () => {
    const image = new FastCommitImage();
    image.commit([unlink(2, image.inoOf('empty'), 'empty')]);
    replayed(image, 1, (filesystem) => assert.equal(filesystem.lookup(2, text('empty')), 0));
  });

  it('a range moves from one file to another, whichever is recorded first', () => {
    for (const order of ['take, give', 'give, take', 'delete', 'deleted before']) {
      const image = new FastCommitImage();
      const [a, b] = [image.inoOf('a'), image.inoOf('b')];
      const from = image.firstBlock.get('a') ?? 0;
      const give = [delRange(a, 4, 0xfffffffb), image.same('a', { size: 4 * BLOCK_SIZE })];
      const take = [addRange(b, 8, 4, from + 4), image.same('b', { size: 12 * BLOCK_SIZE })];
      if (order === 'take, give') image.commit([...take, ...give]);
      else if (order === 'give, take') image.commit([...give, ...take]);
      else if (order === 'delete') image.commit([unlink(2, a, 'a'), ...take]);
      else image.commit([unlink(2, a, 'a')]).commit(take);
      replayed(image, order === 'deleted before' ? 2 : 1, (filesystem) => {
        assert.equal(filesystem.iomapBegin(b, 8 * BLOCK_SIZE, BLOCK_SIZE, 0).addrBytes, (from + 4) * BLOCK_SIZE);
      });
    }
  });

  it('the number of a deleted file goes to a new one, and nothing of the old is left', () => {
    const image = new FastCommitImage();
    const a = image.inoOf('a');
    image.commit([unlink(2, a, 'a'), inode(a, { generation: 5 }), creat(2, a, 'other')]);
    replayed(image, 1, (filesystem) => {
      assert.equal(filesystem.lookup(2, text('other')), a);
      assert.equal(filesystem.stat(a).size, 0);
      assert.equal(filesystem.stat(a).blocks512, 0);
    });
  });

  it('what came to nothing is passed over', () => {
    const image = new FastCommitImage();
    image.commit([
      // Created and deleted again: the kernel drops the creation and keeps the rest.
      link(2, NEW, 'x'),
      unlink(2, NEW, 'y'),
      unlink(NEW, image.inoOf('a'), 'a'),
      unlink(2, image.inoOf('a'), 'never there'),
      unlink(2, image.inoOf('a'), 'b'),
      delRange(NEW, 0, 1),
    ]);
    replayed(image, 1, (filesystem) => {
      assert.equal(filesystem.lookup(2, text('x')), 0);
      assert.equal(filesystem.lookup(2, text('b')), image.inoOf('b'));
    });
  });

  it('records over several blocks are one commit', () => {
    const image = new FastCommitImage();
    const records: Record[] = [];
    for (let i = 0; i < 30; i++) records.push(inode(NEW + i), creat(2, NEW + i, `file ${i}`));
    image.commit(records);
    replayed(image, 1, (filesystem) => assert.equal(filesystem.lookup(2, text('file 29')), NEW + 29));
  });

  describe('of an image with quotas', () => {
    const QUOTA = ['-O', 'quota,project', '-E', 'quotatype=usrquota:grpquota:prjquota'];
    const used = (filesystem: Filesystem, uid: number) => {
      const entry = filesystem.volume.quotas?.entryOf('user', uid) ?? null;
      return entry === null ? null : [entry.used('space') / BLOCK_SIZE, entry.used('inodes')];
    };

    it('what they come to is counted for its owners', () => {
      const image = new FastCommitImage(undefined, QUOTA);
      const [a, b, dir] = ['a', 'b', 'dir'].map((path) => image.inoOf(path));
      image
        .commit([
          inode(NEW, { uid: 5 }),
          addRange(NEW, 0, 3, 7000),
          creat(2, NEW, 'new'),
          inode(NEW, { uid: 5, size: 3 * BLOCK_SIZE }),
          inode(NEW + 1, { mode: S_IFDIR | 0o755, links: 2, size: BLOCK_SIZE, uid: 6 }),
          creat(dir, NEW + 1, 'made'),
          image.same('a', { uid: 7 }),
          // As the kernel does; what is in the file is not recorded.
          addRange(3, 9, 1, 7050),
          inode(3, { size: 20 * BLOCK_SIZE, generation: 0 }),
        ])
        .commit([unlink(2, b, 'b'), addRange(a, 8, 2, 7100), image.same('a', { uid: 7, size: 10 * BLOCK_SIZE })])
        .commit([unlink(2, a, 'a'), inode(a, { generation: 5, uid: 8 }), creat(2, a, 'other')]);
      replayed(image, 3, (filesystem) => {
        assert.deepEqual(used(filesystem, 5), [3, 1]);
        assert.deepEqual(used(filesystem, 6), [1, 1]);
        assert.equal(used(filesystem, 7), null);
        assert.deepEqual(used(filesystem, 8), [0, 1]);
      });
    });

    it('a new owner takes over what there is', () => {
      const image = new FastCommitImage(undefined, QUOTA);
      image.commit([image.same('a', { uid: 70_000 & 0xffff })]).commit([image.same('a', { uid: 7 })]);
      replayed(image, 2, (filesystem) => {
        assert.equal(used(filesystem, 70_000 & 0xffff), null);
        assert.deepEqual(used(filesystem, 7), [8, 1]);
      });
    });
  });

  describe('of an image with clusters', () => {
    const BIGALLOC = ['-O', 'bigalloc', '-C', '4096'];

    it('more blocks of a cluster are no new ones, and it goes with the last of them', () => {
      const image = new FastCommitImage(undefined, BIGALLOC);
      const a = image.inoOf('a');
      image
        .commit([addRange(a, 9, 1, 7001), image.same('a', { size: 10 * BLOCK_SIZE })])
        .commit([addRange(a, 8, 1, 7000), addRange(a, 10, 2, 7002), image.same('a', { size: 12 * BLOCK_SIZE })])
        .commit([delRange(a, 9, 2), image.same('a', { size: 12 * BLOCK_SIZE })]);
      replayed(image, 3, (filesystem) => assert.equal(filesystem.stat(a).blocks512, 24));
      image.commit([delRange(a, 8, 4), image.same('a')]);
      replayed(image, 4, (filesystem) => assert.equal(filesystem.stat(a).blocks512, 16));
    });

    it('a cluster that moves leaves nothing where it was, even while the records have both', () => {
      const image = new FastCommitImage(undefined, BIGALLOC);
      const a = image.inoOf('a');
      image.commit([addRange(a, 0, 1, 7000), delRange(a, 1, 0xfffffffe), image.same('a', { size: 10 })]);
      replayed(image, 1, (filesystem) => assert.equal(filesystem.stat(a).blocks512, 8));
    });

    it('a cluster in two files, or in a place that it cannot have, is refused', () => {
      for (const [finding, records] of [
        [/two files have it/, (i) => [addRange(i.inoOf('a'), 8, 1, 7000), addRange(i.inoOf('b'), 9, 1, 7001)]],
        [/belongs to another/, (i) => [addRange(i.inoOf('a'), 8, 1, i.firstBlock.get('b') ?? 0)]],
        [/its cluster/, (i) => [addRange(i.inoOf('a'), 8, 1, 7001)]],
        [/its cluster/, (i) => [addRange(i.inoOf('a'), 8, 1, 7000), addRange(i.inoOf('a'), 13, 1, 7001)]],
        [/two files have it/, (i) => [8, 16, 24].map((at) => addRange(i.inoOf('a'), at, 1, at === 16 ? 7004 : 7000))],
      ] as [RegExp, (image: FastCommitImage) => Record[]][]) {
        const image = new FastCommitImage(undefined, BIGALLOC);
        refused(image.commit(records(image)), CorruptionError, finding);
      }
    });
  });

  describe('of an image with inline data', () => {
    const INLINE = ['-I', '256', '-O', 'inline_data'];
    const content = (length: number) => Uint8Array.from({ length }, (_, i) => i + 1);

    it('content comes into an inode, changes there, and leaves it', () => {
      const image = new FastCommitImage(undefined, INLINE);
      image
        .commit([inode(NEW, { inline: content(20) }), creat(2, NEW, 'new'), inode(NEW, { inline: content(20) })])
        .commit([inode(NEW, { inline: content(120) })])
        .commit([image.same('a', { inline: content(70), size: 70 })]);
      const read = (filesystem: Filesystem, ino: number) => inlineContent(Inode.get(filesystem.volume, ino));
      replayed(image, 3, (filesystem) => {
        assert.deepEqual(read(filesystem, NEW), content(120));
        assert.deepEqual(read(filesystem, image.inoOf('a')), content(70));
        // As the kernel shows it.
        assert.equal(filesystem.stat(image.inoOf('a')).blocks512, 1);
      });
      image.commit([addRange(NEW, 0, 2, 7000), inode(NEW, { size: 2 * BLOCK_SIZE })]);
      replayed(image, 4, (filesystem) => assert.equal(filesystem.stat(NEW).blocks512, 4));
    });

    it('ranges of content in an inode are none, whatever they say', () => {
      const image = new FastCommitImage(undefined, INLINE);
      image.commit([
        inode(NEW, { inline: content(100) }),
        addRange(NEW, 0, 5, 0x01020304),
        creat(2, NEW, 'new'),
        addRange(NEW, 12, 5, 3),
        inode(NEW, { inline: content(50) }),
      ]);
      replayed(image, 1, (filesystem) => assert.equal(filesystem.stat(NEW).size, 50));
    });

    it('content that older kernels did not record is not made up', () => {
      const image = new FastCommitImage(undefined, INLINE);
      const [tag, value] = inode(NEW, { inline: content(100) });
      image.commit([[tag, value.subarray(0, 4 + INODE_BYTES)], creat(2, NEW, 'new')]);
      refused(image, UnsupportedError, /only part of inline data/);
    });

    it('content that cannot be there is refused', () => {
      for (const [mkfs, fields, finding] of [
        [INLINE, { inline: content(100), size: 110 }, /its size is 110, its inline data has 40 \+ 60 bytes/],
        [INLINE, { inline: content(60), flags: 0x10080000 }, /cannot have any/],
        [[], { inline: content(60) }, /cannot have any/],
        [INLINE, { flags: 0x200000 }, /value of an attribute/],
      ] as [string[], InodeFields, RegExp][]) {
        const image = new FastCommitImage(undefined, mkfs);
        refused(image.commit([inode(NEW, fields), creat(2, NEW, 'new')]), CorruptionError, finding);
      }
    });
  });

  describe('end at the first that is not whole', () => {
    const one = (name: string, ino: number) => [inode(ino), creat(2, ino, name)];
    const names = (filesystem: Filesystem) => ['1', '2', '3'].map((name) => filesystem.lookup(2, text(name)) !== 0);
    const flip = (blocks: Uint8Array) => {
      blocks[40] ^= 1;
    };

    it('a wrong checksum in the second', () => {
      const image = new FastCommitImage();
      image
        .commit(one('1', NEW))
        .commit(one('2', NEW + 1), flip)
        .commit(one('3', NEW + 2));
      replayed(image, 1, (filesystem) => assert.deepEqual(names(filesystem), [true, false, false]));
    });

    it('a wrong checksum in the first', () => {
      const image = new FastCommitImage();
      image.commit(one('1', NEW), flip).commit(one('2', NEW + 1));
      replayed(image, 0, (filesystem) => assert.deepEqual(names(filesystem), [false, false, false]));
    });

    it('a record of unknown kind, one too long, one too short', () => {
      const damages = [
        (blocks: Uint8Array) => blocks.set([99], 0),
        (blocks: Uint8Array) => blocks.set([0xff, 0xff], 2),
        (blocks: Uint8Array) => blocks.set([1, 0], 2),
        (blocks: Uint8Array) => blocks.fill(0),
      ];
      for (const damage of damages) {
        const image = new FastCommitImage();
        image.commit(one('1', NEW)).commit(one('2', NEW + 1), damage);
        replayed(image, 1, (filesystem) => assert.deepEqual(names(filesystem), [true, false, false]));
      }
    });

    it('one of another transaction', () => {
      const image = new FastCommitImage();
      image.commit(one('1', NEW)).commit(one('2', NEW + 1), undefined, image.tid - 1);
      replayed(image, 1, (filesystem) => assert.deepEqual(names(filesystem), [true, false, false]));
      const old = new FastCommitImage();
      old.commit(one('1', NEW), undefined, old.tid - 1);
      replayed(old, 0, (filesystem) => assert.deepEqual(names(filesystem), [false, false, false]));
    });

    it('and the listing says why', () => {
      const image = new FastCommitImage();
      image.commit(one('1', NEW)).commit(one('2', NEW + 1), flip);
      const device = new MemoryDevice(image.bytes);
      const { commits, endReason } = listFastCommits(openLogSource(device, readGeometry(device)), 256, image.tid);
      assert.deepEqual(
        commits.map(({ records }) => records.map(({ tag }) => tag)),
        [['INODE', 'CREAT']],
      );
      assert.match(endReason, /wrong checksum/);
    });
  });

  it('unknown features are refused', () => {
    const image = new FastCommitImage();
    image.commit([head(image.tid, 1), inode(NEW), creat(2, NEW, 'x')]);
    refused(image, UnsupportedError, /unknown features \(0x1\)/);
  });

  describe('what contradicts the filesystem is refused, and nothing is written', () => {
    const cases: { name: string; finding: RegExp; records: (image: FastCommitImage) => Record[] }[] = [];
    const contradiction = (name: string, finding: RegExp, records: (image: FastCommitImage) => Record[]) =>
      cases.push({ name, finding, records });

    contradiction('a block of metadata becomes data', /hold metadata/, (image) => [
      addRange(image.inoOf('a'), 8, 2, 3),
      image.same('a'),
    ]);
    contradiction('blocks outside the filesystem', /hold metadata, or lie outside/, (image) => [
      addRange(image.inoOf('a'), 8, 100, 8190),
    ]);
    contradiction('a block of the log becomes data', /hold metadata/, (image) => [
      addRange(image.inoOf('a'), 8, 1, image.logBlock),
    ]);
    contradiction('a block that another file keeps', /belongs to another|two files/, (image) => [
      addRange(image.inoOf('a'), 8, 1, image.firstBlock.get('b') ?? 0),
    ]);
    contradiction('one block for two files', /two files have it/, (image) => [
      addRange(image.inoOf('a'), 8, 4, 7000),
      addRange(image.inoOf('b'), 8, 4, 7002),
    ]);
    contradiction('one block twice in a file', /two files have it/, (image) => [
      addRange(image.inoOf('a'), 8, 1, 7000),
      addRange(image.inoOf('a'), 10, 1, 7000),
    ]);
    contradiction('blocks behind the last that can be', /beyond what can be mapped/, (image) => [
      addRange(image.inoOf('a'), 0xffffffff, 1, 7000),
    ]);
    contradiction('blocks of a directory', /no regular file/, (image) => [addRange(image.inoOf('dir'), 1, 1, 7000)]);
    contradiction('the inode of the journal', /reserved/, () => [inode(8)]);
    contradiction('an inode that cannot be', /no such inode/, () => [inode(100_000)]);
    contradiction('a file created and not recorded', /has not been recorded/, () => [creat(2, NEW, 'x')]);
    contradiction('a file created with the name of another', /the name is that of inode/, () => [
      inode(NEW),
      creat(2, NEW, 'a'),
    ]);
    contradiction('a name of another inode', /the name is that of inode/, (image) => [link(2, image.inoOf('b'), 'a')]);
    contradiction('a name in a file', /no directory/, (image) => [link(image.inoOf('b'), image.inoOf('a'), 'x')]);
    contradiction('a directory that is not empty is removed', /not empty/, (image) => [
      unlink(2, image.inoOf('dir'), 'dir'),
    ]);
    contradiction('an inode without a mode', /mode is 0/, () => [inode(NEW, { mode: 0 })]);
    contradiction('fixed fields beyond the inode', /i_extra_isize is 128/, () => [inode(NEW, { extraIsize: 128 })]);
    contradiction('fixed fields of odd length', /i_extra_isize is 30/, () => [inode(NEW, { extraIsize: 30 })]);
    contradiction('a new inode with attributes', /new and has an attribute block/, () => [
      inode(NEW, { fileAcl: 7000 }),
    ]);
    contradiction('attributes from nowhere', /its attribute block is 7000/, (image) => [
      image.same('a', { fileAcl: 7000 }),
    ]);
    contradiction('another kind of map', /maps its blocks in another way/, (image) => [image.same('a', { flags: 0 })]);

    for (const { name, finding, records } of cases) {
      it(name, () => {
        const image = new FastCommitImage();
        image.commit(records(image));
        refused(image, CorruptionError, finding);
      });
    }
  });

  for (const mkfs of [
    [],
    ['-O', 'quota,ea_inode'],
    ['-O', 'bigalloc', '-C', '4096'],
    ['-O', 'inline_data,quota,project', '-E', 'quotatype=usrquota:grpquota:prjquota'],
  ]) {
    it(`whatever is recorded, it is replayed or refused (${mkfs.join(' ')})`, function () {
      this.timeout(120_000);
      replayAnything(mkfs);
    });
  }

  function replayAnything(mkfs: readonly string[]): void {
    const fresh = new FastCommitImage(undefined, mkfs);
    const blank = fresh.bytes.slice();
    const random = new Random(5);
    const pick = <T>(list: readonly T[]): T => list[random.below(list.length)];
    const inos = [0, 1, 2, 8, 11, ...fresh.ino.values(), NEW, NEW + 1, 127, 128, 129, 0xffffffff];
    const names = ['a', 'b', 'c', 'dir', 'inner', 'x', '.', '..', 'y/z', '\0'];
    const numbers = [0, 1, 7, 8, 100, 32767, 32768, 0x7fffffff, 0xfffffffe, 0xffffffff];
    const blocks = [0, 1, 2, 100, 3000, 7000, 7001, 8191, 8192, 0xffffffff, ...fresh.firstBlock.values()];
    const makers: (() => Record)[] = [
      () =>
        addRange(
          pick(inos),
          pick(numbers),
          random.below(40_000) % pick([1, 2, 8, 32768]),
          pick(blocks),
          random.below(2) === 0,
        ),
      () => delRange(pick(inos), pick(numbers), pick(numbers)),
      () => creat(pick(inos), pick(inos), pick(names)),
      () => link(pick(inos), pick(inos), pick(names)),
      () => unlink(pick(inos), pick(inos), pick(names)),
      () => fresh.same(pick([...fresh.ino.keys()]), { links: random.below(3), size: pick(numbers) }),
      () =>
        inode(pick(inos), {
          mode: pick([0o100644, S_IFDIR | 0o755, S_IFLNK | 0o777, 0o010644, 0o170000]),
          links: random.below(3),
          size: pick(numbers),
          flags: pick([0x80000, 0x80000, 0, 0x81000, 0x10080000]),
          generation: random.below(3),
          uid: random.below(3),
        }),
      () => inode(pick(inos), { inline: new Uint8Array(random.below(150)).fill(1), generation: random.below(3) }),
    ];
    let replays = 0;
    for (let round = 0; round < 120; round++) {
      const image = new FastCommitImage(blank.slice());
      const records = Array.from({ length: 1 + random.below(6) }, () => pick(makers)());
      image.commit(records);
      try {
        const { volume } = Filesystem.open(new MemoryDevice(image.bytes));
        const { findings } = checkFilesystem(volume, { unmounted: false });
        // The records may say of links and sizes what they like; what is used is counted.
        assert.deepEqual(
          findings.filter(({ structure }) => /quota|bitmap|group|superblock/.test(structure)).map(String),
          [],
          `round ${round}`,
        );
        closeVolume(volume);
        replays++;
      } catch (error) {
        const isKnown =
          error instanceof CorruptionError || error instanceof UnsupportedError || error instanceof FsError;
        assert.ok(isKnown, `round ${round}: ${error instanceof Error ? error.stack : String(error)}`);
      }
    }
    assert.ok(replays > 15, `${replays} were replayed`);
  }
});
