/**
 * Blocks of files as fast commits say them: which are mapped where, and what that makes of the bitmaps, which fast
 * commits do not hold. A block may go from one file to another, and the records may say that it came before they say that
 * it went: so nothing is free before all has been replayed. In order:
 *
 *   1. claim: every cluster that a record maps, and that is free, is taken, so that no tree or directory gets it;
 *   2. mapRange, unmapRange, letGo: maps change, bitmaps do not;
 *   3. settle: what was claimed or let go, and is mapped by none of the files, becomes free (ext4_fc_set_bitmaps_and_counters).
 *
 * What becomes used or free is whole clusters; without bigalloc those are blocks.
 */
import { CorruptionError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { claimBlocks, freeBlocks, type Run } from './block-alloc.js';
import { mapBlock, maxFileBytes } from './block-map.js';
import { EXTENT_CREDITS } from './extent-edit.js';
import { convertUnwritten, convertWritten, insertExtent } from './extent-insert.js';
import { creditsForExtent, removeExtents } from './extent-remove.js';
import { type FileBlocks, fileBlocks } from './fast-commit-file-blocks.js';
import { EXT_MAX_BLOCKS } from './format/extent.js';
import { makeTable, removeMapped, setPointers } from './indirect-edit.js';
import { type Ino, Inode } from './inode.js';
import { addOrphan } from './orphan.js';
import { firstShared, joinRuns, subtractRuns } from './run-sets.js';
import type { Volume } from './volume.js';
import { valueBlocks } from './xattr.js';

export interface MappedRange {
  readonly lblk: number;
  readonly count: number;
  readonly pblk: number;
  readonly unwritten: boolean;
}

export class FastCommitBlocks {
  private readonly vol: Volume;
  private readonly claimed: Run[] = [];
  /** Mapped before, by files that fast commits changed, and unmapped meanwhile. */
  private readonly released: Run[] = [];
  /** Mapped where they were not mapped before. */
  private readonly inserted: Run[] = [];
  /** With bigalloc, mapped by files before fast commits changed their maps: more blocks of such a cluster are no new ones. */
  private readonly owned: Run[] = [];
  /** Files whose map may have changed, and is in `owned`. */
  private readonly noted = new Set<Ino>();
  /** Files whose map or size may have changed. */
  private readonly changed = new Set<Ino>();

  constructor(vol: Volume) {
    this.vol = vol;
  }

  claim(pblk: number, count: number): void {
    this.vol.journal.run(this.creditsFor(count), (handle) =>
      claimBlocks(handle, this.vol, pblk, count, (start, length) => this.claimed.push({ start, count: length })),
    );
  }

  noteChanged(ino: Ino): void {
    this.changed.add(ino);
  }

  /** The file is gone: its number may be another's from now on. */
  forget(ino: Ino): void {
    this.changed.delete(ino);
    this.noted.delete(ino);
  }

  /** Maps the range, whatever was there (ext4_fc_replay_add_range). */
  mapRange(ino: Ino, { lblk, count, pblk, unwritten }: MappedRange): void {
    const { vol } = this;
    const end = lblk + count;
    const { usesExtents } = this.file(ino);
    if (end * vol.geometry.blockSize > maxFileBytes(this.file(ino)))
      throw this.corrupt(ino, `blocks ${lblk}+${count} are beyond what can be mapped`);
    if (unwritten && !usesExtents) throw this.corrupt(ino, 'a block map has no unwritten blocks');
    this.changed.add(ino);
    if (vol.geometry.clusterRatio > 1) {
      this.noteOwned(ino);
      this.leaveOldClusters(ino, lblk, end, pblk - lblk);
    }
    for (let at = lblk; at < end; ) {
      const mapping = mapBlock(this.file(ino), at);
      let length = Math.min(mapping.count, end - at);
      const target = pblk + (at - lblk);
      const from = at;
      vol.journal.run(this.creditsFor(length), (handle) => {
        if (mapping.pblk === target) {
          if (mapping.unwritten === unwritten) return;
          const convert = unwritten
            ? convertWritten
            : (h: Handle, i: Inode, l: number, c: number) => convertUnwritten(h, i, l, c, -1);
          convert(handle, this.file(ino), from, length);
          return;
        }
        if (mapping.pblk !== 0) this.unmap(handle, this.file(ino), from, from + length);
        handle.ensureCredits(EXTENT_CREDITS);
        if (usesExtents) {
          insertExtent(handle, this.file(ino), from, target, length, unwritten, length, true);
        } else {
          makeTable(handle, this.file(ino), from);
          // As far as that table goes.
          length = Math.min(length, mapBlock(this.file(ino), from).count);
          setPointers(handle, this.file(ino), from, target, length);
        }
        this.inserted.push(this.clusters(target, length));
      });
      at += length;
    }
  }

  private noteOwned(ino: Ino): void {
    if (this.noted.has(ino)) return;
    this.noted.add(ino);
    this.owned.push(...fileBlocks(this.file(ino)).data);
  }

  /**
   * What is mapped to other clusters than those that the range goes to has gone, even if the records say so only later:
   * no tree is read in which a cluster of the file lies in two places.
   */
  private leaveOldClusters(ino: Ino, lblk: number, end: number, distance: number): void {
    const { geometry } = this.vol;
    const stop = geometry.clustersFor(end) * geometry.clusterRatio;
    for (let at = geometry.clusterStart(lblk); at < stop; ) {
      const mapping = mapBlock(this.file(ino), at);
      const next = Math.min(stop, at + mapping.count);
      if (mapping.pblk !== 0 && mapping.pblk !== at + distance) this.unmapRange(ino, at, next - at);
      at = next;
    }
  }

  private clusters(start: number, count: number): Run {
    const { geometry } = this.vol;
    const from = geometry.clusterStart(start);
    return { start: from, count: geometry.clustersFor(start + count) * geometry.clusterRatio - from };
  }

  /** Unmaps what is mapped in the range (ext4_fc_replay_del_range). */
  unmapRange(ino: Ino, lblk: number, count: number): void {
    this.changed.add(ino);
    const inode = this.file(ino);
    this.vol.journal.run(creditsForExtent(inode), (handle) =>
      this.unmap(handle, inode, lblk, Math.min(lblk + count, EXT_MAX_BLOCKS)),
    );
  }

  /** Takes the range out of the map; its blocks become free when all is settled. */
  unmap(handle: Handle, inode: Inode, fromLblk: number, toLblk: number): void {
    if (inode.usesExtents)
      removeExtents(handle, inode, fromLblk, toLblk, (_h, _i, _lblk, pblk, count) => this.letGo(pblk, count));
    else removeMapped(handle, inode, fromLblk, toLblk, (_h, _i, pblk, count) => this.letGo(pblk, count));
  }

  private letGo(start: number, count: number): number {
    this.released.push(this.clusters(start, count));
    return count;
  }

  /**
   * The bitmaps follow, and i_blocks of every file that changed. `makeRoom` frees deleted files that still hold blocks,
   * and is asked only if another file has got some of them. Throws CorruptionError for a block that two files have.
   */
  settle(makeRoom: () => void): void {
    if (this.takenFromOthers().length > 0) makeRoom();
    const [stolen] = this.takenFromOthers();
    if (stolen !== undefined) {
      throw new CorruptionError('fast commit', `block ${stolen.start}`, 'it is given to a file and belongs to another');
    }
    const mapped: Run[] = [];
    // Block maps are walked on the device.
    this.vol.journal.flushAll();
    for (const ino of this.changed) {
      const inode = Inode.load(this.vol, ino);
      if (!inode.isRegular) continue;
      const blocks = fileBlocks(inode);
      for (const run of blocks.data) mapped.push(run);
      this.correct(inode, blocks);
    }
    const shared = firstShared(mapped);
    if (shared >= 0) throw new CorruptionError('fast commit', `block ${shared}`, 'two files have it');
    const free = subtractRuns(joinRuns([...this.claimed, ...this.released]), joinRuns(mapped));
    for (const { start, count } of free) {
      this.vol.journal.run(this.creditsFor(count), (handle) =>
        freeBlocks(handle, this.vol, start, count, { metadata: false }),
      );
    }
  }

  /** Blocks that files got, that were in use before, and that no file let go of. */
  private takenFromOthers(): Run[] {
    return subtractRuns(joinRuns(this.inserted), joinRuns([...this.claimed, ...this.released, ...this.owned]));
  }

  /** i_blocks is not what it was: the tree may be another. A truncate that was under way is left to orphan processing. */
  private correct(inode: Inode, { blocks, writtenEnd }: FileBlocks): void {
    const { blockSize, clusterRatio } = this.vol.geometry;
    const attributes = (inode.fileAcl === 0 ? 0 : clusterRatio) + valueBlocks(inode);
    const sectors = (blocks + attributes) * (blockSize / 512);
    const endsBeyondSize = writtenEnd * blockSize >= inode.sizeBytes + blockSize;
    if (sectors === inode.sectors && !endsBeyondSize) return;
    this.vol.journal.run(8, (handle) => {
      inode.edit(handle).correctSectors(sectors);
      if (endsBeyondSize) addOrphan(handle, inode);
    });
  }

  private file(ino: Ino): Inode {
    return Inode.load(this.vol, ino);
  }

  private creditsFor(count: number): number {
    return EXTENT_CREDITS + 2 * (Math.ceil(count / this.vol.geometry.blocksPerGroup) + 1);
  }

  private corrupt(ino: Ino, finding: string): CorruptionError {
    return new CorruptionError('fast commit', `inode ${ino}`, finding);
  }
}
