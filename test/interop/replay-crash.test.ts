/**
 * The power goes during replay, at every write and every flush of it: replaying what the disk then holds must end in the
 * same image as a replay that was let finish.
 */
import assert from 'node:assert/strict';
import { MemoryDevice } from '../../src/block/memory-device.js';
import { ownView } from '../../src/codec/view.js';
import { crashPoints, nameOf, Random, unflushedAt } from '../../src/crash/crash-points.js';
import { History } from '../../src/crash/history.js';
import { StateImage } from '../../src/crash/state-image.js';
import type { LogEntry } from '../../src/crash/write-log.js';
import { CorruptionError } from '../../src/errors.js';
import { INCOMPAT } from '../../src/ext4/features.js';
import { EXT4_ERROR_FS, SUPERBLOCK } from '../../src/ext4/format/superblock.js';
import { openLogSource } from '../../src/ext4/journal-inode.js';
import { readGeometry } from '../../src/ext4/open.js';
import { recoverLog } from '../../src/ext4/recover.js';
import { JBD2_MAGIC } from '../../src/jbd2/format.js';
import { CountingDevice } from '../support/counting-device.js';
import { BLOCK_SIZE, dirtyImage, superblockOf, TRANSACTIONS } from '../support/dirty-image.js';

describe('a crash during replay', function () {
  this.timeout(60_000);
  const dirty = dirtyImage();
  const finished = dirty.slice();
  const finishedDevice = new MemoryDevice(finished);
  const report = recoverLog(finishedDevice, readGeometry(finishedDevice));

  it('replays what the log holds', () => {
    assert.equal(report.transactions, TRANSACTIONS);
    assert.ok(report.revokeHits > 0);
    const view = ownView(superblockOf(finished));
    assert.equal(SUPERBLOCK.s_mnt_count.get(view, 0), 100 + TRANSACTIONS - 1);
    assert.equal(SUPERBLOCK.s_feature_incompat.get(view, 0) & INCOMPAT.needs_recovery, 0);
    assert.equal(SUPERBLOCK.s_state.get(view, 0) & EXT4_ERROR_FS, EXT4_ERROR_FS, 's_errno became ERROR_FS');
    // The fourth block of the last transaction was escaped in the log; at home it is whole.
    assert.equal(ownView(finished).getUint32(3012 * BLOCK_SIZE), JBD2_MAGIC);
    const source = openLogSource(finishedDevice, readGeometry(finishedDevice));
    assert.equal(source.superblock.start, 0);
    assert.equal(source.superblock.errno, 0);
    assert.equal(source.superblock.sequence, (report.lastTid ?? 0) + 2);
  });

  it('ends the same when replay runs again, whatever the disk kept', () => {
    const image = new StateImage(dirty.slice());
    const log: LogEntry[] = [];
    image.recording = log;
    recoverLog(image, readGeometry(image));
    image.recording = null;
    image.undoTo(0);
    const history = new History(image, log);
    const random = new Random(11);
    let cutsTried = 0;
    // At every write and every flush: more than the explorer looks at.
    for (let position = 0; position <= log.length; position++) {
      history.advanceTo(position);
      const thoroughness = { exhaustiveWrites: 6, randomSubsets: 4, tornStates: 4 };
      for (const point of crashPoints(log, position, thoroughness, random)) {
        const level = image.level;
        history.apply(point);
        recoverLog(image, readGeometry(image));
        const same = Buffer.compare(image.bytes, finished) === 0;
        assert.ok(same, `crash point ${nameOf(point, unflushedAt(log, position))}`);
        image.undoTo(level);
        cutsTried++;
      }
    }
    assert.ok(cutsTried >= 80, `${cutsTried} cuts`);
  });

  it('writes nothing when a copy in the last transaction is damaged', () => {
    const image = dirty.slice();
    const device = new CountingDevice(image);
    const source = openLogSource(device, readGeometry(device));
    const { superblock, blockMap } = source;
    // The last block before a commit block is a copy.
    const commit = findLastCommit(image, blockMap, superblock.first, superblock.end - 11);
    image[blockMap[commit - 1] * BLOCK_SIZE + 77] ^= 1;
    const before = image.slice();
    assert.throws(
      () => recoverLog(device, readGeometry(device)),
      (error: unknown) => error instanceof CorruptionError && error.code === 'EBADMSG',
    );
    assert.equal(device.writes, 0);
    assert.equal(Buffer.compare(image, before), 0);
  });
});

/** Log block of the last commit block in [from, to). */
function findLastCommit(image: Uint8Array, blockMap: Float64Array, from: number, to: number): number {
  const view = ownView(image);
  let found = 0;
  for (let i = from; i < to; i++) {
    const at = blockMap[i] * BLOCK_SIZE;
    if (view.getUint32(at) === JBD2_MAGIC && view.getUint32(at + 4) === 2) found = i;
  }
  return found;
}
