import assert from 'node:assert/strict';
import { allocateBlocks, freeBlocks } from '../../../src/ext4/block-alloc.js';
import { mapBlock } from '../../../src/ext4/block-map.js';
import { EXTENT_CREDITS } from '../../../src/ext4/extent-edit.js';
import { convertUnwritten, insertExtent } from '../../../src/ext4/extent-insert.js';
import { ExtentNode } from '../../../src/ext4/extent-node.js';
import { removeExtents } from '../../../src/ext4/extent-remove.js';
import { Inode } from '../../../src/ext4/inode.js';
import { truncateTo } from '../../../src/ext4/truncate.js';
import type { Volume } from '../../../src/ext4/volume.js';
import { closeAndCheck, FIRST_FILE, generator, imageWithFiles, openImage } from './volume-fixture.js';

const INO = FIRST_FILE;
const LBLKS = 4000;

interface Block {
  pblk: number;
  unwritten: boolean;
}

function allocateAt(vol: Volume, lblk: number, count: number, unwritten: boolean): { start: number; count: number } {
  return vol.journal.run(2 * EXTENT_CREDITS, (handle) => {
    const run = allocateBlocks(handle, vol, { goal: 0, count, ino: INO });
    insertExtent(handle, Inode.get(vol, INO), lblk, run.start, run.count, unwritten);
    return run;
  });
}

function compare(vol: Volume, model: (Block | undefined)[]): void {
  const inode = Inode.get(vol, INO);
  for (let lblk = 0; lblk < LBLKS; ) {
    const mapping = mapBlock(inode, lblk);
    assert.ok(mapping.count > 0);
    for (let i = 0; i < mapping.count && lblk + i < LBLKS; i++) {
      const expected = model[lblk + i];
      const place = `block ${lblk + i}`;
      if (expected === undefined) assert.equal(mapping.pblk, 0, place);
      else assert.deepEqual({ pblk: mapping.pblk + i, unwritten: mapping.unwritten }, expected, place);
    }
    lblk += mapping.count;
  }
}

/** Random inserts, conversions and removals; the model says what must be mapped where. */
function exercise(vol: Volume, seed: number, steps: number): void {
  const random = generator(seed);
  const model: (Block | undefined)[] = new Array(LBLKS).fill(undefined);
  truncateTo(vol, INO, LBLKS * vol.geometry.blockSize);
  for (let step = 0; step < steps; step++) {
    const lblk = random(LBLKS);
    const count = 1 + random(random(4) === 0 ? 60 : 3);
    const end = Math.min(LBLKS, lblk + count);
    const choice = random(10);
    if (choice < 6) {
      let free = 0;
      while (lblk + free < end && model[lblk + free] === undefined) free++;
      if (free === 0) continue;
      const unwritten = random(2) === 0;
      const run = allocateAt(vol, lblk, free, unwritten);
      for (let i = 0; i < run.count; i++) model[lblk + i] = { pblk: run.start + i, unwritten };
    } else if (choice < 8) {
      vol.journal.run(EXTENT_CREDITS, (handle) => convertUnwritten(handle, Inode.get(vol, INO), lblk, end - lblk, -1));
      for (let i = lblk; i < end; i++) {
        const block = model[i];
        if (block !== undefined) model[i] = { pblk: block.pblk, unwritten: false };
      }
    } else {
      const wide = random(20) === 0 ? Math.min(LBLKS, lblk + 500) : end;
      vol.journal.run(EXTENT_CREDITS, (handle) => removeExtents(handle, Inode.get(vol, INO), lblk, wide));
      for (let i = lblk; i < wide; i++) model[i] = undefined;
    }
    if (step % 500 === 499) compare(vol, model);
    if (step % 300 === 299) vol.journal.commitNow();
  }
  compare(vol, model);
}

describe('extent tree', () => {
  for (const blockSize of ['1024', '4096']) {
    it(`agrees with a model and e2fsck after random changes, blocks of ${blockSize} bytes`, () => {
      const fixture = openImage(imageWithFiles(32, 1, ['-b', blockSize]));
      exercise(fixture.vol, 7, 5000);
      closeAndCheck(fixture);
    });
  }

  it('grows deep, survives reading from the device, and shrinks to nothing', () => {
    const fixture = openImage(imageWithFiles(64, 1, ['-b', '1024', '-O', '^resize_inode']));
    const { vol, image } = fixture;
    // Every second block: nothing can merge.
    const extents = 9000;
    truncateTo(vol, INO, extents * 2 * vol.geometry.blockSize);
    const random = generator(3);
    const order = Array.from({ length: extents }, (_, i) => i);
    for (let i = extents - 1; i > 0; i--) {
      const j = random(i + 1);
      [order[i], order[j]] = [order[j], order[i]];
    }
    for (const i of order) allocateAt(vol, i * 2, 1, false);
    assert.ok(ExtentNode.root(Inode.get(vol, INO)).depth >= 2);
    closeAndCheck(fixture);

    const again = openImage(image);
    const inode = Inode.get(again.vol, INO);
    for (let i = 0; i < extents; i++) {
      assert.notEqual(mapBlock(inode, i * 2).pblk, 0);
      assert.deepEqual(
        { ...mapBlock(inode, i * 2 + 1) },
        {
          lblk: i * 2 + 1,
          count: i === extents - 1 ? 0xffffffff - (i * 2 + 1) : 1,
          pblk: 0,
          unwritten: false,
        },
      );
    }
    truncateTo(again.vol, INO, 0);
    const empty = Inode.get(again.vol, INO);
    assert.equal(empty.sectors, 0);
    assert.equal(ExtentNode.root(empty).depth, 0);
    closeAndCheck(again);
  });

  it('leaves nothing of a handle that fails', () => {
    const fixture = openImage(imageWithFiles(16, 1));
    const { vol } = fixture;
    truncateTo(vol, INO, 200 * vol.geometry.blockSize);
    for (let i = 0; i < 4; i++) allocateAt(vol, i * 2, 1, false);
    assert.throws(() =>
      vol.journal.run(EXTENT_CREDITS * 2, (handle) => {
        const run = allocateBlocks(handle, vol, { goal: 0, count: 8, ino: INO, window: 100 });
        insertExtent(handle, Inode.get(vol, INO), 100, run.start, run.count, false);
        removeExtents(handle, Inode.get(vol, INO), 0, 3);
        freeBlocks(handle, vol, run.start, 1, { metadata: false });
        throw new Error('changed my mind');
      }),
    );
    const inode = Inode.get(vol, INO);
    for (let i = 0; i < 4; i++) assert.notEqual(mapBlock(inode, i * 2).pblk, 0);
    assert.equal(mapBlock(inode, 100).pblk, 0);
    closeAndCheck(fixture);
  });
});
