/**
 * The power goes during replay, at every write and every flush of it: replaying what the disk then holds must end in the
 * same image as a replay that was let finish.
 */
import assert from 'node:assert/strict';
import { MemoryDevice } from '../../src/block/memory-device.js';
import { ownView } from '../../src/codec/view.js';
import { CorruptionError } from '../../src/errors.js';
import { INCOMPAT } from '../../src/ext4/features.js';
import { EXT4_ERROR_FS, SUPERBLOCK } from '../../src/ext4/format/superblock.js';
import { openLogSource } from '../../src/ext4/journal-inode.js';
import { readGeometry } from '../../src/ext4/open.js';
import { recoverLog } from '../../src/ext4/recover.js';
import { JBD2_MAGIC } from '../../src/jbd2/format.js';
import { BLOCK_SIZE, dirtyImage, superblockOf, TRANSACTIONS } from '../support/dirty-image.js';
import { type Cut, RecordingDevice } from '../support/recording-device.js';

class PowerCut extends Error {}

/** Recovers `image` on a device that dies at event number `lastEvent`; null if it finished before. */
function recoverUntil(image: Uint8Array, lastEvent: number): RecordingDevice | null {
  const device = new RecordingDevice(image.slice());
  let events = 0;
  device.onEvent = () => {
    if (++events >= lastEvent) throw new PowerCut();
  };
  try {
    recoverLog(device, readGeometry(device));
  } catch (error) {
    if (error instanceof PowerCut) return device;
    throw error;
  }
  return null;
}

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
    let cutsTried = 0;
    for (let event = 1; ; event++) {
      const device = recoverUntil(dirty, event);
      if (device === null) break;
      const cuts: Cut[] = [{ kind: 'drop-all' }, { kind: 'keep-all' }];
      for (let salt = 1; salt <= 4; salt++) {
        const coin = (n: number) => ((Math.imul(n + salt, 0x9e3779b1) >>> 16) & 1) === 1;
        cuts.push({ kind: 'keep-half', pick: coin });
        // Torn between blocks: a superblock torn inside is beyond replay, which begins by reading it.
        cuts.push({ kind: 'tear', pick: (sector) => coin(sector >>> 1) });
      }
      for (const cut of cuts) {
        const image = device.imageAfter(cut);
        const again = new MemoryDevice(image);
        recoverLog(again, readGeometry(again));
        assert.deepEqual(Buffer.compare(image, finished), 0, `event ${event}, ${cut.kind}`);
        cutsTried++;
      }
    }
    assert.ok(cutsTried >= 80, `${cutsTried} cuts`);
  });

  it('writes nothing when a copy in the last transaction is damaged', () => {
    const image = dirty.slice();
    const device = new RecordingDevice(image);
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
