/** Which inodes wait for the end of a deletion or truncation: a look at both orphan lists that changes nothing. */
import { readView } from '../codec/view.js';
import { CorruptionError } from '../errors.js';
import { SUPERBLOCK } from './format/superblock.js';
import { type Ino, Inode } from './inode.js';
import { walkInodeBlocks } from './inode-blocks.js';
import type { Volume } from './volume.js';

/** struct ext4_orphan_block_tail: ob_magic, ob_checksum. */
const TAIL_BYTES = 8;
const EXT4_ORPHAN_BLOCK_MAGIC = 0x0b10ca04;

/** The list that starts at s_last_orphan and goes on through i_dtime. Throws CorruptionError for a list without an end. */
export function chainedOrphans(vol: Volume): Ino[] {
  const { geometry } = vol;
  const orphans = new Set<Ino>();
  let ino = SUPERBLOCK.s_last_orphan.get(vol.superblock().view, geometry.superblockOffset);
  while (ino !== 0) {
    if (orphans.has(ino)) throw new CorruptionError('orphan list', `inode ${ino}`, 'the list comes back to it');
    orphans.add(ino);
    ino = Inode.load(vol, ino).nextOrphan;
  }
  return [...orphans];
}

/** The inodes in the orphan file; none without the feature. Throws CorruptionError. */
export function filedOrphans(vol: Volume): Ino[] {
  const { orphanFileInum, blockSize } = vol.geometry;
  if (orphanFileInum === 0) return [];
  const orphans: Ino[] = [];
  const bytes = new Uint8Array(blockSize);
  const view = readView(bytes);
  walkInodeBlocks(Inode.load(vol, orphanFileInum), {
    data(_lblk, count, pblk) {
      for (let i = 0; i < count; i++) {
        vol.device.read((pblk + i) * blockSize, bytes);
        if (view.getUint32(blockSize - TAIL_BYTES, true) !== EXT4_ORPHAN_BLOCK_MAGIC) {
          throw new CorruptionError('orphan file block', `block ${pblk + i}`, 'the magic number is missing');
        }
        for (let at = 0; at < blockSize - TAIL_BYTES; at += 4) {
          const ino = view.getUint32(at, true);
          if (ino !== 0) orphans.push(ino);
        }
      }
    },
    tree() {},
  });
  return orphans;
}
