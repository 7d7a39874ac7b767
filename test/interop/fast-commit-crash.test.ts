/**
 * The power goes while fast commits are replayed, at every write and every flush: replaying what the disk then holds must
 * end in the same image as a replay that was let finish. And who only reads leaves the image as it is.
 */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  closeSync,
  copyFileSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { BlockDevice } from '../../src/block/device.js';
import { MemoryDevice } from '../../src/block/memory-device.js';
import { runInfo } from '../../src/cli/info.js';
import { runJournal } from '../../src/cli/journal.js';
import { runReplay } from '../../src/cli/replay.js';
import { crashPoints, nameOf, Random, unflushedAt } from '../../src/crash/crash-points.js';
import { History } from '../../src/crash/history.js';
import { StateImage } from '../../src/crash/state-image.js';
import type { LogEntry } from '../../src/crash/write-log.js';
import { realEnvironment } from '../../src/ext4/environment.js';
import { Filesystem } from '../../src/ext4/filesystem.js';
import { closeVolume, readGeometry } from '../../src/ext4/open.js';
import { type LogReport, recoverLog } from '../../src/ext4/recover.js';
import { command } from '../support/command.js';
import { CountingDevice } from '../support/counting-device.js';
import { noKernelDirty, useOnKernel } from '../support/kernel-dirty.js';
import { fsck, fsckFile, run, withScratch } from '../support/mke2fs.js';
import { requireOrSkip } from '../support/server.js';

/** The time of the commit block must be the same in every replay that is compared. */
const env = { ...realEnvironment, now: () => ({ seconds: 1_900_000_000, nanoseconds: 0 }) };

function fsync(path: string): void {
  const fd = openSync(path, 'r');
  fsyncSync(fd);
  closeSync(fd);
}

/** Transactions in the log, and fast commits of names, ranges and inodes on top of them. */
function fastCommitted(): Uint8Array {
  return withScratch((scratch) => {
    const image = join(scratch, 'image');
    const mkfs = ['-O', 'fast_commit', '-b', '1024', '-J', 'size=2', '-N', '256'];
    useOnKernel(scratch, { sizeMiB: 8, mkfs, mountOptions: 'commit=600' }, (mountPoint, backing) => {
      const at = (name: string) => join(mountPoint, name);
      for (const name of ['a', 'b', 'c', 'd']) {
        writeFileSync(at(name), Buffer.alloc(70_000, name));
        run('sync', ['-f', mountPoint]);
      }
      mkdirSync(at('dir'));
      for (let i = 0; i < 20; i++) writeFileSync(at(`dir/${i}`), `${i}`);
      unlinkSync(at('a'));
      fsync(at('dir/0'));
      renameSync(at('dir/1'), at('b'));
      truncateSync(at('c'), 20_000);
      appendFileSync(at('d'), Buffer.alloc(50_000, 'e'));
      for (const name of ['b', 'c', 'd']) fsync(at(name));
      copyFileSync(backing, image);
    });
    return new Uint8Array(readFileSync(image));
  });
}

function recover(device: BlockDevice): LogReport {
  return recoverLog(device, readGeometry(device), { env });
}

describe('a crash during the replay of fast commits', function () {
  this.timeout(300_000);
  const obstacle = noKernelDirty();
  let dirty: Uint8Array = new Uint8Array(0);
  let finished: Uint8Array = new Uint8Array(0);
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, obstacle);
    dirty = fastCommitted();
    finished = dirty.slice();
    const report = recover(new MemoryDevice(finished));
    assert.ok(report.transactions > 0, 'there are transactions');
    assert.ok(report.fastCommits > 1, 'there are fast commits');
  });

  it('ends the same when replay runs again, whatever the disk kept', () => {
    const image = new StateImage(dirty.slice());
    const log: LogEntry[] = [];
    image.recording = log;
    recover(image);
    image.recording = null;
    image.undoTo(0);
    const history = new History(image, log);
    const random = new Random(11);
    let cutsTried = 0;
    for (let position = 0; position <= log.length; position++) {
      history.advanceTo(position);
      const thoroughness = { exhaustiveWrites: 6, randomSubsets: 4, tornStates: 4 };
      for (const point of crashPoints(log, position, thoroughness, random)) {
        const level = image.level;
        history.apply(point);
        recover(image);
        const same = Buffer.compare(image.bytes, finished) === 0;
        assert.ok(same, `crash point ${nameOf(point, unflushedAt(log, position))}`);
        image.undoTo(level);
        cutsTried++;
      }
    }
    assert.ok(cutsTried >= 80, `${cutsTried} cuts`);
  });

  it('replays once: what is written afterwards stays', () => {
    const image = finished.slice();
    const device = new MemoryDevice(image);
    assert.equal(recover(device).state, 'clean');
    assert.equal(Buffer.compare(image, finished), 0);
    const filesystem = Filesystem.open(device);
    const root = { uid: 0, gid: 0 };
    filesystem.unlink(2, new TextEncoder().encode('d'));
    filesystem.create(2, new TextEncoder().encode('later'), 0o644, root);
    filesystem.volume.journal.commitNow();
    const crashed = new MemoryDevice(image.slice());
    const again = Filesystem.open(crashed);
    assert.equal(again.report.log?.fastCommits, 0);
    assert.notEqual(again.lookup(2, new TextEncoder().encode('later')), 0);
    assert.equal(again.lookup(2, new TextEncoder().encode('d')), 0);
  });

  it('is shown before it is done: journal lists the records, info counts, replay -n writes nothing', () =>
    withScratch((directory) => {
      const path = join(directory, 'image');
      writeFileSync(path, dirty);
      const journal = JSON.parse(command(runJournal, '--json', path).out);
      const { fastCommits } = recover(new MemoryDevice(dirty.slice()));
      assert.equal(journal.fastCommits.length, fastCommits);
      const tags = new Set(
        journal.fastCommits.flatMap((c: { records: { tag: string }[] }) => c.records.map((r) => r.tag)),
      );
      assert.deepEqual([...tags].sort(), ['ADD_RANGE', 'CREAT', 'DEL_RANGE', 'INODE', 'LINK', 'UNLINK']);
      assert.match(command(runJournal, path).out, /is created as "dir" in directory 2/);
      assert.equal(JSON.parse(command(runInfo, '--json', path).out).journal.fastCommits, fastCommits);
      assert.equal(command(runReplay, '-n', path).code, 1);
      assert.ok(readFileSync(path).equals(dirty));
      const { code, out } = command(runReplay, path);
      assert.equal(code, 1);
      assert.match(out, new RegExp(`${fastCommits} fast commits on top of them replayed`));
      assert.equal(fsckFile(path).code, 0);
      assert.match(command(runJournal, path).out, /the log is empty/);
    }));

  it('is judged right by e2fsck when it is done', () => {
    const image = finished.slice();
    closeVolume(Filesystem.open(new MemoryDevice(image)).volume);
    const { code, output } = fsck(image);
    assert.equal(code, 0, output);
  });

  it('a reader sees them, and leaves the image as it is', () => {
    const image = dirty.slice();
    const device = new CountingDevice(image);
    const filesystem = Filesystem.open(device, { readOnly: true });
    assert.equal(filesystem.report.log?.fastCommits, recover(new MemoryDevice(dirty.slice())).fastCommits);
    const at = (name: string) => filesystem.lookup(2, new TextEncoder().encode(name));
    assert.equal(at('a'), 0);
    assert.equal(filesystem.stat(at('c')).size, 20_000);
    assert.equal(filesystem.stat(at('d')).size, 120_000);
    assert.equal(device.writes, 0);
    assert.equal(Buffer.compare(image, dirty), 0);
  });
});
