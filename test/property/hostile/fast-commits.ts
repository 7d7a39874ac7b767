/** Fast commits on top of the log of a sound image: something of each kind of record. */
import assert from 'node:assert/strict';
import { ownView } from '../../../src/codec/view.js';
import { testBit } from '../../../src/ext4/bitmap.js';
import { readBlockBitmap } from '../../../src/ext4/block-bitmap.js';
import { INCOMPAT } from '../../../src/ext4/features.js';
import { Filesystem } from '../../../src/ext4/filesystem.js';
import { S_IFDIR } from '../../../src/ext4/format/inode.js';
import { GroupDescriptor } from '../../../src/ext4/group.js';
import { Inode } from '../../../src/ext4/inode.js';
import { isInodeTaken } from '../../../src/ext4/inode-alloc.js';
import { openLogSource } from '../../../src/ext4/journal-inode.js';
import { readGeometry } from '../../../src/ext4/open.js';
import type { Environment, Volume } from '../../../src/ext4/volume.js';
import { JBD2_FEATURE_INCOMPAT, JOURNAL_SUPERBLOCK } from '../../../src/jbd2/format.js';
import { scan } from '../../../src/jbd2/recovery.js';
import {
  addRange,
  creat,
  delRange,
  encodeFastCommit,
  head,
  inode,
  link,
  type Record,
  unlink,
} from '../../support/fast-commit-builder.js';
import { locate } from './locate.js';
import { ScratchImage } from './scratch-image.js';
import { type SoundImage, soundDevice } from './sound-image.js';

const ROOT = 2;
const encode = (text: string) => new TextEncoder().encode(text);

/** Gives so many blocks at the end of the log away: the transactions lie at its start. Fills them if there is a log to replay. */
export function withFastCommits(sound: SoundImage, blocks: number, env: Environment): Uint8Array {
  const image = new ScratchImage(sound);
  const [journal] = locate(sound).structures.get('journal superblock') ?? [];
  const view = ownView(image.writable(journal.at, journal.length));
  const { s_feature_incompat, s_num_fc_blks } = JOURNAL_SUPERBLOCK;
  s_feature_incompat.set(view, 0, s_feature_incompat.get(view, 0) | JBD2_FEATURE_INCOMPAT.FAST_COMMIT);
  s_num_fc_blks.set(view, 0, blocks);
  journal.seal(image);
  const device = soundDevice(image);
  const { superblock, blockMap } = openLogSource(device, readGeometry(device));
  if (superblock.start === 0) return image.bytes;
  const { endTid } = scan(openLogSource(device, readGeometry(device)));
  const fs = Filesystem.open(soundDevice({ ...image, bytes: image.bytes.slice() }), { env });
  let logBlock = superblock.end + 1;
  commits(fs).forEach((records, i) => {
    const bytes = encodeFastCommit(i === 0 ? [head(endTid), ...records] : records, endTid);
    for (let at = 0; at < bytes.length; at += superblock.blockSize)
      device.write(blockMap[logBlock++] * superblock.blockSize, bytes.subarray(at, at + superblock.blockSize));
  });
  const { report } = Filesystem.open(soundDevice({ ...image, bytes: image.bytes.slice() }), { env });
  assert.equal(report.log?.fastCommits, 2, 'the sound fast commits are replayed');
  return image.bytes;
}

function commits(fs: Filesystem): Record[][] {
  const { volume } = fs;
  const { blockSize, incompat } = volume.geometry;
  const [file, dir, other, inline] = freeInodes(volume, 4);
  const place = freeBlocks(volume, 16);
  const allocated = fs.lookup(ROOT, encode('allocated'));
  const d = fs.lookup(ROOT, encode('d'));
  const { generation, sizeBytes } = Inode.get(volume, allocated);
  const small = (incompat & INCOMPAT.inline_data) === 0 ? {} : { inline: new Uint8Array(90).fill(7) };
  return [
    [
      inode(file),
      addRange(file, 0, 6, place),
      creat(ROOT, file, 'fresh'),
      inode(dir, { mode: S_IFDIR | 0o755, links: 2, size: blockSize }),
      creat(ROOT, dir, 'fresh-directory'),
      inode(inline, small),
      creat(dir, inline, 'small'),
      link(dir, fs.lookup(d, encode('plain')), 'linked'),
      inode(file, { size: 6 * blockSize, uid: 5 }),
    ],
    [
      inode(other),
      creat(ROOT, other, 'brief'),
      unlink(ROOT, other, 'brief'),
      unlink(d, fs.lookup(d, encode('empty')), 'empty'),
      addRange(allocated, 20, 4, place + 8, true),
      delRange(allocated, 24, 100),
      inode(allocated, { generation, size: sizeBytes }),
    ],
  ];
}

function freeInodes(vol: Volume, count: number): number[] {
  const found: number[] = [];
  for (let ino = vol.geometry.inodesCount; found.length < count; ino--) if (!isInodeTaken(vol, ino)) found.push(ino);
  return found;
}

/** The first of so many free blocks, from the end of the filesystem, on a multiple of 16. */
function freeBlocks(vol: Volume, count: number): number {
  const { geometry } = vol;
  const isFree = (nr: number) => {
    const { view } = readBlockBitmap(vol, GroupDescriptor.get(vol, geometry.groupOf(nr)));
    return !testBit(view, geometry.bitOf(nr));
  };
  for (let nr = Math.floor(geometry.blocksCount / 16 - 1) * 16; nr > 0; nr -= 16)
    if (Array.from({ length: count }, (_, i) => nr + i).every(isFree)) return nr;
  throw new Error('the image has no room');
}
