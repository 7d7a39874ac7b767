/** What hostile images have brought the engine to before it was mended, one at a time. */
import assert from 'node:assert/strict';
import { FsError } from '../../../src/errors.js';
import { checkFilesystem } from '../../../src/ext4/check/check.js';
import type { Filesystem } from '../../../src/ext4/filesystem.js';
import { frozenVolume } from '../../../src/ext4/frozen-volume.js';
import { OP_WRITE } from '../../../src/ext4/iomap.js';
import { readGeometry } from '../../../src/ext4/open.js';
import { GuardDevice } from './guard-device.js';
import { write } from './images.js';
import { corruptionOf, Patient } from './patient.js';
import type { Structure } from './structures.js';

const CRED = { uid: 0, gid: 0 };
const ROOT = 2;
const JOURNAL_INO = 8;
const BLOCK = 1024;
const encode = (text: string) => new TextEncoder().encode(text);

/** The entry of a directory that names `ino`. */
const entryOf = (patient: Patient, ino: number): Structure =>
  patient.all('directory entry', (each) => each.fields.length > 0 && patient.get(each, 'inode') === ino)[0];

/** Makes the bitmaps say that the log is free; the counts follow. */
function freeTheLog(patient: Patient): void {
  const { log, geometry } = patient.open({ readOnly: true }).volume;
  const bitmaps = patient.all('block bitmap');
  const descriptors = patient.all('group descriptor');
  for (const { start, stop } of log.runs) {
    const group = geometry.groupOf(start);
    assert.equal(geometry.groupOf(stop - 1), group);
    const first = geometry.groupFirstBlock(group);
    const bitmap = bitmaps.find(({ what }) => what === `group ${group}`) as Structure;
    patient.edit(bitmap, (bytes) => {
      for (let bit = start - first; bit < stop - first; bit++) bytes[bit >> 3] &= ~(1 << (bit & 7));
    });
    const field = 'bg_free_blocks_count_lo';
    patient.set(descriptors[group], field, patient.get(descriptors[group], field) + stop - start);
  }
}

/** Names seen by a reader that takes one at a time. */
function namesOneByOne(fs: Filesystem, ino: number): string[] {
  const names: string[] = [];
  for (let cursor = 0, more = true; more; ) {
    const start = cursor;
    more = false;
    fs.readdir(ino, start, (name, _ino, _type, next) => {
      if (cursor !== start) return false;
      names.push(new TextDecoder().decode(name));
      cursor = next;
      more = true;
      return true;
    });
    assert.ok(!more || cursor > start, 'the listing moves on');
  }
  return names;
}

describe('what hostile images led to', function () {
  this.timeout(60_000);

  it('a name for the log or the orphan file is refused', async () => {
    for (const name of ['1k', '1k-orphan-file']) {
      const patient = await Patient.of(name);
      const own = name === '1k' ? JOURNAL_INO : patient.open().volume.geometry.orphanFileInum;
      patient.set(entryOf(patient, patient.ino('allocated')), 'inode', own);
      const fs = patient.open();
      const ino = fs.lookup(ROOT, encode('allocated'));
      assert.equal(ino, own);
      assert.throws(() => fs.stat(ino), corruptionOf(/inode number/));
      assert.throws(() => fs.iomapBegin(ino, 0, BLOCK, OP_WRITE), corruptionOf(/inode number/));
      assert.throws(() => fs.unlink(ROOT, encode('allocated')), corruptionOf(/inode number/));
    }
  });

  it('an orphan list that leads to the log leaves the log alone', async () => {
    const patient = await Patient.of('1k-orphan-file');
    const own = patient.open({ readOnly: true }).volume.geometry.orphanFileInum;
    const [head] = patient.all('orphan list');
    patient.edit(head, (bytes) => new DataView(bytes.buffer, bytes.byteOffset).setUint32(0, own, true));
    const [record] = patient.all('inode', ({ ino }) => ino === own);
    const size = patient.get(record, 'i_size_lo');
    patient.open().closeSync();
    assert.equal(patient.get(record, 'i_size_lo'), size);
    assert.ok(patient.get(record, 'i_mode') !== 0);
  });

  it('an orphan that cannot be finished does not keep the image from being mounted', async () => {
    for (const name of ['1k', '1k-orphan-file']) {
      const patient = await Patient.of(name);
      const orphans = patient.all('inode', (each) => each.ino > 10 && patient.get(each, 'i_links_count') === 0);
      const [worst] = orphans.filter((each) => patient.get(each, 'i_size_lo') > 0);
      const [extent] = patient.all('extent', ({ ino }) => ino === worst.ino);
      const [desc] = patient.all('group descriptor');
      patient.set(extent, 'ee_start_lo', patient.get(desc, 'bg_inode_table_lo'));
      const lines: string[] = [];
      const fs = patient.open({ log: (line) => lines.push(line), errors: 'continue' });
      assert.ok(
        lines.some((line) => /corrupt block map/.test(line)),
        lines.join('\n'),
      );
      assert.equal(fs.report.orphans?.deleted, orphans.length - 1);
      assert.ok(fs.create(ROOT, encode('new'), 0o100644, CRED) > 0);
    }
  });

  it('an inode of the filesystem itself that the bitmap calls free is not handed out', async () => {
    const patient = await Patient.of('1k-orphan-file');
    const { orphanFileInum, inodesPerGroup } = patient.open({ readOnly: true }).volume.geometry;
    const index = orphanFileInum - 1;
    assert.ok(index < inodesPerGroup);
    patient.edit(patient.all('inode bitmap')[0], (bytes) => {
      bytes[index >> 3] &= ~(1 << (index & 7));
    });
    const fs = patient.open();
    assert.throws(
      () => {
        for (let i = 0; ; i++) fs.create(ROOT, encode(`file-${i}`), 0o100644, CRED);
      },
      corruptionOf(/inode bitmap/),
    );
  });

  it('file data is never mapped to the log', async () => {
    const patient = await Patient.of('1k');
    const { start } = patient.open({ readOnly: true }).volume.log.runs.at(-1) as { start: number };
    const plain = patient.ino('d/plain');
    const [extent] = patient.all('extent', ({ ino }) => ino === plain);
    patient.set(extent, 'ee_start_lo', start + 5);
    const fs = patient.open();
    assert.throws(() => fs.iomapBegin(plain, 0, BLOCK, 0), corruptionOf(/extent/));
    assert.throws(() => fs.setattr(plain, { size: 0 }), corruptionOf(/block map|extent/));
  });

  for (const name of ['1k', 'ext3']) {
    it(`blocks of the log that the bitmap calls free are neither allocated nor promised (${name})`, async () => {
      const patient = await Patient.of(name);
      freeTheLog(patient);
      const fs = patient.open();
      let refused = 0;
      for (let i = 0; i < 40; i++) {
        try {
          const ino = fs.create(ROOT, encode(`file-${i}`), 0o100644, CRED);
          for (let end = 0; end < 64 * BLOCK; ) {
            const { addrBytes, offsetBytes, lengthBytes } = fs.iomapBegin(ino, end, 64 * BLOCK - end, OP_WRITE);
            const at = addrBytes / BLOCK;
            assert.ok(!fs.volume.log.overlaps(at, at + lengthBytes / BLOCK), `blocks ${at}`);
            end = offsetBytes + lengthBytes;
          }
        } catch (error) {
          // Where nothing else is free, the group that is not trusted any more is passed over.
          if (corruptionOf(/bitmap/)(error)) refused++;
          else assert.ok(error instanceof FsError && error.code === 'ENOSPC', String(error));
        }
      }
      assert.ok(refused > 0);
    });
  }

  it('a log that is mapped onto metadata, or is too short for a transaction, keeps the image from being mounted', async () => {
    const onTable = await Patient.of('1k');
    const [desc] = onTable.all('group descriptor');
    const [extent] = onTable.all('extent', ({ ino }) => ino === JOURNAL_INO);
    onTable.set(extent, 'ee_start_lo', onTable.get(desc, 'bg_inode_table_lo') + 1);
    assert.throws(() => onTable.open(), corruptionOf(/journal inode/));
    const short = await Patient.of('1k');
    short.set(short.all('journal superblock')[0], 's_maxlen', 400);
    assert.throws(() => short.open(), corruptionOf(/journal superblock/));
  });

  it('an external journal whose own superblock is damaged is refused', async () => {
    const patient = await Patient.of('1k-external-journal');
    const [superblock] = patient.all('external journal');
    patient.set(superblock, 's_feature_ro_compat', 0x400);
    assert.throws(() => patient.open(), corruptionOf(/external journal/));
  });

  it('multiple mount protection that would have the mount wait for a day is refused', async () => {
    const patient = await Patient.of('1k-mmp');
    const [block] = patient.all('mmp block');
    patient.set(block, 'mmp_check_interval', 301);
    assert.throws(() => patient.open(), corruptionOf(/MMP block/));
    patient.set(block, 'mmp_check_interval', 300);
    patient.open().closeSync();
  });

  it('bitmaps inside the inode table, and counts of more inodes than there are, are refused', async () => {
    const overlapping = await Patient.of('1k');
    const [desc] = overlapping.all('group descriptor');
    overlapping.set(desc, 'bg_block_bitmap_lo', overlapping.get(desc, 'bg_inode_table_lo') + 1);
    assert.throws(() => overlapping.open().stat(ROOT), corruptionOf(/group descriptor/));
    const counted = await Patient.of('1k');
    counted.set(counted.all('group descriptor')[0], 'bg_itable_unused_lo', 5000);
    assert.throws(() => counted.open().stat(ROOT), corruptionOf(/group descriptor/));
  });

  it('an inode larger than anything that can be mapped is refused', async () => {
    const patient = await Patient.of('1k');
    const plain = patient.ino('d/plain');
    patient.set(patient.all('inode', ({ ino }) => ino === plain)[0], 'i_size_high', 0x7fffffff);
    assert.throws(() => patient.open().stat(plain), corruptionOf(/inode/));
  });

  it('a directory of more blocks than the filesystem has is refused at once', async () => {
    const patient = await Patient.of('1k');
    const d = patient.ino('d');
    patient.set(patient.all('inode', ({ ino }) => ino === d)[0], 'i_size_lo', 1 << 30);
    const fs = patient.open();
    assert.throws(() => fs.lookup(d, encode('nobody')), corruptionOf(/directory/));
    assert.throws(() => namesOneByOne(fs, d), corruptionOf(/directory/));
  });

  it('a directory with blocks behind its end, which it is about to need, is corrupt and no fault of the program', async () => {
    for (const name of ['1k', 'ext3']) {
      const patient = await Patient.of(name);
      const indexed = patient.ino('indexed');
      const [record] = patient.all('inode', ({ ino }) => ino === indexed);
      patient.set(record, 'i_size_lo', patient.get(record, 'i_size_lo') - BLOCK);
      const fs = patient.open();
      assert.throws(
        () => {
          for (let i = 0; i < 200; i++) fs.create(indexed, encode(`${'z'.repeat(200)}-${i}`), 0o100644, CRED);
        },
        corruptionOf(/directory index|extent tree|block map/),
      );
    }
  });

  it('an entry that leaves too little behind it in its block is refused', async () => {
    const patient = await Patient.of('1k');
    const lostAndFound = patient.ino('lost+found');
    const [, second] = patient.all('directory entry', ({ ino, fields }) => ino === lostAndFound && fields.length > 0);
    patient.set(second, 'rec_len', patient.get(second, 'rec_len') - 8);
    const fs = patient.open();
    assert.throws(() => namesOneByOne(fs, lostAndFound), corruptionOf(/directory entry/));
  });

  it('an index of many entries for few leaves ends', async () => {
    const patient = await Patient.of('1k-deep');
    const indexed = patient.ino('indexed');
    const entries = patient.all('directory index', ({ ino, what }) => ino === indexed && what.startsWith('entry'));
    // All leaves continue the one before, and are one and the same.
    const leaf = patient.get(entries.at(-1) as Structure, 'block');
    for (const entry of entries.slice(1)) patient.set(entry, 'block', leaf);
    const fs = patient.open();
    assert.throws(() => namesOneByOne(fs, indexed), corruptionOf(/directory index/));
  });

  it('names of one hash are listed to their end, however few are taken at a time', async () => {
    const patient = await Patient.of('1k');
    const indexed = patient.ino('indexed');
    const before = namesOneByOne(patient.open(), indexed).length;
    const isName = ({ ino, what }: Structure) => ino === indexed && what.startsWith('name');
    const leaf = (name: Structure) => Math.floor(name.at / BLOCK);
    const [first, ...others] = patient.all('directory entry', isName);
    const name = patient.image.bytes.slice(first.at, first.at + first.length);
    for (const other of others) if (leaf(other) === leaf(first)) patient.edit(other, (bytes) => bytes.set(name));
    const listed = namesOneByOne(patient.open(), indexed);
    assert.equal(listed.length, before);
  });

  it('a full leaf without a single name takes one', async () => {
    const patient = await Patient.of('1k');
    const indexed = patient.ino('indexed');
    for (const block of patient.all('directory block', ({ ino }) => ino === indexed).slice(1)) {
      patient.edit(block, (bytes) => {
        const view = new DataView(bytes.buffer, bytes.byteOffset);
        // Unused entries of 12 bytes up to the checksum.
        for (let at = 0; at + 12 < BLOCK; at += 12) {
          view.setUint32(at, 0, true);
          view.setUint16(at + 4, at + 24 > BLOCK - 12 ? BLOCK - 12 - at : 12, true);
          view.setUint16(at + 6, 0, true);
        }
      });
    }
    const fs = patient.open();
    const ino = fs.create(indexed, encode('q'.repeat(200)), 0o100644, CRED);
    assert.equal(fs.lookup(indexed, encode('q'.repeat(200))), ino);
  });

  it('a directory without "." and ".." does not become an index', async () => {
    const patient = await Patient.of('1k');
    const d = patient.ino('d');
    const [dot] = patient.all('directory entry', ({ ino, fields }) => ino === d && fields.length > 0);
    patient.set(dot, 'rec_len', 24);
    const fs = patient.open();
    assert.throws(
      () => {
        for (let i = 0; i < 20; i++) fs.create(d, encode(`${'z'.repeat(200)}-${i}`), 0o100644, CRED);
      },
      corruptionOf(/directory/),
    );
  });

  it('ext4d check looks at an index whose counts are wrong, and at a directory whose first names are', async () => {
    for (const damage of ['count', 'dots'] as const) {
      const patient = await Patient.of('1k');
      const indexed = patient.ino('indexed');
      const d = patient.ino('d');
      if (damage === 'count') {
        const [counts] = patient.all('directory index', ({ ino, what }) => ino === indexed && what.startsWith('limit'));
        patient.set(counts, 'count', 0xffff);
      } else {
        const dots = patient.all('directory entry', ({ ino, fields }) => ino === d && fields.length > 0);
        patient.set(dots[0], 'rec_len', 24);
      }
      const device = new GuardDevice(patient.image);
      const { findings } = checkFilesystem(frozenVolume(device, readGeometry(device)));
      assert.ok(findings.some(({ structure }) => structure.startsWith('directory')));
    }
  });

  it('the sound images have nothing of that', async () => {
    for (const name of ['1k', '1k-deep', 'ext3']) {
      const patient = await Patient.of(name);
      const fs = patient.open();
      write(fs, fs.create(ROOT, encode('file'), 0o100644, CRED), 0, 5000);
      assert.equal(namesOneByOne(fs, patient.ino('indexed')).length, name === '1k-deep' ? 422 : 17);
      fs.closeSync();
      const device = new GuardDevice(patient.image);
      assert.deepEqual(checkFilesystem(frozenVolume(device, readGeometry(device))).findings, []);
    }
  });
});
