import assert from 'node:assert/strict';
import { FsError } from '../../../src/errors.js';
import { fallocate, seekDataHole } from '../../../src/ext4/fallocate.js';
import { Inode } from '../../../src/ext4/inode.js';
import {
  begin,
  end,
  FLAG_NEW,
  ioend,
  OP_WRITE,
  TYPE_HOLE,
  TYPE_MAPPED,
  TYPE_UNWRITTEN,
} from '../../../src/ext4/iomap.js';
import { truncateTo } from '../../../src/ext4/truncate.js';
import type { Volume } from '../../../src/ext4/volume.js';
import { Model, read, write } from './file-model.js';
import { closeAndCheck, FIRST_FILE, fillFreeBlocks, generator, imageWithFiles, openImage } from './volume-fixture.js';

const KEEP_SIZE = 1;
const PUNCH_HOLE = 2 | KEEP_SIZE;
const ZERO_RANGE = 0x10;

function compare(vol: Volume, file: number, model: Model, when: string): void {
  const bytes = read(vol, FIRST_FILE + file);
  assert.equal(bytes.length, model.bytes.length, when);
  const different = bytes.findIndex((byte, i) => byte !== model.bytes[i]);
  assert.equal(different, -1, `${when}: byte ${different} of file ${file} is ${bytes[different]}`);
}

function step(vol: Volume, random: (limit: number) => number, ino: number, model: Model): void {
  const pos = random(300_000);
  const length = 1 + random([200, 5000, 60_000][random(3)]);
  const choice = random(20);
  if (choice < 9) {
    const data = new Uint8Array(length).fill(1 + random(255));
    const at = random(2) === 0 ? model.bytes.length : pos;
    write(vol, ino, at, data);
    model.write(at, data);
  } else if (choice < 12) {
    truncateTo(vol, ino, pos);
    model.resize(pos);
  } else if (choice < 14) {
    fallocate(vol, ino, PUNCH_HOLE, pos, length);
    model.zero(pos, length);
  } else if (choice < 16) {
    fallocate(vol, ino, ZERO_RANGE, pos, length);
    if (pos + length > model.bytes.length) model.resize(pos + length);
    model.zero(pos, length);
  } else if (choice < 18) {
    const keep = random(2) === 0;
    fallocate(vol, ino, keep ? KEEP_SIZE : 0, pos, length);
    if (!keep && pos + length > model.bytes.length) model.resize(pos + length);
  } else if (choice === 18) {
    const mapping = begin(vol, ino, pos, length, OP_WRITE);
    end(vol, ino, pos, length, 0, OP_WRITE, mapping);
  } else {
    vol.journal.commitNow();
  }
}

describe('iomap', () => {
  for (const blockSize of ['1024', '4096']) {
    it(`shows what was written and zeroes elsewhere, blocks of ${blockSize} bytes`, () => {
      const files = 4;
      const fixture = openImage(imageWithFiles(24, files, ['-b', blockSize]));
      fillFreeBlocks(fixture, 0xee);
      const random = generator(11);
      const models = Array.from({ length: files }, () => new Model());
      for (let i = 0; i < 2500; i++) {
        const file = random(files);
        step(fixture.vol, random, FIRST_FILE + file, models[file]);
        if (i % 50 === 0) compare(fixture.vol, file, models[file], `step ${i}`);
      }
      models.forEach((model, file) => {
        compare(fixture.vol, file, model, 'at the end');
      });
      closeAndCheck(fixture);
      const again = openImage(fixture.image);
      models.forEach((model, file) => {
        compare(again.vol, file, model, 'read again');
      });
    });
  }

  it('keeps the old tail on the device until a truncate has committed', () => {
    const { vol } = openImage(imageWithFiles(16, 1));
    write(vol, FIRST_FILE, 0, new Uint8Array(4096).fill(7));
    vol.journal.commitNow();
    const { addrBytes } = begin(vol, FIRST_FILE, 0, 1, 0);
    const block = new Uint8Array(4096);
    truncateTo(vol, FIRST_FILE, 100);
    vol.device.read(addrBytes, block);
    assert.equal(block[100], 7);
    vol.journal.commitNow();
    vol.device.read(addrBytes, block);
    assert.equal(block[99], 7);
    assert.equal(block[100], 0);
    assert.equal(block[4095], 0);
  });

  it('leaves the last block alone while a write may be under way in it', () => {
    const { vol } = openImage(imageWithFiles(16, 1));
    write(vol, FIRST_FILE, 0, new Uint8Array(4096).fill(7));
    truncateTo(vol, FIRST_FILE, 100);
    const token = vol.journal.dataStarted();
    const { addrBytes } = begin(vol, FIRST_FILE, 100, 50, OP_WRITE);
    vol.journal.commitNow();
    vol.device.write(addrBytes + 100, new Uint8Array(50).fill(9));
    ioend(vol, FIRST_FILE, 100, 50, addrBytes + 100, 0, 0);
    vol.journal.dataFinished(token);
    truncateTo(vol, FIRST_FILE, 200);
    const data = read(vol, FIRST_FILE);
    assert.equal(data[99], 7);
    assert.equal(data[149], 9);
    assert.equal(data[150], 0);
  });

  it('raises i_size only when the data is there, and keeps it after an error', () => {
    const { vol } = openImage(imageWithFiles(16, 1));
    const mapping = begin(vol, FIRST_FILE, 0, 8192, OP_WRITE);
    assert.equal(mapping.type, TYPE_UNWRITTEN);
    assert.equal(mapping.flags & FLAG_NEW, FLAG_NEW);
    assert.equal(Inode.get(vol, FIRST_FILE).sizeBytes, 0);
    assert.equal(ioend(vol, FIRST_FILE, 0, 8192, mapping.addrBytes, 0, 5), 0);
    assert.equal(begin(vol, FIRST_FILE, 0, 1, 0).type, TYPE_UNWRITTEN);
    assert.equal(ioend(vol, FIRST_FILE, 0, 5000, mapping.addrBytes, 0, 0), 5000);
    assert.equal(begin(vol, FIRST_FILE, 0, 1, 0).type, TYPE_MAPPED);
  });

  it('does not convert blocks that are somewhere else by now', () => {
    const { vol } = openImage(imageWithFiles(16, 1));
    const mapping = begin(vol, FIRST_FILE, 0, 8192, OP_WRITE);
    ioend(vol, FIRST_FILE, 0, 8192, mapping.addrBytes + 1024 * 1024, 0, 0);
    assert.equal(begin(vol, FIRST_FILE, 0, 1, 0).type, TYPE_UNWRITTEN);
  });

  it('gives back what a short write did not use', () => {
    const fixture = openImage(imageWithFiles(16, 1));
    const { vol } = fixture;
    const mapping = begin(vol, FIRST_FILE, 0, 40_960, OP_WRITE);
    ioend(vol, FIRST_FILE, 0, 5000, mapping.addrBytes, 0, 0);
    end(vol, FIRST_FILE, 0, 40_960, 5000, OP_WRITE, mapping);
    assert.equal(Inode.get(vol, FIRST_FILE).sectors, 16);
    assert.equal(begin(vol, FIRST_FILE, 8192, 1, 0).type, TYPE_HOLE);
    closeAndCheck(fixture);
  });

  it('refuses what ext4 cannot hold', () => {
    const { vol } = openImage(imageWithFiles(16, 1));
    const limit = 0xffffffff * 4096;
    assert.throws(() => truncateTo(vol, FIRST_FILE, limit + 1), new FsError('EFBIG'));
    assert.throws(() => begin(vol, FIRST_FILE, limit, 1, OP_WRITE), new FsError('EFBIG'));
    truncateTo(vol, FIRST_FILE, limit);
    write(vol, FIRST_FILE, limit - 10, new Uint8Array(10).fill(1));
    assert.equal(Inode.get(vol, FIRST_FILE).sizeBytes, limit);
  });

  it('finds data and holes', () => {
    const { vol } = openImage(imageWithFiles(16, 1));
    write(vol, FIRST_FILE, 8192, new Uint8Array(4096).fill(1));
    fallocate(vol, FIRST_FILE, 0, 20_000, 10_000);
    assert.equal(seekDataHole(vol, FIRST_FILE, 0, 'data'), 8192);
    assert.equal(seekDataHole(vol, FIRST_FILE, 0, 'hole'), 0);
    assert.equal(seekDataHole(vol, FIRST_FILE, 9000, 'hole'), 12_288);
    assert.throws(() => seekDataHole(vol, FIRST_FILE, 13_000, 'data'), new FsError('ENXIO'));
    assert.throws(() => seekDataHole(vol, FIRST_FILE, 30_000, 'hole'), new FsError('ENXIO'));
    truncateTo(vol, FIRST_FILE, 12_288);
    assert.equal(seekDataHole(vol, FIRST_FILE, 8193, 'hole'), 12_288);
  });

  it('refuses fallocate modes it does not know', () => {
    const { vol } = openImage(imageWithFiles(16, 1));
    for (const mode of [2, 9, 0x21, 0x40, 0x12]) {
      assert.throws(
        () => fallocate(vol, FIRST_FILE, mode, 0, 4096),
        (error: FsError) => error.code === 'EOPNOTSUPP',
      );
    }
  });
});
