import assert from 'node:assert/strict';
import { CorruptionError, FsError } from '../../../src/errors.js';
import { allocatorState } from '../../../src/ext4/alloc-state.js';
import {
  allocateBlocks,
  discardReservation,
  freeBlockCount,
  freeBlocks,
  reservedBlockCount,
  whenSpaceReturns,
} from '../../../src/ext4/block-alloc.js';
import { isBlockUninit } from '../../../src/ext4/block-bitmap.js';
import { mapBlock } from '../../../src/ext4/block-map.js';
import { fallocate } from '../../../src/ext4/fallocate.js';
import { GroupDescriptor } from '../../../src/ext4/group.js';
import { Inode } from '../../../src/ext4/inode.js';
import { begin, ioend, OP_WRITE } from '../../../src/ext4/iomap.js';
import { truncateTo } from '../../../src/ext4/truncate.js';
import type { Volume } from '../../../src/ext4/volume.js';
import { closeAndCheck, FIRST_FILE, generator, imageWithFiles, openImage } from './volume-fixture.js';

/** Metadata of a write, without its data. */
function append(vol: Volume, ino: number, lengthBytes: number): void {
  for (let left = lengthBytes; left > 0; ) {
    const pos = Inode.get(vol, ino).sizeBytes;
    const mapping = begin(vol, ino, pos, left, OP_WRITE);
    const length = Math.min(left, mapping.offsetBytes + mapping.lengthBytes - pos);
    ioend(vol, ino, pos, length, mapping.addrBytes + pos - mapping.offsetBytes, 0, 0);
    left -= length;
  }
}

function extents(vol: Volume, ino: number): { start: number; count: number }[] {
  const inode = Inode.get(vol, ino);
  const found: { start: number; count: number }[] = [];
  const end = Math.ceil(inode.sizeBytes / vol.geometry.blockSize);
  for (let lblk = 0; lblk < end; ) {
    const { pblk, count } = mapBlock(inode, lblk);
    if (pblk !== 0) found.push({ start: pblk, count });
    lblk += count;
  }
  return found;
}

const hasCode = (code: string) => (error: unknown) => error instanceof FsError && error.code === code;

describe('block allocator', () => {
  it('keeps files that grow at the same time in few extents', () => {
    const files = 4;
    const fixture = openImage(imageWithFiles(128, files));
    for (let round = 0; round < 256; round++) {
      for (let file = 0; file < files; file++) append(fixture.vol, FIRST_FILE + file, 65_536);
    }
    for (let file = 0; file < files; file++) {
      const count = extents(fixture.vol, FIRST_FILE + file).length;
      assert.ok(count <= 12, `file ${file} has ${count} extents`);
    }
    closeAndCheck(fixture);
  });

  it('writes one large file in one piece, across groups', () => {
    const fixture = openImage(imageWithFiles(64, 1, ['-b', '1024']));
    append(fixture.vol, FIRST_FILE, 30 << 20);
    assert.ok(extents(fixture.vol, FIRST_FILE).length <= 8);
    closeAndCheck(fixture);
  });

  it('puts small files next to each other', () => {
    const files = 50;
    const fixture = openImage(imageWithFiles(32, files));
    for (let file = 0; file < files; file++) append(fixture.vol, FIRST_FILE + file, 4096 * (1 + (file % 3)));
    const starts = Array.from({ length: files }, (_, file) => extents(fixture.vol, FIRST_FILE + file));
    assert.ok(starts.every((list) => list.length === 1));
    const blocks = starts.map(([{ start }]) => start);
    assert.ok(Math.max(...blocks) - Math.min(...blocks) <= files * 3);
    closeAndCheck(fixture);
  });

  it('fills the filesystem to the reserve, then to the end, and gets everything back', async () => {
    const fixture = openImage(imageWithFiles(24, 2, ['-b', '1024', '-m', '10']));
    const { vol } = fixture;
    const before = freeBlockCount(vol);
    const owner = (uid: number) => vol.journal.run(1, (handle) => Inode.get(vol, FIRST_FILE).edit(handle).setUid(uid));
    owner(1000);
    assert.throws(() => append(vol, FIRST_FILE, 1 << 30), hasCode('ENOSPC'));
    assert.ok(freeBlockCount(vol) >= reservedBlockCount(vol));
    assert.ok(freeBlockCount(vol) < reservedBlockCount(vol) + 4);
    assert.throws(() => append(vol, FIRST_FILE, 1), hasCode('ENOSPC'));
    owner(0);
    assert.throws(() => append(vol, FIRST_FILE, 1 << 30), hasCode('ENOSPC'));
    assert.ok(freeBlockCount(vol) < reservedBlockCount(vol));
    truncateTo(vol, FIRST_FILE, 0);
    assert.equal(freeBlockCount(vol), before);
    // All of it waits for the truncate to commit; whoever is in need can make that happen.
    assert.throws(() => append(vol, FIRST_FILE + 1, 10 << 20), hasCode('ENOSPC'));
    await new Promise<void>((returned) => assert.ok(whenSpaceReturns(vol, returned)));
    assert.ok(!whenSpaceReturns(vol, () => assert.fail('nothing waits any more')));
    append(vol, FIRST_FILE + 1, 10 << 20);
    closeAndCheck(fixture);
  });

  it('does not hand out freed blocks before their transaction has committed', () => {
    const fixture = openImage(imageWithFiles(16, 2));
    const { vol } = fixture;
    append(vol, FIRST_FILE, 8192);
    vol.journal.commitNow();
    const [{ start, count }] = extents(vol, FIRST_FILE);
    const allocateThere = () =>
      vol.journal.run(8, (handle) =>
        allocateBlocks(handle, vol, { goal: start, continues: true, count, ino: FIRST_FILE + 1 }),
      );
    truncateTo(vol, FIRST_FILE, 0);
    const elsewhere = allocateThere();
    assert.ok(elsewhere.start + elsewhere.count <= start || elsewhere.start >= start + count);
    vol.journal.commitNow();
    assert.equal(allocateThere().start, start);
  });

  it('refuses to free what is free, or fixed metadata', () => {
    const { vol } = openImage(imageWithFiles(16, 1));
    append(vol, FIRST_FILE, 8192);
    const [{ start }] = extents(vol, FIRST_FILE);
    const free = (nr: number, count: number) =>
      vol.journal.run(8, (handle) => freeBlocks(handle, vol, nr, count, { metadata: false }));
    assert.throws(() => free(start, 3), CorruptionError);
    assert.throws(() => free(0, 1), CorruptionError);
    assert.throws(() => free(GroupDescriptor.get(vol, 0).inodeTable + 1, 1), CorruptionError);
    assert.throws(() => free(vol.geometry.blocksCount - 1, 2), CorruptionError);
    free(start, 2);
    assert.throws(() => free(start, 1), CorruptionError);
  });

  it('makes bitmaps for groups that were never used', () => {
    const fixture = openImage(imageWithFiles(256, 1, ['-b', '1024', '-O', '^flex_bg']));
    const { vol } = fixture;
    const groups = Array.from({ length: vol.geometry.groupCount }, (_, group) => group);
    const uninit = () => groups.filter((group) => isBlockUninit(vol, GroupDescriptor.get(vol, group)));
    const before = uninit();
    assert.ok(before.length > 4);
    fallocate(vol, FIRST_FILE, 0, 0, 220 << 20);
    assert.ok(uninit().length < before.length);
    closeAndCheck(fixture);
  });

  it('takes windows back when a handle fails, when they are given up, and when space is short', () => {
    const fixture = openImage(imageWithFiles(16, 2));
    const { vol } = fixture;
    append(vol, FIRST_FILE, 262_144);
    const state = allocatorState(vol);
    const window = state.reservationOf(FIRST_FILE);
    assert.ok(window !== undefined && window.end > window.start);
    assert.throws(() =>
      vol.journal.run(8, (handle) => {
        allocateBlocks(handle, vol, { goal: window.start, count: 1, ino: FIRST_FILE });
        throw new Error('no');
      }),
    );
    assert.equal(state.reservationOf(FIRST_FILE), undefined);
    append(vol, FIRST_FILE, 262_144);
    discardReservation(vol, FIRST_FILE);
    for (let group = 0; group < vol.geometry.groupCount; group++) assert.equal(state.heldClusters(group), 0);
    append(vol, FIRST_FILE, 262_144);
    assert.throws(() => append(vol, FIRST_FILE + 1, 1 << 30), hasCode('ENOSPC'));
    assert.equal(state.reservationOf(FIRST_FILE), undefined);
    closeAndCheck(fixture);
  });

  it('leaves a group with a corrupt bitmap alone', () => {
    const fixture = openImage(imageWithFiles(32, 2, ['-b', '1024']));
    const { image } = fixture;
    append(fixture.vol, FIRST_FILE, 4096);
    const { geometry } = fixture.vol;
    const bad = geometry.groupOf(extents(fixture.vol, FIRST_FILE)[0].start);
    closeAndCheck(fixture);
    image[GroupDescriptor.get(fixture.vol, bad).blockBitmap * 1024 + 700] ^= 0x10;
    const { vol } = openImage(image);
    append(vol, FIRST_FILE + 1, 12 << 20);
    for (const { start, count } of extents(vol, FIRST_FILE + 1)) {
      assert.ok(geometry.groupOf(start) !== bad && geometry.groupOf(start + count - 1) !== bad);
    }
  });

  it('survives random allocation and freeing', () => {
    const files = 8;
    const fixture = openImage(imageWithFiles(32, files, ['-b', '1024', '-g', '1024']));
    const { vol } = fixture;
    const random = generator(5);
    for (let i = 0; i < 3000; i++) {
      const ino = FIRST_FILE + random(files);
      try {
        if (random(4) > 0) append(vol, ino, 1 + random(200_000));
        else truncateTo(vol, ino, random(Inode.get(vol, ino).sizeBytes + 1));
      } catch (error) {
        if (!hasCode('ENOSPC')(error)) throw error;
        truncateTo(vol, ino, 0);
      }
    }
    closeAndCheck(fixture);
  });
});
