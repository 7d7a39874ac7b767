import assert from 'node:assert/strict';
import { FsError } from '../../../src/errors.js';
import { JBD2_MAGIC } from '../../../src/jbd2/format.js';
import { CountingDevice } from '../../support/counting-device.js';
import { BLOCK_SIZE, flatImage, HOME_BLOCKS, openFlatJournal, PLAIN } from '../../support/flat-journal.js';

const homeByte = (image: Uint8Array, nr: number) => image[nr * BLOCK_SIZE];

/** A device that also keeps what was done, in order, by meaning. */
class TracingDevice extends CountingDevice {
  readonly trace: string[] = [];
  fail: 'writes' | 'flushes' | null = null;

  override write(offsetBytes: number, from: Uint8Array): void {
    if (this.fail === 'writes') throw new FsError('EIO', 'injected');
    super.write(offsetBytes, from);
    for (let at = 0; at < from.length; at += BLOCK_SIZE) {
      const nr = (offsetBytes + at) / BLOCK_SIZE;
      const view = new DataView(from.buffer, from.byteOffset + at);
      if (nr < HOME_BLOCKS) this.trace.push(`home ${nr}`);
      else if (nr === HOME_BLOCKS) this.trace.push('tail');
      else if (view.getUint32(0) !== JBD2_MAGIC) this.trace.push('data');
      else this.trace.push(['', 'descriptor', 'commit', '', '', 'revoke'][view.getUint32(4)]);
    }
  }

  override flush(): void {
    if (this.fail === 'flushes') throw new FsError('EIO', 'injected');
    super.flush();
    this.trace.push('flush');
  }
}

function traced(logBlocks = 64, sequence = 1) {
  const image = flatImage(logBlocks, sequence);
  const device = new TracingDevice(image);
  return { image, ...openFlatJournal(image, device), device };
}

describe('file data', () => {
  it('is flushed for an fsync once it was written, by whoever did', async () => {
    const { journal, device } = traced();
    const flushed = () => new Promise((done) => journal.whenDataFlushed(done));
    let beside = 0;
    journal.countWritesBeside(() => beside);
    await flushed();
    assert.deepEqual(device.trace, []);
    for (const write of [() => journal.noteDataWrite(), () => beside++]) {
      write();
      assert.equal(await flushed(), null);
      assert.deepEqual(device.trace.splice(0), ['flush']);
      await flushed();
      assert.deepEqual(device.trace, []);
    }
  });
});

describe('a transaction', () => {
  it('commits by itself when it holds 8 MiB of blocks, however large the log is', () => {
    const { journal, put } = traced(70_000);
    const first = journal.runningTid;
    const most = (8 << 20) / BLOCK_SIZE;
    // Blocks that the log does not come to here.
    for (let i = 0; i < most - 1; i++) put(60_000 + i, 1);
    assert.equal(journal.runningTid, first);
    put(60_000 + most, 1);
    assert.equal(journal.runningTid, first + 1);
  });

  it('of a small log commits when it holds an eighth of it', () => {
    const { journal, put } = traced(81);
    const first = journal.runningTid;
    for (let i = 0; i < 9; i++) put(i, 1);
    assert.equal(journal.runningTid, first);
    put(9, 1);
    assert.equal(journal.runningTid, first + 1);
  });
});

describe('a journal handle', () => {
  it('puts every block back when its step throws', () => {
    const { journal, cache, put } = traced();
    put(5, 1);
    assert.throws(() =>
      journal.run(2, (handle) => {
        const block = handle.getWriteAccess(cache.read(5, PLAIN));
        block.bytes.fill(9);
        handle.dirtyMetadata(block);
        const created = handle.getCreateAccess(6, PLAIN);
        created.bytes.fill(9);
        handle.dirtyMetadata(created);
        throw new FsError('ENOSPC');
      }),
    );
    assert.equal(cache.read(5, PLAIN).bytes[0], 1);
    assert.equal(cache.read(6, PLAIN).bytes[0], 0);
  });

  it('runs rollback actions newest first, and commit actions only after the commit', () => {
    const { journal, put } = traced();
    const order: string[] = [];
    assert.throws(() =>
      journal.run(1, (handle) => {
        handle.onRollback(() => order.push('first'));
        handle.onRollback(() => order.push('second'));
        handle.onCommit(() => order.push('never'));
        throw new FsError('EIO');
      }),
    );
    journal.run(1, (handle) => handle.onCommit(() => order.push('committed')));
    put(1, 1);
    assert.deepEqual(order, ['second', 'first']);
    journal.commitNow();
    assert.deepEqual(order, ['second', 'first', 'committed']);
  });

  it('joins the step it is nested in', () => {
    const { journal, cache, put } = traced();
    assert.throws(() =>
      journal.run(2, () => {
        put(3, 7);
        throw new FsError('EIO');
      }),
    );
    assert.equal(cache.read(3, PLAIN).bytes[0], 0);
  });

  it('refuses an asynchronous step', () => {
    const { journal } = traced();
    assert.throws(() => journal.run(1, async () => {}), /asynchronous/);
  });

  it('does not let a block be dirtied without write access', () => {
    const { journal, cache } = traced();
    assert.throws(
      () => journal.run(1, (handle) => handle.dirtyMetadata(cache.read(3, PLAIN) as never)),
      /without write access/,
    );
  });
});

describe('a commit', () => {
  it('writes revokes and blocks, flushes, writes the commit block, flushes', () => {
    const { journal, device, put } = traced();
    put(1, 1);
    put(2, 2);
    journal.commitNow();
    assert.deepEqual(device.trace, ['tail', 'flush', 'descriptor', 'data', 'data', 'flush', 'commit', 'flush']);
  });

  it('logs the content as it was sealed, whatever the next transaction does meanwhile', () => {
    const { journal, device, put, image } = traced();
    put(1, 1);
    journal.startCommit();
    put(1, 2);
    journal.checkpointNow();
    assert.equal(homeByte(image, 1), 1, 'the committed content goes home');
    journal.flushAll();
    assert.equal(homeByte(image, 1), 2);
    assert.equal(device.trace.filter((entry) => entry === 'commit').length, 2);
  });

  it('tells those who wait for it only after its last flush', async () => {
    const { journal, device, put } = traced();
    put(1, 1);
    const told = new Promise<number>((done) => journal.whenCommitted(journal.runningTid, () => done(device.flushes)));
    assert.equal(device.flushes, 0);
    assert.equal(await told, 3);
  });

  it('under way is waited for by who wants everything durable, though nothing runs', async () => {
    const { journal, device, put } = traced();
    put(1, 1);
    journal.startCommit();
    const told = new Promise<number>((done) => journal.whenCommitted(journal.runningTid, () => done(device.flushes)));
    assert.equal(await told, 3);
  });

  it('serves all who wait for the same transaction with one commit', async () => {
    const { journal, device, put } = traced();
    put(1, 1);
    journal.startCommit();
    put(2, 2);
    const tid = journal.runningTid;
    await Promise.all([1, 2, 3].map(() => new Promise<void>((done) => journal.whenCommitted(tid, () => done()))));
    assert.equal(device.trace.filter((entry) => entry === 'commit').length, 2);
  });

  it('leaves no gap in the sequence when there was nothing to commit', async () => {
    const { journal, put, log } = traced();
    put(1, 1);
    journal.commitNow();
    assert.throws(() =>
      journal.run(1, () => {
        throw new FsError('EIO');
      }),
    );
    await new Promise<void>((done) => journal.whenCommitted(journal.runningTid, () => done()));
    put(2, 2);
    journal.commitNow();
    journal.checkpointNow();
    assert.equal(log.superblock.sequence, 3);
  });

  it('goes on when the transaction number wraps', () => {
    const { journal, put, image, log } = traced(64, 0xfffffffe);
    for (let value = 1; value <= 5; value++) {
      put(1, value);
      journal.commitNow();
    }
    journal.flushAll();
    assert.equal(homeByte(image, 1), 5);
    assert.equal(log.superblock.sequence, 3);
  });

  it('revokes a freed block that an earlier transaction logged, and never writes it home', () => {
    const { journal, device, put, image } = traced();
    put(1, 1);
    journal.commitNow();
    journal.run(1, (handle) => handle.revoke(1));
    put(2, 2);
    journal.commitNow();
    assert.ok(device.trace.includes('revoke'));
    journal.flushAll();
    assert.equal(homeByte(image, 1), 0);
    assert.equal(homeByte(image, 2), 2);
  });

  it('needs no revoke for a block that is home already', () => {
    const { journal, device, put } = traced();
    put(1, 1);
    journal.flushAll();
    journal.run(1, (handle) => handle.revoke(1));
    put(2, 2);
    journal.commitNow();
    assert.ok(!device.trace.includes('revoke'));
  });

  it('makes freed blocks reusable only when data I/O that began before it is over', () => {
    const { journal, put } = traced();
    const token = journal.dataStarted();
    let reusable = false;
    journal.run(1, (handle) =>
      handle.onCommit(() => {
        reusable = true;
      }),
    );
    put(1, 1);
    journal.commitNow();
    assert.equal(reusable, false);
    journal.dataFinished(token);
    assert.equal(reusable, true);
  });
});

describe('a checkpoint', () => {
  it('writes home, flushes, moves the tail, flushes', () => {
    const { journal, device, put } = traced();
    put(7, 1);
    put(3, 1);
    journal.commitNow();
    device.trace.length = 0;
    journal.checkpointNow();
    assert.deepEqual(device.trace, ['home 3', 'home 7', 'flush', 'tail', 'flush']);
  });

  it('never writes home what is not committed', () => {
    const { journal, device, put } = traced();
    put(1, 1);
    journal.checkpointNow();
    assert.deepEqual(device.trace, []);
  });

  it('is forced by a full log, which then goes on for ever', () => {
    const { journal, put, image } = traced(24);
    for (let value = 0; value < 200; value++) {
      put(value % 20, value);
      journal.commitNow();
    }
    journal.flushAll();
    assert.equal(homeByte(image, 19), 199);
    assert.equal(homeByte(image, 0), 180);
  });

  it('keeps the tail when it fails, and the log still holds everything', () => {
    const { journal, device, put, log } = traced();
    put(1, 1);
    journal.commitNow();
    device.fail = 'writes';
    journal.checkpointNow();
    assert.equal(log.superblock.sequence, 1);
    assert.equal(journal.aborted, null);
    device.fail = null;
    journal.checkpointNow();
    assert.equal(log.superblock.sequence, 2);
  });
});

describe('an aborted journal', () => {
  it('follows a failed log write, tells the waiter, refuses further steps and records the errno', async () => {
    const { journal, device, put, aborts, log } = traced();
    put(1, 1);
    device.fail = 'flushes';
    const error = await new Promise<FsError | null>((done) => journal.whenCommitted(journal.runningTid, done));
    assert.equal(error?.code, 'EIO');
    assert.equal(aborts.length, 1);
    assert.equal(log.superblock.errno, -5);
    device.fail = null;
    assert.throws(() => put(2, 2), { code: 'EROFS' });
    journal.checkpointNow();
    assert.ok(!device.trace.includes('home 1'));
  });
});
