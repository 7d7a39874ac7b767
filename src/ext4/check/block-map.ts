/** Which blocks are in use, as found by looking at everything that uses one; compared with the bitmaps at the end. */
import { CorruptionError } from '../../errors.js';
import { fillWords } from '../bitmap.js';
import { isBlockUninit, readBlockBitmap } from '../block-bitmap.js';
import { baseMetaBlocks } from '../block-validity.js';
import { INCOMPAT } from '../features.js';
import { GroupDescriptor } from '../group.js';
import type { Volume } from '../volume.js';
import type { Findings } from './findings.js';

/** At most so many single blocks are named for one group. */
const NAMED_BLOCKS = 4;

export class BlockMap {
  private readonly vol: Volume;
  private readonly findings: Findings;
  private readonly used: Uint32Array;
  private readonly first: number;

  constructor(vol: Volume, findings: Findings) {
    this.vol = vol;
    this.findings = findings;
    this.first = vol.geometry.firstDataBlock;
    this.used = new Uint32Array(Math.ceil((vol.geometry.blocksCount - this.first) / 32) + 1);
  }

  has(block: number): boolean {
    const bit = block - this.first;
    return (this.used[bit >>> 5] & (1 << (bit & 31))) !== 0;
  }

  /** `who` uses the clusters of these blocks, and nobody else may. They lie inside the filesystem. */
  claim(start: number, count: number, who: () => string): void {
    const { geometry } = this.vol;
    const from = geometry.clusterStart(start);
    const stop = geometry.clustersFor(start + count) * geometry.clusterRatio;
    this.claimBlocks(from, Math.min(stop, geometry.blocksCount) - from, who);
  }

  private claimBlocks(start: number, count: number, who: () => string): void {
    for (let block = start; block < start + count; block++) {
      if (!this.has(block)) continue;
      this.findings.add('block', `block ${block}`, `used twice, the second time by ${who()}`);
      break;
    }
    fillWords(this.used, start - this.first, count, true);
  }

  /** Superblocks, descriptors and their reserve, bitmaps, inode tables. These may share clusters with each other. */
  claimFixed(): void {
    this.claimFixedBlocks();
    const { incompat, mmpBlock, blocksCount, clusterRatio } = this.vol.geometry;
    if ((incompat & INCOMPAT.mmp) !== 0 && mmpBlock > this.first && mmpBlock < blocksCount) {
      this.claimBlocks(mmpBlock, 1, () => 'multiple mount protection');
    }
    if (clusterRatio === 1) return;
    for (let start = this.first; start < blocksCount; start += clusterRatio) {
      const length = Math.min(clusterRatio, blocksCount - start);
      if (this.anyOf(start, length)) fillWords(this.used, start - this.first, length, true);
    }
  }

  private anyOf(start: number, count: number): boolean {
    for (let block = start; block < start + count; block++) if (this.has(block)) return true;
    return false;
  }

  private claimFixedBlocks(): void {
    const { geometry } = this.vol;
    for (let group = 0; group < geometry.groupCount; group++) {
      const base = baseMetaBlocks(this.vol, group);
      if (base > 0) {
        const start = geometry.groupFirstBlock(group);
        this.claimBlocks(
          start,
          Math.min(base, geometry.blocksCount - start),
          () => `the descriptors of group ${group}`,
        );
      }
      this.findings.collect(() => {
        const desc = GroupDescriptor.get(this.vol, group);
        this.claimBlocks(desc.blockBitmap, 1, () => `the block bitmap of group ${group}`);
        this.claimBlocks(desc.inodeBitmap, 1, () => `the inode bitmap of group ${group}`);
        this.claimBlocks(desc.inodeTable, geometry.inodeTableBlocks, () => `the inode table of group ${group}`);
      });
    }
  }

  /** Compares with the bitmap and the free count of each group. Returns the free blocks of the filesystem. */
  compare(): number {
    const { geometry } = this.vol;
    let free = 0;
    for (let group = 0; group < geometry.groupCount; group++) {
      this.findings.collect(() => {
        const desc = GroupDescriptor.get(this.vol, group);
        const unused = this.compareGroup(desc);
        free += unused * geometry.clusterRatio;
        if (unused !== desc.freeClusters) {
          this.findings.add(
            'group descriptor',
            `group ${group}`,
            `${desc.freeClusters} ${geometry.clusterRatio > 1 ? 'clusters' : 'blocks'} free, found ${unused}`,
          );
        }
      });
    }
    return free;
  }

  /** Returns the unused clusters. */
  private compareGroup(desc: GroupDescriptor): number {
    const { geometry } = this.vol;
    const clusters = geometry.groupClusters(desc.group);
    const view = isBlockUninit(this.vol, desc) ? null : readBlockBitmap(this.vol, desc).view;
    let unused = 0;
    let named = 0;
    for (let i = 0; i < clusters; i++) {
      const block = geometry.blockOfBit(desc.group, i);
      const used = this.has(block);
      if (!used) unused++;
      if (view === null || ((view.getUint8(i >>> 3) >>> (i & 7)) & 1) === (used ? 1 : 0)) continue;
      if (++named > NAMED_BLOCKS) continue;
      const finding = used ? 'in use, but marked free' : 'marked in use, but nobody uses it';
      this.findings.list.push(new CorruptionError('block bitmap', `group ${desc.group} block ${block}`, finding));
    }
    return unused;
  }
}
