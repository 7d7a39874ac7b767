/** A replay of ours against debugfs' journal_run: every block but the journal's, and of superblocks what is not bookkeeping. */
import { readFileSync } from 'node:fs';
import { MemoryDevice } from '../../src/block/memory-device.js';
import { SUPERBLOCK } from '../../src/ext4/format/superblock.js';
import { readJournalMap } from '../../src/ext4/journal-inode.js';
import { readGeometry } from '../../src/ext4/open.js';
import { run } from './mke2fs.js';

/** Times, counters, and the checksum over them. */
const BOOKKEEPING = [
  SUPERBLOCK.s_free_blocks_count_lo,
  SUPERBLOCK.s_free_inodes_count,
  SUPERBLOCK.s_mtime,
  SUPERBLOCK.s_wtime,
  SUPERBLOCK.s_mnt_count,
  SUPERBLOCK.s_lastcheck,
  SUPERBLOCK.s_free_blocks_count_hi,
  SUPERBLOCK.s_kbytes_written,
  SUPERBLOCK.s_checksum,
];

/**
 * Runs debugfs' journal_run on the image file; -n, because it reads the bitmaps first, which may match their checksums
 * only after the replay.
 */
export function journalRun(path: string): void {
  const { code, output } = run('debugfs', ['-n', '-w', '-R', 'journal_run', path]);
  if (code !== 0 || /while/.test(output)) throw new Error(`debugfs journal_run: ${output}`);
}

/** Blocks of the two image files that differ. Where the journal is, which is left out, `before` says: the image unrecovered. */
export function differingBlocks(ours: string, theirs: string, before = ours): number[] {
  const a = readFileSync(ours);
  const b = readFileSync(theirs);
  const device = new MemoryDevice(before === ours ? a : readFileSync(before));
  const geometry = readGeometry(device);
  const { blockSize } = geometry;
  const skipped = new Set(geometry.journalInum === 0 ? [] : readJournalMap(device, geometry));
  for (const image of [a, b]) {
    for (let group = 0; group < geometry.groupCount; group++) {
      if (!geometry.groupHasSuper(group)) continue;
      const at = group === 0 ? 1024 : geometry.groupFirstBlock(group) * blockSize;
      for (const { offset, size } of BOOKKEEPING) image.fill(0, at + offset, at + offset + size);
    }
  }
  const different: number[] = [];
  for (let block = 0; block < geometry.blocksCount; block++) {
    const [start, end] = [block * blockSize, (block + 1) * blockSize];
    if (!skipped.has(block) && a.compare(b, start, end, start, end) !== 0) different.push(block);
  }
  return different;
}
