/**
 * What the running transaction has changed as a fast commit (ext4_fc_perform_commit): names first, an inode before the name
 * that it is created with; then of each changed file its ranges, and its inode. Everything as it is now: two changes of
 * one thing make one record.
 *
 * What it leaves out follows from the rest, or is promised to nobody: bitmaps and counts, blocks, sizes and times of
 * directories, and inodes without names, which a crash frees.
 */
import { CorruptionError, FsError } from '../errors.js';
import type { FastCommitRequest } from '../jbd2/fast-area.js';
import { mapBlock } from './block-map.js';
import { isEncrypted } from './encrypted-names.js';
import { maxExtentLength } from './extent-node.js';
import { FastCommitRecords } from './fast-commit-records.js';
import type { BlockRange, TrackedChanges } from './fast-commit-tracker.js';
import { COMPAT } from './features.js';
import { EXT_MAX_BLOCKS, EXTENT_HEADER } from './format/extent.js';
import { EXT4_VERITY_FL, GOOD_OLD_INODE_SIZE } from './format/inode.js';
import { EXT4_XATTR_MAGIC } from './format/xattr.js';
import { type Ino, Inode } from './inode.js';
import type { Volume } from './volume.js';

/** With more of them a transaction is no longer than the records. */
const MAX_INODES = 64;
const MAX_NAMES = 256;
const MAX_BLOCKS = 16;

/**
 * True if fast commits are written at all: the image has the feature, and nothing of what their replay does not
 * keep right (see fast-commit-replay.ts).
 */
export function writesFastCommits({ geometry, policy }: Pick<Volume, 'geometry' | 'policy'>): boolean {
  return (
    (geometry.compat & COMPAT.fast_commit) !== 0 &&
    geometry.quotaInums.size === 0 &&
    geometry.clusterRatio === 1 &&
    !policy.journalsData
  );
}

/** The blocks of a fast commit; empty if there is nothing to promise; null for what only a full commit can say. */
export function buildFastCommit(vol: Volume, request: FastCommitRequest): Uint8Array | null {
  if (vol.fastCommits === null) return null;
  const changes = vol.fastCommits.take(request.tid);
  if (changes.inodes.size > MAX_INODES * 2 || changes.names.length > MAX_NAMES) return null;
  try {
    return new FastCommitWriter(vol, changes, request).write();
  } catch (error) {
    // What is damaged is met again by whoever uses it.
    if (error instanceof CorruptionError || error instanceof FsError) return null;
    throw error;
  }
}

class FastCommitWriter {
  private readonly vol: Volume;
  private readonly changes: TrackedChanges;
  private readonly request: FastCommitRequest;
  private readonly records: FastCommitRecords;
  private readonly rangesDone = new Set<Ino>();

  constructor(vol: Volume, changes: TrackedChanges, request: FastCommitRequest) {
    this.vol = vol;
    this.changes = changes;
    this.request = request;
    this.records = new FastCommitRecords(request, MAX_BLOCKS);
  }

  write(): Uint8Array | null {
    const { changes, records } = this;
    const files: Inode[] = [];
    for (const ino of changes.inodes) {
      const inode = Inode.load(this.vol, ino);
      if (!isAlive(inode) || inode.isDirectory) continue;
      if (!isPlainFile(inode)) return null;
      files.push(inode);
    }
    if (files.length > MAX_INODES) return null;
    this.names();
    for (const inode of files) {
      this.ranges(inode);
      this.inode(inode);
    }
    if (!records.hasChanges && !records.full) return new Uint8Array(0);
    return records.finish(this.request.tid);
  }

  private names(): void {
    const { names } = this.changes;
    const stillborn = new Set<Ino>();
    for (const { tag, ino } of names) if (tag === 'CREAT' && !isAlive(Inode.load(this.vol, ino))) stillborn.add(ino);
    for (const change of names) {
      if (stillborn.has(change.ino)) continue;
      if (change.tag === 'CREAT') {
        const inode = Inode.load(this.vol, change.ino);
        this.inode(inode);
        this.ranges(inode);
      }
      this.records.name(change);
    }
  }

  /** The checksum in it is an old one: whoever replays it computes it anew. */
  private inode(inode: Inode): void {
    const raw = inode.block.bytes.subarray(inode.base, inode.base + GOOD_OLD_INODE_SIZE + inode.extraIsize);
    this.records.inode(inode.ino, raw as Uint8Array);
  }

  private ranges(inode: Inode): void {
    const { ino } = inode;
    if (this.rangesDone.has(ino)) return;
    this.rangesDone.add(ino);
    for (const range of this.changes.ranges.get(ino) ?? []) this.range(inode, range);
  }

  private range(inode: Inode, { from, to }: BlockRange): void {
    const { records } = this;
    const { ino } = inode;
    const end = Math.min(to, EXT_MAX_BLOCKS);
    for (let at = from; at < end && !records.full; ) {
      const { pblk, unwritten, count: mapped } = mapBlock(inode, at);
      let count = Math.min(mapped, end - at);
      if (pblk === 0) {
        records.delRange(ino, at, count);
      } else {
        count = Math.min(count, maxExtentLength(unwritten));
        records.addRange(ino, at, count, pblk, unwritten);
      }
      at += count;
    }
  }
}

function isAlive(inode: Inode): boolean {
  return inode.mode !== 0 && inode.linksCount > 0;
}

/** A file whose record its replay can take over, whoever replays it: what the kernel keeps in i_block is extents only. */
function isPlainFile(inode: Inode): boolean {
  return (
    !inode.vol.geometry.isOwnInode(inode.ino) &&
    inode.isRegular &&
    inode.usesExtents &&
    !inode.hasInlineData &&
    !inode.journalsData &&
    !inode.hasFlag(EXT4_VERITY_FL) &&
    !isEncrypted(inode)
  );
}

/**
 * A free inode is about to be used. True if what it holds would show in the new one: the kernel's replay takes over the
 * fields of a record, and leaves attributes and the root of the extents as they are.
 */
export function hasLeftovers(inode: Inode): boolean {
  const { block, base, end, iBlockBase, vol } = inode;
  const entries = EXTENT_HEADER.eh_entries.get(block.view, iBlockBase);
  const depth = EXTENT_HEADER.eh_depth.get(block.view, iBlockBase);
  if (entries !== 0 || depth !== 0) return true;
  const attributes = base + GOOD_OLD_INODE_SIZE + vol.policy.wantExtraIsize;
  return attributes + 4 <= end && block.view.getUint32(attributes, true) === EXT4_XATTR_MAGIC;
}
