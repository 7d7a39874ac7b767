/** Filesystems whose bitmaps count clusters of several blocks (mke2fs -O bigalloc). */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { MemoryDevice } from '../../../src/block/memory-device.js';
import { FsError } from '../../../src/errors.js';
import { freeBlockCount, reservedBlockCount } from '../../../src/ext4/block-alloc.js';
import { isBlockUninit } from '../../../src/ext4/block-bitmap.js';
import { mapBlock } from '../../../src/ext4/block-map.js';
import { checkFilesystem } from '../../../src/ext4/check/check.js';
import { evict } from '../../../src/ext4/evict.js';
import { fallocate } from '../../../src/ext4/fallocate.js';
import { INCOMPAT, RO_COMPAT } from '../../../src/ext4/features.js';
import { readData } from '../../../src/ext4/file-data.js';
import { EXT4_ROOT_INO, S_IFREG } from '../../../src/ext4/format/inode.js';
import { frozenVolume } from '../../../src/ext4/frozen-volume.js';
import { GroupDescriptor } from '../../../src/ext4/group.js';
import { Inode } from '../../../src/ext4/inode.js';
import { begin, end, OP_WRITE } from '../../../src/ext4/iomap.js';
import { writeJournaled } from '../../../src/ext4/journaled-data.js';
import { create, lookup, mkdir, symlink, unlink } from '../../../src/ext4/namei.js';
import { openVolume, readGeometry } from '../../../src/ext4/open.js';
import { totals } from '../../../src/ext4/totals.js';
import { trimFree } from '../../../src/ext4/trim.js';
import { truncateTo } from '../../../src/ext4/truncate.js';
import type { Volume } from '../../../src/ext4/volume.js';
import { setXattr } from '../../../src/ext4/xattr.js';
import { fsck } from '../../support/mke2fs.js';
import { checkProperty } from '../../support/property.js';
import { Model, read, write } from './file-model.js';
import {
  closeAndCheck,
  FIRST_FILE,
  type Fixture,
  fillFreeBlocks,
  imageWithFiles,
  openImage,
} from './volume-fixture.js';

const KEEP_SIZE = 1;
const PUNCH_HOLE = 2 | KEEP_SIZE;
const ZERO_RANGE = 0x10;
const ROOT = { uid: 0, gid: 0 };
const FILES = 3;

const FORMATS = [
  { name: '4k blocks, 16k clusters', args: ['-b', '4096', '-O', 'bigalloc', '-C', '16384'] },
  { name: '4k blocks, 64k clusters', args: ['-b', '4096', '-O', 'bigalloc', '-C', '65536'] },
  { name: '1k blocks, 8k clusters', args: ['-b', '1024', '-O', 'bigalloc', '-C', '8192'] },
];

interface Step {
  readonly kind: string;
  readonly file: number;
  readonly block: number;
  readonly byte: number;
  readonly blocks: number;
}

const steps = fc.array(
  fc.record({
    kind: fc.constantFrom(
      ...['write', 'write', 'append', 'truncate', 'punch', 'punch', 'zero', 'allocate', 'keep', 'short', 'commit'],
      ...['attribute', 'name', 'unname', 'reopen'],
    ),
    file: fc.nat(FILES - 1),
    // Near the start, where clusters are met again and again; and anywhere.
    block: fc.oneof({ weight: 4, arbitrary: fc.nat(40) }, { weight: 1, arbitrary: fc.nat(2000) }),
    // At the edges of blocks, and between.
    byte: fc.oneof(fc.constant(0), fc.nat(1023)),
    blocks: fc.oneof({ weight: 3, arbitrary: fc.nat(9) }, { weight: 1, arbitrary: fc.nat(70) }),
  }),
  { minLength: 1, maxLength: 120, size: 'max' },
);

/** Does what `step` says on the volume and on the model. Returns the fixture to go on with. */
function take(fixture: Fixture, step: Step, models: readonly Model[], journaled: boolean, number: number): Fixture {
  const { vol } = fixture;
  const { kind, file, blocks } = step;
  const { blockSize } = vol.geometry;
  const ino = FIRST_FILE + file;
  const model = models[file];
  const pos = step.block * blockSize + step.byte;
  const length = blocks * blockSize + 1 + step.byte;
  const writeTo = (target: number, at: number, data: Uint8Array) => {
    if (journaled) writeJournaled(vol, target, at, data, OP_WRITE, 0);
    else write(vol, target, at, data);
  };
  const put = (at: number) => {
    const data = new Uint8Array(length).fill(1 + (number % 255));
    writeTo(ino, at, data);
    model.write(at, data);
  };
  if (kind === 'write') put(pos);
  else if (kind === 'append') put(model.bytes.length);
  else if (kind === 'truncate') {
    truncateTo(vol, ino, pos);
    model.resize(pos);
  } else if (kind === 'punch') {
    fallocate(vol, ino, PUNCH_HOLE, pos, length);
    model.zero(pos, length);
  } else if (kind === 'zero' || kind === 'allocate') {
    fallocate(vol, ino, kind === 'zero' ? ZERO_RANGE : 0, pos, length);
    if (pos + length > model.bytes.length) model.resize(pos + length);
    if (kind === 'zero') model.zero(pos, length);
  } else if (kind === 'keep') fallocate(vol, ino, KEEP_SIZE, pos, length);
  else if (kind === 'short' && !journaled) {
    const mapping = begin(vol, ino, pos, length, OP_WRITE);
    end(vol, ino, pos, length, 0, OP_WRITE, mapping);
  } else if (kind === 'attribute') {
    setXattr(vol, ino, Buffer.from(`user.${step.block % 3}`), new Uint8Array(step.byte), 0);
  } else if (kind === 'name') {
    const name = (what: string) => Buffer.from(`${what}${number} ${'n'.repeat(150)}`);
    const dir = mkdir(vol, EXT4_ROOT_INO, name('dir'), 0o755, ROOT);
    for (let i = 0; i < blocks; i++) create(vol, dir, name(`${i} `), S_IFREG | 0o644, ROOT);
    symlink(vol, dir, name('link'), Buffer.from('t'.repeat(blocks * 10 + 1)), ROOT);
    const gone = create(vol, EXT4_ROOT_INO, Buffer.from(`gone ${file}`), S_IFREG | 0o644, ROOT);
    writeTo(gone, pos, new Uint8Array(9));
  } else if (kind === 'unname') {
    const name = Buffer.from(`gone ${file}`);
    if (lookup(vol, EXT4_ROOT_INO, name) !== 0) evict(vol, unlink(vol, EXT4_ROOT_INO, name));
  } else if (kind === 'commit') vol.journal.commitNow();
  else if (kind === 'reopen') {
    closeAndCheck(fixture);
    return openImage(fixture.image, vol.policy);
  }
  return fixture;
}

function compare(vol: Volume, models: readonly Model[], journaled: boolean): void {
  models.forEach((model, file) => {
    const ino = FIRST_FILE + file;
    assert.equal(Inode.get(vol, ino).sizeBytes, model.bytes.length);
    const bytes = journaled ? new Uint8Array(model.bytes.length) : read(vol, ino);
    if (journaled) readData(Inode.get(vol, ino), 0, bytes);
    const different = bytes.findIndex((byte, i) => byte !== model.bytes[i]);
    assert.equal(different, -1, `byte ${different} of file ${file} is ${bytes[different]}`);
  });
}

function findings(image: Uint8Array): string[] {
  const device = new MemoryDevice(image);
  return checkFilesystem(frozenVolume(device, readGeometry(device))).findings.map((finding) => finding.message);
}

describe('bigalloc', function () {
  this.timeout(120_000);

  for (const { name, args } of FORMATS) {
    for (const journaled of [false, true]) {
      it(`agrees with a model, e2fsck and the check after any changes (${name}${journaled ? ', data=journal' : ''})`, () => {
        const empty = imageWithFiles(journaled ? 48 : 40, FILES, args);
        checkProperty(
          fc.property(steps, (list) => {
            let fixture = openImage(empty.slice(), { journalsData: journaled });
            fillFreeBlocks(fixture, 0xee);
            const models = Array.from({ length: FILES }, () => new Model());
            list.forEach((step, number) => {
              try {
                fixture = take(fixture, step, models, journaled, number);
              } catch (error) {
                if (!(error instanceof FsError && (error.code === 'ENOSPC' || error.code === 'EEXIST'))) throw error;
              }
            });
            compare(fixture.vol, models, journaled);
            closeAndCheck(fixture);
            assert.deepEqual(findings(fixture.image), []);
            compare(openImage(fixture.image).vol, models, journaled);
          }),
          { numRuns: 4 },
        );
      });
    }
  }

  const [{ args }] = FORMATS;
  /** Blocks of 4k, four in a cluster. */
  const block = (lblk: number) => lblk * 4096;
  const place = (vol: Volume, lblk: number) => mapBlock(Inode.get(vol, FIRST_FILE), lblk).pblk;
  const sectors = (vol: Volume) => Inode.get(vol, FIRST_FILE).sectors;

  it('maps the blocks of a cluster into one cluster, whatever their order', () => {
    const fixture = openImage(imageWithFiles(32, 1, args));
    const { vol } = fixture;
    const free = freeBlockCount(vol);
    for (const lblk of [6, 0, 5, 9, 3, 4, 7]) write(vol, FIRST_FILE, block(lblk), Buffer.from([lblk]));
    const second = place(vol, 4);
    assert.deepEqual([place(vol, 5), place(vol, 6), place(vol, 7)], [second + 1, second + 2, second + 3]);
    assert.equal(place(vol, 3), place(vol, 0) + 3);
    assert.equal(place(vol, 1), 0);
    assert.equal(free - freeBlockCount(vol), 12);
    assert.equal(sectors(vol), 3 * 32);
    // A hole that ends inside a cluster in use, and one that begins in one.
    fallocate(vol, FIRST_FILE, KEEP_SIZE, block(10), block(12));
    write(vol, FIRST_FILE, block(26), Buffer.from('x'));
    write(vol, FIRST_FILE, block(21), new Uint8Array(block(5)));
    assert.equal(place(vol, 25), place(vol, 26) - 1);
    // One that begins with a new cluster and ends in one in use.
    write(vol, FIRST_FILE, block(42), Buffer.from('y'));
    write(vol, FIRST_FILE, block(32), new Uint8Array(block(10)));
    assert.equal(place(vol, 41), place(vol, 42) - 1);
    // Ten, and one for a block of the extent tree.
    assert.equal(sectors(vol), 11 * 32);
    closeAndCheck(fixture);
  });

  it('frees a cluster with the last of its blocks', () => {
    const fixture = openImage(imageWithFiles(32, 1, args));
    const { vol } = fixture;
    const free = freeBlockCount(vol);
    write(vol, FIRST_FILE, 0, new Uint8Array(block(12)).fill(1));
    const punch = (lblk: number, count: number) => {
      fallocate(vol, FIRST_FILE, PUNCH_HOLE, block(lblk), block(count));
      return (free - freeBlockCount(vol)) / 4;
    };
    assert.equal(punch(5, 2), 3);
    assert.equal(punch(4, 1), 3);
    assert.equal(punch(7, 1), 2);
    assert.equal(punch(3, 6), 2);
    assert.equal(punch(0, 3), 1);
    assert.equal(sectors(vol), 32);
    truncateTo(vol, FIRST_FILE, block(10));
    assert.equal(freeBlockCount(vol), free - 4);
    truncateTo(vol, FIRST_FILE, block(9) + 1);
    assert.equal(freeBlockCount(vol), free - 4);
    truncateTo(vol, FIRST_FILE, block(9));
    assert.equal(freeBlockCount(vol), free);
    closeAndCheck(fixture);
  });

  it('does not bring back from the log what a hole took out of a cluster that stayed', () => {
    const image = imageWithFiles(32, 1, args);
    const fixture = openImage(image, { journalsData: true });
    const { vol } = fixture;
    const put = (lblk: number, value: number) =>
      writeJournaled(vol, FIRST_FILE, block(lblk), new Uint8Array(4096).fill(value), OP_WRITE, 0);
    for (const lblk of [0, 1, 2, 3]) put(lblk, 1);
    vol.journal.commitNow();
    const home = place(vol, 1) * 4096;
    fallocate(vol, FIRST_FILE, PUNCH_HOLE, block(1), block(1));
    // The block is made anew by a change that fails: its revoke record stays.
    assert.throws(() =>
      vol.journal.run(64, () => {
        put(1, 2);
        throw new Error('no');
      }),
    );
    vol.journal.commitNow();
    const crashed = image.slice();
    crashed.fill(7, home, home + 4096);
    openImage(crashed);
    assert.ok(crashed.subarray(home, home + 4096).every((byte) => byte === 7));
    // And it is logged again when it is made anew by one that does not.
    put(1, 3);
    vol.journal.commitNow();
    const { vol: again } = openImage(image.slice(), { journalsData: true });
    const bytes = new Uint8Array(block(4));
    readData(Inode.get(again, FIRST_FILE), 0, bytes);
    for (const lblk of [0, 1, 2, 3]) assert.equal(bytes[block(lblk)], lblk === 1 ? 3 : 1);
    closeAndCheck(fixture);
  });

  it('discards free clusters whole, and nothing that is in use', () => {
    const image = imageWithFiles(32, 2, args);
    const discarded = new Set<number>();
    class Discarding extends MemoryDevice {
      discard(offsetBytes: number, lengthBytes: number): void {
        this.image.fill(0xdd, offsetBytes, offsetBytes + lengthBytes);
        for (let at = offsetBytes; at < offsetBytes + lengthBytes; at += 4096) discarded.add(at / 4096);
      }
    }
    const { volume: vol } = openVolume(new Discarding(image), { policy: { discards: true } });
    const models = [new Model(), new Model()];
    models.forEach((model, file) => {
      const data = new Uint8Array(block(9)).fill(file + 1);
      write(vol, FIRST_FILE + file, block(3), data);
      model.write(block(3), data);
    });
    const emptied = place(vol, 4);
    const kept = place(vol, 9);
    fallocate(vol, FIRST_FILE, PUNCH_HOLE, block(4), block(5));
    models[0].zero(block(4), block(5));
    vol.journal.commitNow();
    assert.deepEqual([...discarded].sort(), [emptied, emptied + 1, emptied + 2, emptied + 3].sort());
    // From and to the middle of a cluster.
    const start = vol.geometry.clusterStart(kept + 40) + 1;
    discarded.clear();
    assert.equal(trimFree(vol, block(start), block(10), 0), block(4));
    assert.deepEqual(
      [...discarded],
      [3, 4, 5, 6].map((i) => start + i),
    );
    assert.equal(trimFree(vol, 0, image.length, 0), block(freeBlockCount(vol)));
    compare(vol, models, false);
    closeAndCheck({ image, vol });
  });

  it('makes bitmaps for groups that were never used, and fills them to the last cluster', () => {
    for (const more of ['^flex_bg', 'meta_bg,^resize_inode', 'uninit_bg,^metadata_csum']) {
      const fixture = openImage(
        imageWithFiles(160, 1, ['-b', '1024', '-C', '2048', '-g', '8192', '-O', `bigalloc,${more}`]),
      );
      const { vol } = fixture;
      const groups = Array.from({ length: vol.geometry.groupCount }, (_, group) => group);
      const uninit = () => groups.filter((group) => isBlockUninit(vol, GroupDescriptor.get(vol, group))).length;
      const before = uninit();
      assert.ok(before > 2);
      assert.throws(() => fallocate(vol, FIRST_FILE, 0, 0, 200 << 20), { code: 'ENOSPC' });
      assert.equal(uninit(), 0);
      assert.equal(freeBlockCount(vol), reservedBlockCount(vol) - totals(vol).reservedBlocks);
      closeAndCheck(fixture);
      assert.deepEqual(findings(fixture.image), []);
    }
  });

  it('never hands out a cluster that the end of the filesystem cuts', () => {
    const image = imageWithFiles(32, 1, [...args, '-O', '^metadata_csum', '-m', '0']);
    const view = new DataView(image.buffer);
    const BLOCKS_COUNT = 1024 + 4;
    view.setUint32(BLOCKS_COUNT, view.getUint32(BLOCKS_COUNT, true) - 2, true);
    const { vol } = openImage(image);
    assert.throws(() => fallocate(vol, FIRST_FILE, 0, 0, 40 << 20), { code: 'ENOSPC' });
    assert.ok(freeBlockCount(vol) >= 4);
    const inode = Inode.get(vol, FIRST_FILE);
    for (let lblk = 0; ; ) {
      const { pblk, count } = mapBlock(inode, lblk);
      if (pblk === 0) break;
      assert.ok(pblk + count <= vol.geometry.blocksCount - 2);
      lblk += count;
    }
  });

  it('is refused where the superblock contradicts itself', () => {
    const good = imageWithFiles(32, 1, [...args, '-O', '^metadata_csum']);
    const refused = (offset: number, value: number, pattern: RegExp) => {
      const image = good.slice();
      new DataView(image.buffer).setUint32(1024 + offset, value, true);
      assert.throws(() => openImage(image), { name: 'CorruptionError', message: pattern });
    };
    const LOG_CLUSTER_SIZE = 0x1c;
    const CLUSTERS_PER_GROUP = 0x24;
    refused(LOG_CLUSTER_SIZE, 1, /s_log_cluster_size is 1/);
    refused(LOG_CLUSTER_SIZE, 30, /s_log_cluster_size is 30/);
    refused(LOG_CLUSTER_SIZE, 0xffffffff, /s_log_cluster_size/);
    refused(LOG_CLUSTER_SIZE, 19, /s_blocks_per_group/);
    refused(CLUSTERS_PER_GROUP, 0, /s_clusters_per_group is 0/);
    refused(CLUSTERS_PER_GROUP, 32761, /s_clusters_per_group/);
    // The feature itself is taken away, or extents are.
    const { geometry } = openImage(good.slice()).vol;
    refused(0x64, geometry.roCompat & ~RO_COMPAT.bigalloc, /s_log_cluster_size/);
    refused(0x60, geometry.incompat & ~INCOMPAT.extent, /needs the extent feature/);
  });

  it('calls extents that break the rules of clusters corrupt, and changes nothing then', () => {
    const image = imageWithFiles(32, 1, [...args, '-O', '^metadata_csum']);
    const fixture = openImage(image);
    write(fixture.vol, FIRST_FILE, 0, new Uint8Array(block(2)));
    write(fixture.vol, FIRST_FILE, block(3), new Uint8Array(block(4)));
    const inode = Inode.get(fixture.vol, FIRST_FILE);
    const at = inode.block.nr * 4096 + inode.iBlockBase;
    const start = place(fixture.vol, 0);
    closeAndCheck(fixture);
    const broken = (entry: number, pblk: number) => {
      const copy = image.slice();
      new DataView(copy.buffer).setUint32(at + 12 + entry * 12 + 8, pblk, true);
      assert.notEqual(findings(copy).length, 0);
      assert.notEqual(fsck(copy).code, 0);
      const { vol } = openImage(copy);
      for (const use of [
        () => read(vol, FIRST_FILE),
        () => write(vol, FIRST_FILE, block(2), new Uint8Array(1)),
        () => truncateTo(vol, FIRST_FILE, 0),
        () => fallocate(vol, FIRST_FILE, PUNCH_HOLE, 0, block(3)),
      ]) {
        assert.throws(use, { name: 'CorruptionError' });
      }
    };
    broken(0, start + 1);
    broken(1, start + 4 + 3);
    broken(1, start + 2);
  });

  it('has no block maps', () => {
    const image = imageWithFiles(32, 1, [...args, '-O', '^metadata_csum']);
    const fixture = openImage(image);
    const inode = Inode.get(fixture.vol, FIRST_FILE);
    const at = inode.block.nr * 4096 + inode.base;
    closeAndCheck(fixture);
    const view = new DataView(image.buffer);
    view.setUint32(at + 0x20, 0, true);
    view.setUint32(at + 0x28, 5000, true);
    view.setUint32(at + 4, 4096, true);
    const { vol } = openImage(image);
    for (const use of [
      () => read(vol, FIRST_FILE),
      () => write(vol, FIRST_FILE, 4096, new Uint8Array(1)),
      () => truncateTo(vol, FIRST_FILE, 0),
    ]) {
      assert.throws(use, { name: 'CorruptionError', message: /without extents/ });
    }
  });
});
