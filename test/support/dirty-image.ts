/** An ext4 image with a log written by hand: no root needed, small, and as adversarial as wanted. */
import { MemoryDevice } from '../../src/block/memory-device.js';
import { ownView } from '../../src/codec/view.js';
import { INCOMPAT } from '../../src/ext4/features.js';
import { SUPERBLOCK, SUPERBLOCK_OFFSET } from '../../src/ext4/format/superblock.js';
import { openLogSource } from '../../src/ext4/journal-inode.js';
import { readGeometry } from '../../src/ext4/open.js';
import { stampSuperblock } from '../../src/ext4/superblock-io.js';
import { JBD2_MAGIC } from '../../src/jbd2/format.js';
import { RecordShape, RecordWriter } from '../../src/jbd2/record-writer.js';
import { makeImage } from './mke2fs.js';

export const BLOCK_SIZE = 1024;
export const TRANSACTIONS = 4;

export function superblockOf(image: Uint8Array): Uint8Array {
  return image.subarray(SUPERBLOCK_OFFSET, SUPERBLOCK_OFFSET + SUPERBLOCK.SIZE);
}

function changeSuperblock(
  image: Uint8Array,
  bytes: Uint8Array,
  change: (view: ReturnType<typeof ownView>) => void,
): void {
  const geometry = readGeometry(new MemoryDevice(image));
  const view = ownView(bytes);
  change(view);
  // With 1 KiB blocks the superblock is alone in its block.
  stampSuperblock(geometry, view, bytes);
}

function setNeedsRecovery(view: ReturnType<typeof ownView>, wanted: boolean): void {
  const { s_feature_incompat } = SUPERBLOCK;
  const others = s_feature_incompat.get(view, 0) & ~INCOMPAT.needs_recovery;
  s_feature_incompat.set(view, 0, others | (wanted ? INCOMPAT.needs_recovery : 0));
}

/** Its log wraps, and holds the superblock, escaped and revoked blocks, and blocks written more than once. */
export function dirtyImage(checksums = true): Uint8Array {
  const features = checksums ? [] : ['-O', '^metadata_csum'];
  const image = makeImage(4, ['-b', '1024', '-J', 'size=1', '-N', '64', ...features]);
  const device = new MemoryDevice(image);
  const source = openLogSource(device, readGeometry(device));
  const { superblock, blockMap } = source;
  superblock.prepareForWriting({ is64bit: superblock.hasIncompat('64BIT'), metadataCsum: checksums });
  const shape = new RecordShape(superblock);
  const tail = superblock.end - 10;
  let head = tail;
  for (let i = 0; i < TRANSACTIONS; i++) {
    const tid = superblock.sequence + i;
    const logged = superblockOf(image).slice();
    changeSuperblock(image, logged, (view) => {
      // A logged superblock that does not ask for recovery must not end it early.
      setNeedsRecovery(view, false);
      SUPERBLOCK.s_mnt_count.set(view, 0, 100 + i);
    });
    const blocks = [{ nr: 1, bytes: logged }];
    for (let k = 0; k < 6; k++) {
      const bytes = new Uint8Array(BLOCK_SIZE).fill(16 * i + k);
      if (k === i) ownView(bytes).setUint32(0, JBD2_MAGIC);
      blocks.push({ nr: 3000 + 2 * i + k * (1 + (i % 2)), bytes });
    }
    const revokes = i === 2 ? [3001, 3002] : [];
    const writer = new RecordWriter(shape, tid, shape.logBlocks(blocks.length, revokes.length));
    if (revokes.length > 0) writer.revokeBlock(revokes);
    writer.descriptorWithBlocks(blocks);
    writer.commitBlock({ seconds: 1_700_000_000 + i, nanoseconds: 0 });
    for (let at = 0; at < writer.buffer.length; at += BLOCK_SIZE) {
      device.write(blockMap[head] * BLOCK_SIZE, writer.buffer.subarray(at, at + BLOCK_SIZE));
      head = head + 1 === superblock.end ? superblock.first : head + 1;
    }
  }
  if (head >= tail) throw new Error('the log should wrap');
  superblock.setTail(superblock.sequence, tail);
  superblock.setErrno(-5);
  device.write(blockMap[0] * BLOCK_SIZE, superblock.bytes);
  changeSuperblock(image, superblockOf(image), (view) => setNeedsRecovery(view, true));
  return image;
}
