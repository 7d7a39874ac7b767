/**
 * Where the log lies on the device: the blocks of the journal's inode. Read before there is a volume, from what a crash
 * may have left; the journal's own blocks and inode never change while it is in use.
 */
import type { BlockDevice } from '../block/device.js';
import { CorruptionError, UnsupportedError } from '../errors.js';
import { JournalSuperblock } from '../jbd2/journal-superblock.js';
import type { LogSource } from '../jbd2/log-walker.js';
import { blocksMayBeUsed } from './block-validity.js';
import { readExternalJournalMap } from './external-journal.js';
import { COMPAT } from './features.js';
import { EXT4_INLINE_DATA_FL } from './format/inode.js';
import { frozenVolume } from './frozen-volume.js';
import { Inode } from './inode.js';
import { walkInodeBlocks } from './inode-blocks.js';
import type { Geometry } from './volume.js';

/** The inode and its extents are read once: nothing need be kept. */
const FEW_BYTES = 1 << 16;

/** The filesystem block of each log block. Throws CorruptionError for holes, duplicates, blocks out of range or of metadata. */
export function readJournalMap(device: BlockDevice, geometry: Geometry): Float64Array {
  if ((geometry.compat & COMPAT.has_journal) === 0)
    throw new UnsupportedError('the image has no journal; tune2fs -j would make one');
  const { journalInum, blockSize, blocksCount } = geometry;
  if (journalInum === 0) return readExternalJournalMap(device, geometry);
  const bad = (finding: string) => new CorruptionError('journal inode', `inode ${journalInum}`, finding);
  const volume = frozenVolume(device, geometry, FEW_BYTES);
  const inode = Inode.load(volume, journalInum);
  if (!inode.isRegular) throw bad(`i_mode is 0${inode.mode.toString(8)}, not a regular file`);
  if (inode.linksCount === 0) throw bad('it is deleted');
  if (inode.hasFlag(EXT4_INLINE_DATA_FL)) throw bad('its data is inline');
  const length = Math.floor(inode.sizeBytes / blockSize);
  if (length < 2 || length > blocksCount) throw bad(`i_size is ${inode.sizeBytes}`);

  const map = new Float64Array(length);
  const runs: { start: number; stop: number }[] = [];
  walkInodeBlocks(inode, {
    data(lblk, count, pblk, unwritten) {
      if (unwritten) throw bad(`log block ${lblk} is unwritten`);
      const inside = Math.min(count, length - lblk);
      for (let i = 0; i < inside; i++) map[lblk + i] = pblk + i;
      if (inside > 0) runs.push({ start: pblk, stop: pblk + inside });
    },
    tree() {},
  });
  const hole = map.indexOf(0);
  if (hole >= 0) throw bad(`log block ${hole} is a hole`);
  for (const { start, stop } of runs) {
    if (!blocksMayBeUsed(volume, start, stop - start)) {
      throw bad(`its blocks ${start}+${stop - start} hold metadata of the filesystem`);
    }
  }
  runs.sort((a, b) => a.start - b.start);
  for (let i = 1; i < runs.length; i++) {
    if (runs[i].start < runs[i - 1].stop) throw bad(`block ${runs[i].start} is mapped twice`);
  }
  return map;
}

/** The log as recovery reads it. Throws CorruptionError, or UnsupportedError for unknown journal features. */
export function openLogSource(
  device: BlockDevice,
  geometry: Geometry,
  blockMap = readJournalMap(device, geometry),
): LogSource {
  const bytes = new Uint8Array(1024);
  device.read(blockMap[0] * geometry.blockSize, bytes);
  return { device, superblock: new JournalSuperblock(bytes, geometry.blockSize, blockMap.length), blockMap };
}
