/**
 * Orphans: inodes whose deletion or truncation spans more than one transaction, or that are deleted and still open. They
 * are in the orphan file where there is one, otherwise on a list chained through i_dtime from s_last_orphan. A mount
 * finishes what it finds there.
 */
import { CorruptionError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { evict } from './evict.js';
import { SUPERBLOCK } from './format/superblock.js';
import { type Ino, Inode } from './inode.js';
import { OrphanFile } from './orphan-file.js';
import { chainedOrphans } from './orphan-list.js';
import { truncateBlocks, truncateCredits } from './truncate.js';
import type { Volume } from './volume.js';

export interface OrphanReport {
  /** Unlinked inodes freed. */
  deleted: number;
  /** Linked inodes whose truncation was finished. */
  truncated: number;
}

class Orphans {
  private readonly vol: Volume;
  private readonly file: OrphanFile | null;
  /** The inodes of the chain, each with the one before it, 0 for the head; null when it has to be read again. */
  private chain: Map<Ino, Ino | 0> | null = null;

  constructor(vol: Volume) {
    this.vol = vol;
    this.file = vol.geometry.orphanFileInum === 0 ? null : new OrphanFile(vol);
  }

  get all(): Ino[] {
    return [...chainedOrphans(this.vol), ...(this.file?.inodes ?? [])];
  }

  get fileIsEmpty(): boolean {
    return this.file === null || this.file.inodes.length === 0;
  }

  add(handle: Handle, inode: Inode): void {
    const { ino } = inode;
    const { before } = this;
    if (this.file?.has(ino) || before.has(ino)) return;
    if (this.file?.add(handle, ino)) return;
    const { head } = this;
    inode.edit(handle).setDtime(head);
    this.setHead(handle, ino);
    before.set(ino, 0);
    if (head !== 0) before.set(head, ino);
    this.forgetOnRollback(handle);
  }

  remove(handle: Handle, inode: Inode): void {
    const { ino } = inode;
    if (this.file?.has(ino)) {
      this.file.remove(handle, ino);
      return;
    }
    const { before } = this;
    const previous = before.get(ino);
    if (previous === undefined) return;
    const next = inode.nextOrphan;
    if (previous === 0) this.setHead(handle, next);
    else Inode.load(this.vol, previous).edit(handle).setDtime(next);
    inode.edit(handle).setDtime(0);
    before.delete(ino);
    if (next !== 0) before.set(next, previous);
    this.forgetOnRollback(handle);
  }

  /** A chain that cannot be followed is cut off, as the kernel does: e2fsck finds what is lost. */
  cutChain(): void {
    this.vol.journal.run(1, (handle) => this.setHead(handle, 0));
    this.chain = new Map();
  }

  private get before(): Map<Ino, Ino | 0> {
    if (this.chain === null) {
      const inodes = chainedOrphans(this.vol);
      this.chain = new Map(inodes.map((ino, i) => [ino, i === 0 ? 0 : inodes[i - 1]]));
    }
    return this.chain;
  }

  private get head(): Ino | 0 {
    return SUPERBLOCK.s_last_orphan.get(this.vol.superblock().view, this.vol.geometry.superblockOffset);
  }

  private forgetOnRollback(handle: Handle): void {
    handle.onRollback(() => {
      this.chain = null;
    });
  }

  private setHead(handle: Handle, ino: Ino): void {
    const block = handle.getWriteAccess(this.vol.superblock());
    SUPERBLOCK.s_last_orphan.set(block.view, this.vol.geometry.superblockOffset, ino);
    handle.dirtyMetadata(block);
  }
}

const states = new WeakMap<Volume, Orphans>();

function orphansOf(vol: Volume): Orphans {
  let state = states.get(vol);
  if (state === undefined) {
    state = new Orphans(vol);
    states.set(vol, state);
  }
  return state;
}

/** Records that this inode has work left (ext4_orphan_add). Does nothing if it is recorded already. */
export function addOrphan(handle: Handle, inode: Inode): void {
  orphansOf(inode.vol).add(handle, inode);
}

/** The work is done (ext4_orphan_del). Does nothing if it is not recorded. */
export function removeOrphan(handle: Handle, inode: Inode): void {
  orphansOf(inode.vol).remove(handle, inode);
}

/** True if the orphan file holds nothing, or there is none: orphan_present can be cleared. */
export function orphanFileIsEmpty(vol: Volume): boolean {
  return orphansOf(vol).fileIsEmpty;
}

/**
 * Finishes every deletion and truncation that was under way (ext4_orphan_cleanup). Each inode is done in transactions of
 * its own and leaves the record with the last of them, so that a crash here is repaired by the next mount.
 */
export function processOrphans(
  vol: Volume,
  progress?: (what: string, done: number, total: number) => void,
): OrphanReport {
  const report: OrphanReport = { deleted: 0, truncated: 0 };
  const state = orphansOf(vol);
  let inodes: Ino[];
  try {
    inodes = state.all;
  } catch (error) {
    if (!(error instanceof CorruptionError)) throw error;
    vol.reportCorruption(error);
    state.cutChain();
    inodes = state.all;
  }
  inodes.forEach((ino, i) => {
    progress?.('orphans', i, inodes.length);
    try {
      finish(vol, ino, report);
    } catch (error) {
      // It stays recorded, for e2fsck: one damaged file does not keep the others from being mounted.
      if (!(error instanceof CorruptionError)) throw error;
      vol.reportCorruption(error);
    }
  });
  return report;
}

function finish(vol: Volume, ino: Ino, report: OrphanReport): void {
  const inode = Inode.load(vol, ino);
  if (inode.mode === 0 || vol.geometry.isOwnInode(ino)) {
    vol.reportCorruption(new CorruptionError('orphan list', `inode ${ino}`, 'the inode is free or reserved'));
    vol.journal.run(4, (handle) => removeOrphan(handle, inode));
  } else if (inode.linksCount === 0) {
    evict(vol, ino);
    report.deleted++;
  } else {
    vol.journal.run(truncateCredits(inode), (handle) => {
      if (inode.isRegular) truncateBlocks(handle, inode);
      removeOrphan(handle, Inode.load(vol, ino));
    });
    report.truncated++;
  }
}
