/**
 * Replay of fast commits (ext4_fc_replay): names, inodes and ranges, in the order in which they were recorded, applied
 * through the engine to a volume in memory. What fast commits do not hold follows from what they do: bitmaps, counts,
 * the links of directories, the entries "." and "..", what quotas count.
 *
 * A record may be about an inode that is gone by the end, or that had no name yet: the kernel drops the creation of
 * what was deleted again, and keeps the rest. So names of inodes that are not there are passed over.
 */
import type { OverlayDevice } from '../block/overlay-device.js';
import { CorruptionError, type FsError, UnsupportedError } from '../errors.js';
import { BlockRuns } from '../jbd2/block-runs.js';
import type { LogSource } from '../jbd2/log-walker.js';
import { allocatorState } from './alloc-state.js';
import { addEntry, DIR_ENTRY_CREDITS, entryIno, findEntry, initDirectory, isEmpty, removeEntry } from './dir.js';
import { type FastCommitRecord, type FastCommits, fastCommitRecords } from './fast-commit-area.js';
import { FastCommitBlocks } from './fast-commit-blocks.js';
import { discardInode, isSameInode, readRecorded, replayInode } from './fast-commit-inode.js';
import { describeFeatures } from './features.js';
import { EXT4_ROOT_INO } from './format/inode.js';
import { directVolume } from './frozen-volume.js';
import { type Ino, Inode, type WritableInode } from './inode.js';
import { isInodeTaken } from './inode-alloc.js';
import { countSubdirectory, NEW_INODE_CREDITS } from './namei.js';
import { addOrphan, removeOrphan } from './orphan.js';
import { chainedOrphans, filedOrphans } from './orphan-list.js';
import { Quotas } from './quota/quotas.js';
import { totals } from './totals.js';
import type { Environment, Geometry, Timestamp, Volume } from './volume.js';

type NameRecord = Extract<FastCommitRecord, { parent: Ino }>;
type InodeRecord = Extract<FastCommitRecord, { raw: Uint8Array }>;
type RangeRecord = Extract<FastCommitRecord, { lblk: number }>;

/**
 * Applies the fast commits found by scanFastCommits to `device`, on which the log has been replayed. Throws CorruptionError
 * for records that contradict what is there, UnsupportedError; FsError from the device. Nothing but `device` is written.
 */
export function replayFastCommits(
  device: OverlayDevice,
  geometry: Geometry,
  source: LogSource,
  found: FastCommits,
  env: Environment,
): void {
  refuseReadOnlyFeatures(geometry);
  const records: { record: FastCommitRecord; commit: number }[] = [];
  let commit = 0;
  for (const { record } of fastCommitRecords(source, geometry.inodeSize)) {
    records.push({ record, commit });
    if (record.tag === 'TAIL') commit++;
    if (records.length === found.records) break;
  }
  const ownQuotas = new Set(geometry.quotaInums.values());
  // The kernel records quota files like others, but not their content: here they are counted.
  const wanted = records.filter(({ record }) => !('ino' in record && ownQuotas.has(record.ino)));
  const newest = newestChange(records.map(({ record }) => record));
  const vol = directVolume(device, geometry, newest === null ? env : { ...env, now: () => newest }, {
    log: new BlockRuns(source.blockMap),
  });
  const { journal } = vol;
  totals(vol);
  if (geometry.quotaInums.size > 0) {
    vol.quotas = new Quotas(vol);
    journal.extraCredits = vol.quotas.credits;
  }
  allocatorState(vol).ignoresReserves = true;
  new FastCommitReplay(vol, wanted).run();
  journal.flushAll();
  const failure: FsError | null = journal.aborted;
  if (failure !== null) throw failure;
}

function refuseReadOnlyFeatures({ compat, incompat, roCompat }: Geometry): void {
  const names = [
    ...describeFeatures('compat', compat),
    ...describeFeatures('incompat', incompat),
    ...describeFeatures('ro_compat', roCompat),
  ]
    .filter(({ support }) => support !== 'rw')
    .map(({ name }) => name);
  if (names.length === 0) return;
  throw new UnsupportedError(
    `fast commits cannot be replayed on a filesystem that is supported for reading only (${names.join(', ')}): run e2fsck`,
    names,
  );
}

/** The time of what is replayed: replaying again must lead to the same, whenever that is. */
function newestChange(records: readonly FastCommitRecord[]): Timestamp | null {
  let newest: Timestamp | null = null;
  for (const record of records) {
    if (record.tag !== 'INODE') continue;
    const { ctime } = readRecorded(record.raw);
    if (newest === null || isLater(ctime, newest)) newest = ctime;
  }
  return newest;
}

function isLater(a: Timestamp, b: Timestamp): boolean {
  return a.seconds > b.seconds || (a.seconds === b.seconds && a.nanoseconds > b.nanoseconds);
}

class FastCommitReplay {
  private readonly vol: Volume;
  private readonly records: readonly { readonly record: FastCommitRecord; readonly commit: number }[];
  private readonly blocks: FastCommitBlocks;
  /** Where the inodes of each commit are recorded, by commit and number, in order. */
  private readonly recorded = new Map<string, number[]>();
  /** Directories that have, in the middle of a rename, a second name. */
  private readonly secondNames = new Map<Ino, number>();
  private position = 0;

  constructor(vol: Volume, records: readonly { readonly record: FastCommitRecord; readonly commit: number }[]) {
    this.vol = vol;
    this.records = records;
    this.blocks = new FastCommitBlocks(vol);
  }

  run(): void {
    this.records.forEach(({ record, commit }, position) => {
      if (record.tag !== 'INODE') return;
      const key = `${commit}/${record.ino}`;
      const places = this.recorded.get(key);
      if (places === undefined) this.recorded.set(key, [position]);
      else places.push(position);
    });
    this.records.forEach(({ record }, position) => {
      if (record.tag !== 'ADD_RANGE' || record.count === 0 || this.isInline(record.ino, position)) return;
      this.blocks.claim(record.pblk, record.count);
    });
    for (; this.position < this.records.length; this.position++) this.replay(this.records[this.position].record);
    this.blocks.settle(() => this.discardDeleted());
  }

  private replay(record: FastCommitRecord): void {
    switch (record.tag) {
      case 'CREAT':
        this.create(record);
        break;
      case 'LINK':
        this.link(record);
        break;
      case 'UNLINK':
        this.unlink(record);
        break;
      case 'INODE':
        this.checkNumber(record.ino);
        replayInode(this.vol, this.blocks, record.ino, record.raw);
        break;
      case 'ADD_RANGE':
      case 'DEL_RANGE':
        this.range(record);
        break;
    }
  }

  /** The inode has been recorded just before (ext4_fc_replay_create). */
  private create(record: NameRecord): void {
    const { vol } = this;
    const { ino, parent, name } = record;
    this.checkNumber(ino);
    const inode = Inode.load(vol, ino);
    if (!isInodeTaken(vol, ino) || inode.mode === 0)
      throw this.corrupt(record, 'the inode that is created has not been recorded');
    const dir = this.directory(parent);
    if (dir === null) return;
    vol.journal.run(2 * DIR_ENTRY_CREDITS + NEW_INODE_CREDITS, (handle) => {
      const known = findEntry(vol, dir, name);
      if (known !== null && entryIno(known) !== ino)
        throw this.corrupt(record, `the name is that of inode ${entryIno(known)}`);
      const writable = inode.edit(handle);
      // The record is of later, when it may have lost all names again.
      if (inode.linksCount === 0) removeOrphan(handle, inode);
      if (inode.isDirectory && inode.sizeBytes === 0) {
        initDirectory(handle, vol, writable, parent);
        writable.setLinksCount(2);
      } else if (!inode.isDirectory) {
        writable.setLinksCount(1);
      }
      if (known !== null) return;
      addEntry(handle, vol, dir, name, ino, inode.mode);
      const changed = this.touch(dir.edit(handle));
      if (inode.isDirectory) countSubdirectory(changed, 1);
    });
  }

  private link(record: NameRecord): void {
    const { vol } = this;
    const { ino, parent, name } = record;
    this.recordedFirst(ino);
    const inode = this.liveInode(ino);
    const dir = this.directory(parent);
    if (inode === null || dir === null) return;
    vol.journal.run(DIR_ENTRY_CREDITS + NEW_INODE_CREDITS, (handle) => {
      const known = findEntry(vol, dir, name);
      if (known !== null) {
        if (entryIno(known) === ino) return;
        throw this.corrupt(record, `the name is that of inode ${entryIno(known)}`);
      }
      addEntry(handle, vol, dir, name, ino, inode.mode);
      const changed = this.touch(dir.edit(handle));
      if (inode.isDirectory) {
        this.secondNames.set(ino, (this.secondNames.get(ino) ?? 0) + 1);
        countSubdirectory(changed, 1);
      } else {
        inode.edit(handle).setLinksCount(Math.min(inode.linksCount + 1, 0xffff));
      }
    });
  }

  private unlink(record: NameRecord): void {
    const { vol } = this;
    const { ino, parent, name } = record;
    const inode = this.liveInode(ino);
    const dir = this.directory(parent);
    if (inode === null || dir === null) return;
    vol.journal.run(DIR_ENTRY_CREDITS, (handle) => {
      const place = findEntry(vol, dir, name);
      // Its name went on to another inode, or never came to be.
      if (place === null || entryIno(place) !== ino) return;
      removeEntry(handle, vol, place);
      const changed = this.touch(dir.edit(handle));
      const writable = inode.edit(handle);
      if (inode.isDirectory) {
        countSubdirectory(changed, -1);
        const second = this.secondNames.get(ino) ?? 0;
        if (second > 0) {
          this.secondNames.set(ino, second - 1);
          return;
        }
        if (!isEmpty(vol, inode)) throw this.corrupt(record, 'the directory that is removed is not empty');
        writable.setLinksCount(0);
      } else {
        writable.setLinksCount(inode.linksCount - 1);
      }
      // The end of orphan processing is that of every inode without names.
      if (writable.linksCount === 0) addOrphan(handle, writable);
    });
  }

  private range(record: RangeRecord): void {
    const { ino, lblk, count } = record;
    if (this.isInline(ino, this.position)) return;
    this.recordedFirst(ino);
    if (!this.isNumber(ino) || !isInodeTaken(this.vol, ino)) return;
    const inode = Inode.load(this.vol, ino);
    if (inode.mode === 0) return;
    if (!inode.isRegular) throw this.corrupt(record, 'it is no regular file, and its blocks change');
    if (record.tag === 'ADD_RANGE') this.blocks.mapRange(ino, record);
    else this.blocks.unmapRange(ino, lblk, count);
  }

  /**
   * Names and ranges of an inode precede its record, unless it is created with a name: if the record is of another inode
   * than the one that has the number now, it comes first.
   */
  private recordedFirst(ino: Ino): void {
    const { commit } = this.records[this.position];
    const next = this.recorded.get(`${commit}/${ino}`)?.find((position) => position > this.position);
    if (next === undefined) return;
    const { raw } = this.records[next].record as InodeRecord;
    this.checkNumber(ino);
    const recorded = readRecorded(raw);
    const isOld = isSameInode(this.vol, ino, recorded);
    const inode = Inode.load(this.vol, ino);
    // One without a name (O_TMPFILE) gets one; content leaves the inode for blocks.
    const revived = isOld && recorded.links > 0 && inode.linksCount === 0;
    const grown = isOld && inode.hasInlineData && !recorded.isInline;
    if (!isOld || revived || grown) replayInode(this.vol, this.blocks, ino, raw);
  }

  /**
   * Whether what the inode holds, by the record after this position or else before it, is in the inode. Then it has no
   * ranges: the kernel takes the content for a block map when it looks for some.
   */
  private isInline(ino: Ino, position: number): boolean {
    const places = this.recorded.get(`${this.records[position].commit}/${ino}`) ?? [];
    const place = places.find((each) => each > position) ?? places.at(-1);
    return place !== undefined && readRecorded((this.records[place].record as InodeRecord).raw).isInline;
  }

  /** Blocks of deleted files are wanted by others: they become free now, not in orphan processing. */
  private discardDeleted(): void {
    this.vol.journal.flushAll();
    for (const ino of [...chainedOrphans(this.vol), ...filedOrphans(this.vol)]) {
      if (this.isNumber(ino) && Inode.load(this.vol, ino).linksCount === 0) discardInode(this.vol, this.blocks, ino);
    }
  }

  /** Mtime and ctime of a directory are those of the newest change, unless it was recorded later. */
  private touch(dir: WritableInode): WritableInode {
    const now = this.vol.env.now();
    if (isLater(now, dir.mtime)) dir.setMtime(now);
    if (isLater(now, dir.ctime)) dir.setCtime(now);
    return dir;
  }

  private isNumber(ino: Ino): boolean {
    return !this.vol.geometry.isOwnInode(ino) && ino <= this.vol.geometry.inodesCount;
  }

  private checkNumber(ino: Ino): void {
    if (!this.isNumber(ino))
      throw new CorruptionError('fast commit', `inode ${ino}`, 'there is no such inode, or it is reserved');
  }

  /** Null for one that is free or deleted (what ext4_iget refuses). */
  private liveInode(ino: Ino): Inode | null {
    if (!this.isNumber(ino) || !isInodeTaken(this.vol, ino)) return null;
    const inode = Inode.load(this.vol, ino);
    return inode.mode === 0 || inode.linksCount === 0 ? null : inode;
  }

  private directory(ino: Ino): Inode | null {
    const inode = ino === EXT4_ROOT_INO ? Inode.load(this.vol, ino) : this.liveInode(ino);
    if (inode !== null && !inode.isDirectory)
      throw new CorruptionError('fast commit', `inode ${ino}`, 'it gets a name, and is no directory');
    return inode;
  }

  private corrupt(record: NameRecord | RangeRecord, finding: string): CorruptionError {
    const what =
      'name' in record
        ? `name "${Buffer.from(record.name).toString('latin1')}" in inode ${record.parent}`
        : `inode ${record.ino}`;
    return new CorruptionError('fast commit', what, finding);
  }
}
