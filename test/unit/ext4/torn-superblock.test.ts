import assert from 'node:assert/strict';
import { MemoryDevice } from '../../../src/block/memory-device.js';
import { CorruptionError } from '../../../src/errors.js';
import { realEnvironment } from '../../../src/ext4/environment.js';
import { Filesystem } from '../../../src/ext4/filesystem.js';
import { fsck, makeImage } from '../../support/mke2fs.js';

const SUPERBLOCK_AT = 1024;
const SECTOR_BYTES = 512;

/** The image as it is while the filesystem is mounted: needs_recovery is set. */
function whileInUse(clean: Uint8Array): Uint8Array {
  const image = clean.slice();
  const env = { ...realEnvironment, schedule: () => () => {} };
  const fs = Filesystem.open(new MemoryDevice(image), { env });
  fs.create(2, new TextEncoder().encode('file'), 0o644, { uid: 0, gid: 0 });
  fs.volume.journal.commitNow();
  return image;
}

function torn(from: Uint8Array, first: Uint8Array, second: Uint8Array): Uint8Array {
  const image = from.slice();
  const middle = SUPERBLOCK_AT + SECTOR_BYTES;
  image.set(first.subarray(SUPERBLOCK_AT, middle), SUPERBLOCK_AT);
  image.set(second.subarray(middle, middle + SECTOR_BYTES), middle);
  return image;
}

describe('a superblock of which one sector is of another version', () => {
  let clean: Uint8Array;
  let inUse: Uint8Array;
  before(() => {
    clean = makeImage(32, ['-O', 'metadata_csum']);
    inUse = whileInUse(clean);
  });

  for (const [title, first, second] of [
    ['the first is new', () => inUse, () => clean],
    ['the second is new', () => clean, () => inUse],
  ] as const) {
    it(`is mended at mount, and the log replayed (${title})`, () => {
      const image = torn(inUse, first(), second());
      const fs = Filesystem.open(new MemoryDevice(image));
      assert.notEqual(fs.lookup(2, new TextEncoder().encode('file')), 0, 'the committed file is there');
      fs.closeSync();
      const { code, output } = fsck(image);
      assert.equal(code, 0, output);
    });
  }

  it('is refused, and left alone, when no version explains it', () => {
    const image = inUse.slice();
    // s_inodes_count of the log's copy and of the primary differ from what the checksum says.
    image[SUPERBLOCK_AT + 0x78] ^= 0x40;
    image[SUPERBLOCK_AT + 0x3f0] ^= 0x01;
    const before = image.slice();
    assert.throws(() => Filesystem.open(new MemoryDevice(image)), CorruptionError);
    assert.deepEqual(image, before);
  });
});
