/** Telling the device which blocks are free (FITRIM, and the mount option discard). */
import { FsError } from '../errors.js';
import { allocatorState } from './alloc-state.js';
import { type ClearRun, clearRunAt, findClearRun } from './bitmap.js';
import { peekBlockBitmap } from './block-bitmap.js';
import { GroupDescriptor } from './group.js';
import type { Volume } from './volume.js';

/**
 * Discards the free runs of at least `minimumBytes` that begin in [startBytes, startBytes + lengthBytes). Blocks freed by a
 * transaction that has not committed are left alone: a crash gives them back to their files. Returns how many bytes that was. Throws FsError (EINVAL as ext4_trim_fs), CorruptionError.
 */
export function trimFree(vol: Volume, startBytes: number, lengthBytes: number, minimumBytes: number): number {
  const { geometry, device } = vol;
  const { blockSize, clusterRatio } = geometry;
  const first = Math.max(geometry.firstDataBlock, Math.ceil(startBytes / blockSize));
  const stop = Math.min(geometry.blocksCount, Math.floor((startBytes + lengthBytes) / blockSize));
  const minimum = Math.max(1, Math.ceil(minimumBytes / blockSize));
  if (startBytes >= geometry.blocksCount * blockSize || lengthBytes < blockSize || minimum > geometry.blocksPerGroup)
    throw new FsError('EINVAL', 'nothing of the filesystem is in that range');
  const run: ClearRun = { start: 0, length: 0, firstClear: 0 };
  let trimmed = 0;
  for (let group = geometry.groupOf(first); group < geometry.groupCount; group++) {
    const groupStart = geometry.groupFirstBlock(group);
    if (groupStart >= stop) break;
    const desc = GroupDescriptor.get(vol, group);
    const { view } = peekBlockBitmap(vol, desc);
    const held = allocatorState(vol).heldIn(group);
    // Whole clusters only.
    const end = Math.floor(Math.min(geometry.groupBlocks(group), stop - groupStart) / clusterRatio);
    for (let bit = geometry.clustersFor(Math.max(0, first - groupStart)); bit < end; ) {
      if (!findClearRun(view, held, bit, end, 1, run)) break;
      const clusters = clearRunAt(view, held, run.start, end - run.start);
      const length = clusters * clusterRatio;
      if (length >= minimum) {
        device.discard?.(geometry.blockOfBit(group, run.start) * blockSize, length * blockSize);
        trimmed += length * blockSize;
      }
      bit = run.start + clusters;
    }
  }
  return trimmed;
}
