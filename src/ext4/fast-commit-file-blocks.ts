/** What the map of a file comes to once fast commits have changed it: the clusters that it holds, and how many blocks it is charged. */
import { CorruptionError } from '../errors.js';
import type { Run } from './block-alloc.js';
import { ExtentNode } from './extent-node.js';
import { EXT_MAX_BLOCKS } from './format/extent.js';
import type { Inode } from './inode.js';
import { walkInodeBlocks } from './inode-blocks.js';

export interface FileBlocks {
  /** Whole clusters, each once. */
  readonly data: readonly Run[];
  /** Blocks of those clusters and of the clusters that the map itself takes. */
  readonly blocks: number;
  /** Logical block behind the last one that is written. */
  readonly writtenEnd: number;
}

/** Throws CorruptionError for a map that contradicts itself, or that tears clusters apart. */
export function fileBlocks(inode: Inode): FileBlocks {
  const found = new Found(inode);
  if (inode.hasInlineData) return found;
  if (inode.usesExtents) walkExtents(inode, found);
  else
    walkInodeBlocks(inode, {
      data: (lblk, count, pblk) => found.addData(lblk, count, pblk, false),
      tree: () => found.addTree(),
    });
  return found;
}

class Found implements FileBlocks {
  readonly data: Run[] = [];
  blocks = 0;
  writtenEnd = 0;
  private readonly inode: Inode;
  /** First logical block of the clusters behind those that were counted, and the last cluster on disk. */
  private nextCluster = 0;
  private lastCluster = -1;

  constructor(inode: Inode) {
    this.inode = inode;
  }

  addTree(): void {
    this.blocks += this.inode.vol.geometry.clusterRatio;
  }

  addData(lblk: number, count: number, pblk: number, unwritten: boolean): void {
    const { geometry } = this.inode.vol;
    const { clusterRatio } = geometry;
    if (!unwritten) this.writtenEnd = lblk + count;
    let from = geometry.clusterStart(lblk);
    let start = geometry.clusterStart(pblk);
    const beginsInLast = from < this.nextCluster;
    if (lblk % clusterRatio !== pblk % clusterRatio || (beginsInLast && start !== this.lastCluster))
      throw new CorruptionError('fast commit', `inode ${this.inode.ino}`, `block ${lblk} is not where its cluster is`);
    this.nextCluster = geometry.clusterStart(lblk + count - 1) + clusterRatio;
    this.lastCluster = geometry.clusterStart(pblk + count - 1);
    if (beginsInLast) {
      from += clusterRatio;
      start += clusterRatio;
    }
    if (from >= this.nextCluster) return;
    this.data.push({ start, count: this.nextCluster - from });
    this.blocks += this.nextCluster - from;
  }
}

/** Through the cache, where changes are that are not on the device yet. */
function walkExtents(inode: Inode, found: Found): void {
  const { seed } = inode;
  const walk = (node: ExtentNode, endLblk: number): void => {
    for (let i = 0; i < node.entries; i++) {
      if (node.depth === 0) {
        found.addData(node.lblk(i), node.count(i), node.pblk(i), node.unwritten(i));
        continue;
      }
      found.addTree();
      const childEnd = i + 1 < node.entries ? node.lblk(i + 1) : endLblk;
      walk(node.child(inode, seed, i, childEnd), childEnd);
    }
  };
  walk(ExtentNode.root(inode), EXT_MAX_BLOCKS);
}
