/**
 * What the running transaction has changed since its last fast commit, in the words of fast commits: names in the order in
 * which they changed, inodes, and ranges of their blocks. Inodes and ranges are noted where they are changed, whoever
 * does it; names by the operations on them. Whether that is all that a handle did is for the handle to say
 * (`inFastCommits` of Journal.run): what says nothing is committed as a whole.
 */
import type { Handle } from '../jbd2/handle.js';
import type { Tid } from '../jbd2/tid.js';
import { foldsCase } from './dir-name.js';
import { isEncrypted } from './encrypted-names.js';
import type { Ino, Inode } from './inode.js';

export interface NameChange {
  readonly tag: 'CREAT' | 'LINK' | 'UNLINK';
  readonly parent: Ino;
  readonly ino: Ino;
  readonly name: Uint8Array;
}

/** Logical blocks [from, to). */
export interface BlockRange {
  from: number;
  to: number;
}

export interface TrackedChanges {
  readonly names: readonly NameChange[];
  /** In the order in which they were first changed. */
  readonly inodes: ReadonlySet<Ino>;
  readonly ranges: ReadonlyMap<Ino, readonly BlockRange[]>;
}

/** More ranges of a file than this become one that holds them all. */
const MAX_RANGES = 32;

export class FastCommitTracker {
  private tid: Tid | null = null;
  private names: NameChange[] = [];
  private inodes = new Set<Ino>();
  private ranges = new Map<Ino, BlockRange[]>();

  noteInode(ino: Ino, tid: Tid): void {
    this.turnTo(tid);
    this.inodes.add(ino);
  }

  /** The mapping of these blocks has changed, or their state. */
  noteRange(ino: Ino, tid: Tid, lblk: number, count: number): void {
    this.noteInode(ino, tid);
    const known = this.ranges.get(ino);
    if (known === undefined) this.ranges.set(ino, [{ from: lblk, to: lblk + count }]);
    else addRange(known, lblk, lblk + count);
  }

  /** An entry of `dir` was added or removed. */
  noteName(handle: Handle, tag: NameChange['tag'], dir: Inode, name: Uint8Array, ino: Ino): void {
    // Whoever replays them may know neither keys nor how to fold.
    if (isEncrypted(dir) || foldsCase(dir)) {
      handle.refuseFastCommit();
      return;
    }
    this.turnTo(handle.transaction.tid);
    const change = { tag, parent: dir.ino, ino, name: name.slice() };
    this.names.push(change);
    handle.onRollback(() => {
      if (this.names[this.names.length - 1] === change) this.names.pop();
    });
  }

  /** What was noted of transaction `tid`, which begins anew. */
  take(tid: Tid): TrackedChanges {
    this.turnTo(tid);
    const { names, inodes, ranges } = this;
    this.forget();
    return { names, inodes, ranges };
  }

  private turnTo(tid: Tid): void {
    if (this.tid === tid) return;
    this.forget();
    this.tid = tid;
  }

  private forget(): void {
    this.names = [];
    this.inodes = new Set();
    this.ranges = new Map();
  }
}

/** `ranges` stay sorted and apart. */
function addRange(ranges: BlockRange[], from: number, to: number): void {
  let first = 0;
  while (first < ranges.length && ranges[first].to < from) first++;
  let end = first;
  const joined = { from, to };
  while (end < ranges.length && ranges[end].from <= to) {
    joined.from = Math.min(joined.from, ranges[end].from);
    joined.to = Math.max(joined.to, ranges[end].to);
    end++;
  }
  ranges.splice(first, end - first, joined);
  if (ranges.length > MAX_RANGES)
    ranges.splice(0, ranges.length, { from: ranges[0].from, to: ranges[ranges.length - 1].to });
}
