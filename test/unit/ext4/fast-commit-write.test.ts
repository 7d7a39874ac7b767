/** Fast commits that the engine writes: what they say, when there are none, and what a crash right after them leaves. */
import assert from 'node:assert/strict';
import { MemoryDevice } from '../../../src/block/memory-device.js';
import { listFastCommits, recordText } from '../../../src/ext4/fast-commit-listing.js';
import { Filesystem } from '../../../src/ext4/filesystem.js';
import { IOEND_UPDATE_TIMES, OP_WRITE } from '../../../src/ext4/iomap.js';
import { openLogSource } from '../../../src/ext4/journal-inode.js';
import { readGeometry } from '../../../src/ext4/open.js';
import { fsck, makeImage } from '../../support/mke2fs.js';

const BLOCK = 1024;
const ROOT = 2;
const CRED = { uid: 0, gid: 0 };
const RENAME_EXCHANGE = 2;
const text = (name: string) => new TextEncoder().encode(name);
const env = {
  now: () => ({ seconds: 1_700_000_000, nanoseconds: 0 }),
  monotonicMs: () => 0,
  random32: () => 77,
  sleep: () => {},
  schedule: () => () => {},
};

/** One engine on one image; a look at it is a look at what a crash now would leave. */
class Live {
  readonly bytes: Uint8Array;
  readonly fs: Filesystem;

  constructor(bytes: Uint8Array, options: { worthCheckpoint?: number; policy?: { journalsData: boolean } } = {}) {
    this.bytes = bytes;
    this.fs = Filesystem.open(new MemoryDevice(bytes), { env, worthCheckpoint: 0, ...options });
  }

  create(name: string, parent = ROOT): number {
    return this.fs.create(parent, text(name), 0o100644, CRED);
  }

  write(ino: number, pos: number, length: number, fill = 1): void {
    if (this.fs.journalsData(ino)) {
      this.fs.writeJournaled(ino, pos, new Uint8Array(length).fill(fill), OP_WRITE, 0);
      return;
    }
    for (let done = 0; done < length; ) {
      const mapping = this.fs.iomapBegin(ino, pos + done, length - done, OP_WRITE);
      const inside = pos + done - mapping.offsetBytes;
      const piece = Math.min(length - done, mapping.lengthBytes - inside);
      this.fs.volume.device.write(mapping.addrBytes + inside, new Uint8Array(piece).fill(fill));
      this.fs.iomapIoend(ino, pos + done, piece, mapping.addrBytes + inside, IOEND_UPDATE_TIMES, 0);
      done += piece;
    }
  }

  async sync(ino: number | null): Promise<void> {
    await new Promise<void>((done, fail) => this.fs.sync(ino, (error) => (error === null ? done() : fail(error))));
  }

  get tid(): number {
    return this.fs.volume.journal.runningTid;
  }

  /** The records of each fast commit on top of the last transaction, as text. */
  records(): string[][] {
    const device = new MemoryDevice(this.bytes);
    const source = openLogSource(device, readGeometry(device));
    return listFastCommits(source, 256, this.tid).commits.map(({ records }) => records.map(recordText));
  }

  /** The power goes; another engine recovers. e2fsck judges what that one leaves. */
  recovered(look: (fs: Filesystem) => void): void {
    const bytes = this.bytes.slice();
    const fs = Filesystem.open(new MemoryDevice(bytes), { env });
    look(fs);
    fs.closeSync();
    const { code, output } = fsck(bytes);
    assert.equal(code, 0, output);
  }
}

const FEATURES = ['-b', '1024', '-O', 'fast_commit', '-J', 'size=1', '-N', '128', '-m', '0'];

/** With one file, `old`, of 8 blocks, committed. */
async function live(
  options: ConstructorParameters<typeof Live>[1] = {},
  args: readonly string[] = FEATURES,
): Promise<Live & { old: number }> {
  const made = new Live(makeImage(8, args), options);
  const old = made.create('old');
  made.write(old, 0, 8 * BLOCK);
  await made.sync(null);
  return Object.assign(made, { old });
}

function content(fs: Filesystem, name: string): Buffer {
  const ino = fs.lookup(ROOT, text(name));
  assert.notEqual(ino, 0, `${name} is gone`);
  const { size } = fs.stat(ino);
  const bytes = Buffer.alloc(size);
  fs.readData(ino, 0, bytes);
  return bytes;
}

describe('fast commits that are written', function () {
  this.timeout(60_000);

  it('say what an append changed: its blocks and the inode', async () => {
    const fc = await live();
    fc.write(fc.old, 8 * BLOCK, 3 * BLOCK, 9);
    await fc.sync(fc.old);
    const [[range, inode], ...more] = fc.records();
    assert.match(range, /blocks 8\+3 are mapped to \d+$/);
    assert.match(inode, /size 11264$/);
    assert.equal(more.length, 0);
    fc.recovered((fs) => {
      assert.equal(fs.report.log?.fastCommits, 1);
      const bytes = content(fs, 'old');
      assert.equal(bytes.length, 11 * BLOCK);
      assert.ok(bytes.subarray(8 * BLOCK).every((byte) => byte === 9));
    });
  });

  it('follow each other until the next commit, and begin anew after it', async () => {
    const fc = await live();
    const { tid } = fc;
    for (let i = 0; i < 3; i++) {
      fc.write(fc.old, (8 + i) * BLOCK, BLOCK);
      await fc.sync(fc.old);
      assert.equal(fc.records().length, i + 1);
      assert.equal(fc.tid, tid, 'the transaction went on');
    }
    await fc.sync(null);
    assert.equal(fc.tid, tid + 1);
    assert.equal(fc.records().length, 0, 'those before are void');
    fc.write(fc.old, 0, BLOCK);
    await fc.sync(fc.old);
    assert.equal(fc.records().length, 1);
    fc.recovered((fs) => assert.equal(fs.report.log?.fastCommits, 1));
  });

  it('keep a name in each of its ways: created, linked, renamed over another, removed', async () => {
    const fc = await live();
    for (const name of ['victim', 'removed']) fc.write(fc.create(name), 0, 2 * BLOCK);
    await fc.sync(null);
    const made = fc.create('new');
    fc.write(made, 0, 5000, 3);
    fc.fs.link(made, ROOT, text('also'));
    fc.fs.rename(ROOT, text('old'), ROOT, text('victim'), 0, CRED);
    fc.fs.unlink(ROOT, text('removed'));
    await fc.sync(made);
    const [records] = fc.records();
    const names = records.filter((record) => /created|gets|loses/.test(record)).map((record) => record.slice(6));
    assert.equal(names.length, 6);
    assert.match(
      names.join('; '),
      /created as "new".*gets the name "also".*loses the name "victim".*gets the name "victim".*loses the name "old".*loses the name "removed"/,
    );
    fc.recovered((fs) => {
      for (const gone of ['old', 'removed']) assert.equal(fs.lookup(ROOT, text(gone)), 0);
      assert.equal(fs.lookup(ROOT, text('new')), fs.lookup(ROOT, text('also')));
      assert.equal(fs.stat(fs.lookup(ROOT, text('new'))).nlink, 2);
      assert.ok(content(fs, 'also').every((byte) => byte === 3));
      assert.equal(content(fs, 'victim').length, 8 * BLOCK);
    });
  });

  it('say nothing of a file that came and went, and of one that is open without a name only that it lost it', async () => {
    const fc = await live();
    const brief = fc.create('brief');
    fc.write(brief, 0, BLOCK);
    fc.fs.evict([fc.fs.unlink(ROOT, text('brief'))]);
    const nameless = fc.fs.tmpfile(ROOT, 0o600, CRED);
    fc.write(nameless, 0, BLOCK);
    fc.fs.unlink(ROOT, text('old'));
    fc.write(fc.old, 0, BLOCK);
    await fc.sync(fc.old);
    assert.deepEqual(
      fc.records().map((records) => records.map((record) => record.replace(/inode \d+/, 'inode'))),
      [['inode loses the name "old" in directory 2']],
    );
    fc.recovered((fs) => assert.equal(fs.lookup(ROOT, text('old')), 0));
  });

  it('say what a truncate, a hole and a preallocation leave', async () => {
    const fc = await live();
    fc.fs.setattr(fc.old, { size: 5 * BLOCK + 10 });
    fc.fs.fallocate(fc.old, 3, BLOCK, 2 * BLOCK);
    fc.fs.fallocate(fc.old, 1, 20 * BLOCK, 4 * BLOCK);
    await fc.sync(fc.old);
    const [records] = fc.records();
    assert.match(records.join('; '), /blocks from 1 on, 2 of them, are unmapped/);
    assert.match(records.join('; '), /blocks from 6 on, 2 of them, are unmapped/);
    assert.match(records.join('; '), /blocks 20\+4 are mapped to \d+, unwritten/);
    fc.recovered((fs) => {
      const bytes = content(fs, 'old');
      assert.equal(bytes.length, 5 * BLOCK + 10);
      assert.ok(bytes.every((byte, i) => byte === (i >= BLOCK && i < 3 * BLOCK ? 0 : 1)));
      assert.equal(fs.stat(fs.lookup(ROOT, text('old'))).blocks512, 8 * 2);
    });
  });

  it('know of a change that lies in an extent block alone', async () => {
    const fc = await live();
    fc.fs.fallocate(fc.old, 0, 0, 40 * BLOCK);
    for (let lblk = 10; lblk < 40; lblk += 4) fc.write(fc.old, lblk * BLOCK, BLOCK);
    await fc.sync(null);
    const { addrBytes, offsetBytes } = fc.fs.iomapBegin(fc.old, 20 * BLOCK, BLOCK, OP_WRITE);
    const addr = addrBytes + 20 * BLOCK - offsetBytes;
    fc.fs.volume.device.write(addr, new Uint8Array(BLOCK).fill(5));
    // Neither size nor times change, and the inode is not touched.
    fc.fs.iomapIoend(fc.old, 20 * BLOCK, BLOCK, addr, 0, 0);
    assert.notEqual(fc.fs.volume.lastChange(fc.old), undefined);
    await fc.sync(fc.old);
    assert.match(fc.records()[0][0], /blocks 20\+1 are mapped to \d+$/);
    fc.recovered((fs) => {
      const bytes = content(fs, 'old');
      assert.ok(bytes.subarray(20 * BLOCK, 21 * BLOCK).every((byte) => byte === 5));
    });
  });

  it('are found after their transaction has gone on without them', async () => {
    const fc = await live();
    fc.fs.setattr(fc.old, { mode: 0o600 });
    await fc.sync(fc.old);
    fc.fs.setattr(fc.old, { size: 0 });
    fc.create('not synced');
    fc.recovered((fs) => {
      assert.equal(content(fs, 'old').length, 8 * BLOCK);
      assert.equal(fs.stat(fs.lookup(ROOT, text('old'))).mode & 0o777, 0o600);
      assert.equal(fs.lookup(ROOT, text('not synced')), 0);
    });
  });

  const INELIGIBLE: Record<string, (fc: Live & { old: number }) => void> = {
    'an attribute is set': ({ fs, old }) => fs.setxattr(old, text('user.a'), text('b'), 0),
    'a directory is made': ({ fs }) => void fs.mkdir(ROOT, text('d'), 0o755, CRED),
    'a directory changes its mode': ({ fs }) => fs.setattr(ROOT, { mode: 0o700 }),
    'a symlink is made': ({ fs }) => void fs.symlink(ROOT, text('l'), text('target'), CRED),
    'a device is made': ({ fs }) => void fs.mknod(ROOT, text('n'), 0o020644, 0x0103, CRED),
    'two names are exchanged': (fc) => {
      fc.create('other');
      fc.fs.rename(ROOT, text('other'), ROOT, text('old'), RENAME_EXCHANGE, CRED);
    },
    'a range is taken out of a file': ({ fs, old }) => fs.fallocate(old, 8, 0, BLOCK),
    'flags of an inode change': ({ fs, old }) => fs.setFlags(old, 0x80000 | 0x40, { uid: 0 }),
    'a file without a name gets one': ({ fs }) => {
      const ino = fs.tmpfile(ROOT, 0o600, CRED);
      fs.link(ino, ROOT, text('named'));
    },
    'a step says nothing of fast commits': ({ fs, old }) => {
      const { volume } = fs;
      volume.journal.run(1, (handle) => {
        const block = handle.getWriteAccess(volume.superblock());
        handle.dirtyMetadata(block);
      });
      fs.setattr(old, { mode: 0o640 });
    },
  };
  for (const [what, change] of Object.entries(INELIGIBLE)) {
    it(`are none, but a commit, where ${what}`, async () => {
      const fc = await live();
      const { tid } = fc;
      change(fc);
      fc.write(fc.old, 0, 10);
      await fc.sync(fc.old);
      assert.equal(fc.tid, tid + 1);
      assert.equal(fc.records().length, 0);
    });
  }

  const WITHOUT: Record<string, { args: readonly string[]; policy?: { journalsData: boolean } }> = {
    'the feature': { args: FEATURES.map((arg) => (arg === 'fast_commit' ? '^fast_commit' : arg)) },
    'data in the log': { args: FEATURES, policy: { journalsData: true } },
    quotas: { args: [...FEATURES, '-O', 'fast_commit,quota'] },
    clusters: { args: [...FEATURES, '-O', 'fast_commit,bigalloc', '-C', '4096'] },
  };
  for (const [what, { args, policy }] of Object.entries(WITHOUT)) {
    it(`are none with ${what === 'the feature' ? 'an image without the feature' : what}`, async () => {
      const fc = await live(policy === undefined ? {} : { policy }, args);
      const { tid } = fc;
      fc.fs.setattr(fc.old, { mode: 0o600 });
      await fc.sync(fc.old);
      assert.equal(fc.tid, tid + 1);
    });
  }

  it('are none that the area has no room for: a commit, and the area is empty again', async () => {
    const fc = await live();
    const { tid } = fc;
    let most = 0;
    for (let i = 0; fc.tid === tid && i < 100; i++) {
      fc.write(fc.old, i * BLOCK, BLOCK, i);
      await fc.sync(fc.old);
      most = Math.max(most, fc.records().length);
    }
    assert.ok(most > 10, `${most} fast commits fitted`);
    assert.equal(fc.tid, tid + 1);
    fc.write(fc.old, 0, BLOCK);
    await fc.sync(fc.old);
    assert.equal(fc.records().length, 1);
    fc.recovered(() => {});
  });

  it('take several blocks if they must', async () => {
    const fc = await live();
    const made = Array.from({ length: 20 }, (_, i) => fc.create(`${i}${'n'.repeat(200)}`));
    await fc.sync(made[0]);
    assert.equal(fc.records().length, 1);
    fc.recovered((fs) => {
      for (const [i, ino] of made.entries()) assert.equal(fs.lookup(ROOT, text(`${i}${'n'.repeat(200)}`)), ino);
    });
  });

  it('wait for three in a row, unless the log is empty already', async () => {
    const fc = await live({ worthCheckpoint: 2 });
    const tids: number[] = [];
    for (let i = 0; i < 5; i++) {
      fc.fs.setattr(fc.old, { mode: 0o600 + i });
      await fc.sync(fc.old);
      tids.push(fc.tid);
    }
    const [first] = tids;
    assert.deepEqual(tids, [first, first + 1, first + 1, first + 1, first + 1]);
    assert.equal(fc.records().length, 3);
  });

  it('leave a closed image without the mark of the area in its log', async () => {
    const fc = await live();
    fc.fs.setattr(fc.old, { mode: 0o600 });
    await fc.sync(fc.old);
    const superblock = () => {
      const device = new MemoryDevice(fc.bytes);
      return openLogSource(device, readGeometry(device)).superblock;
    };
    assert.ok(superblock().hasIncompat('FAST_COMMIT'));
    fc.fs.closeSync();
    assert.ok(!superblock().hasIncompat('FAST_COMMIT'));
    assert.equal(superblock().start, 0);
    const { code, output } = fsck(fc.bytes);
    assert.equal(code, 0, output);
  });

  it('are undone with a handle that fails', async () => {
    const fc = await live();
    assert.throws(() =>
      fc.fs.atomically(40, () => {
        fc.create('half');
        throw new Error('on purpose');
      }),
    );
    fc.fs.setattr(fc.old, { mode: 0o600 });
    await fc.sync(fc.old);
    assert.deepEqual(
      fc.records().map((records) => records.length),
      [1],
    );
    fc.recovered((fs) => assert.equal(fs.lookup(ROOT, text('half')), 0));
  });
});
