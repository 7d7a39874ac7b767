/**
 * jbd2's rules of order, checked on what was written, without a replay:
 *
 *   1. every log block of a transaction, and the file data written before it, is durable before its commit block
 *   2. a block goes home only with content that a durable transaction logged, and not once it is revoked
 *   3. the tail moves past a transaction only when its blocks are durable at home, and log space is used again only when
 *      that tail is durable
 *   4. no copy in the log begins with the journal's magic number
 *   5. a logged block is revoked before file data is written over it
 *   6. needs_recovery is durable before the first commit block, and is cleared only when the log is marked empty
 *   7. transactions follow each other without a gap, in tid and in place
 *   8. an fsync is answered only when its transaction is durable, or a fast commit on top of the one before
 *   9. the write that makes a fast commit whole comes when its other blocks, and the file data written before it, are durable
 */
import { MemoryDevice } from '../block/memory-device.js';
import { readView } from '../codec/view.js';
import { fastCommitRecords, scanFastCommits } from '../ext4/fast-commit-area.js';
import { INCOMPAT } from '../ext4/features.js';
import { SUPERBLOCK } from '../ext4/format/superblock.js';
import { openLogSource } from '../ext4/journal-inode.js';
import { readGeometry } from '../ext4/open.js';
import type { Geometry } from '../ext4/volume.js';
import { BlockType, JBD2_MAGIC, JOURNAL_HEADER, TagFlag } from '../jbd2/format.js';
import { LogWalker } from '../jbd2/log-walker.js';
import { decodeRevokes } from '../jbd2/revoke-block.js';
import { type Tid, tidGeq, tidGt, tidNext } from '../jbd2/tid.js';
import type { LogEntry, LoggedWrite } from './write-log.js';

export interface Violation {
  readonly rule: number;
  /** Index in the log of the write, or mark, that broke it. */
  readonly entry: number;
  readonly finding: string;
}

interface LoggedTransaction {
  readonly tid: Tid;
  /** Log blocks it occupies. */
  readonly place: ReadonlySet<number>;
  /** Content of each block it logged. */
  readonly copies: ReadonlyMap<number, Uint8Array>;
  readonly revoked: ReadonlySet<number>;
  /** Entry of its commit block. */
  readonly commit: number;
}

/** What the last write of a block was. */
interface LastWrite {
  readonly entry: number;
  readonly origin: LoggedWrite['origin'];
}

/** Checks a history that began on `image` with an empty log. Returns what is wrong; the image is not changed. */
export function checkOrder(image: Uint8Array, log: readonly LogEntry[]): Violation[] {
  const rules = new OrderingRules(image.slice());
  log.forEach((entry, index) => {
    if (entry.kind === 'write') rules.write(entry, index);
    else if (entry.kind === 'flush') rules.flush(entry.covers);
    else rules.mark(entry.text, index);
  });
  return rules.violations;
}

class OrderingRules {
  readonly violations: Violation[] = [];
  private readonly device: MemoryDevice;
  private readonly bytes: Uint8Array;
  private readonly geometry: Geometry;
  /** Log block of a filesystem block. */
  private readonly logBlocks = new Map<number, number>();
  private readonly lastWrites = new Map<number, LastWrite>();
  /** Home content that is durable, or will be with the next flush that covers it, by block. */
  private readonly home = new Map<number, { entry: number; content: Uint8Array }[]>();
  private readonly unflushedData = new Set<number>();
  /** Transactions whose log space the durable tail still holds. */
  private transactions: LoggedTransaction[] = [];
  private covered = 0;
  private head: number;
  private nextTid: Tid | null = null;
  /** First entry of the transaction that is being written, or -1. */
  private begun = -1;
  private tails: { entry: number; sequence: Tid; start: number }[] = [];
  private durableMark: boolean;
  /** First log block of the area of fast commits. */
  private areaStart = Number.POSITIVE_INFINITY;
  /** Entries that made the fast commits on top of the last transaction whole, and the first of what was written there since. */
  private fastCommits: number[] = [];
  private areaBegun = -1;
  private pendingMark: { entry: number; set: boolean } | null = null;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.device = new MemoryDevice(bytes);
    this.geometry = readGeometry(this.device);
    this.durableMark = (this.geometry.incompat & INCOMPAT.needs_recovery) !== 0;
    const { blockMap, superblock } = openLogSource(this.device, this.geometry);
    for (let i = 0; i < superblock.maxLen; i++) this.logBlocks.set(blockMap[i], i);
    this.head = superblock.first;
  }

  write(write: LoggedWrite, entry: number): void {
    const { blockSize } = this.geometry;
    const first = Math.floor(write.offsetBytes / blockSize);
    const last = Math.floor((write.offsetBytes + write.bytes.length - 1) / blockSize);
    this.bytes.set(write.bytes, write.offsetBytes);
    for (let block = first; block <= last; block++) {
      const logBlock = this.logBlocks.get(block);
      if (block === this.geometry.superblockBlock) this.superblock(entry);
      else if (logBlock === 0) this.journalSuperblock(entry);
      else if (logBlock !== undefined && logBlock >= this.areaStart) this.area(logBlock, block, entry);
      else if (logBlock !== undefined) this.record(logBlock, block, entry);
      else if (write.origin === 'journal') this.homeWrite(block, entry);
      else this.dataWrite(block, entry);
      this.lastWrites.set(block, { entry, origin: write.origin });
    }
  }

  flush(covers: number): void {
    this.covered = Math.max(this.covered, covers);
    for (const entry of this.unflushedData) if (entry < covers) this.unflushedData.delete(entry);
    if (this.pendingMark !== null && this.pendingMark.entry < covers) {
      this.durableMark = this.pendingMark.set;
      this.pendingMark = null;
    }
    for (const { entry, sequence, start } of this.tails) {
      if (entry >= covers) continue;
      this.transactions = start === 0 ? [] : this.transactions.filter(({ tid }) => tidGeq(tid, sequence));
    }
    this.tails = this.tails.filter(({ entry }) => entry >= covers);
  }

  mark(text: string, entry: number): void {
    const match = /^synced tid (\d+)$/.exec(text);
    if (match === null) return;
    const tid = Number(match[1]);
    const committed = this.transactions.find((transaction) => transaction.tid === tid);
    const durable =
      committed === undefined ? this.nextTid !== null && tidGt(this.nextTid, tid) : this.isDurable(committed.commit);
    const fast = tid === this.nextTid && this.fastCommits.some((whole) => this.isDurable(whole));
    if (!durable && !fast) this.violate(8, entry, `an fsync was answered before transaction ${tid} was durable`);
  }

  private violate(rule: number, entry: number, finding: string): void {
    this.violations.push({ rule, entry, finding });
  }

  private isDurable(entry: number): boolean {
    return entry < this.covered;
  }

  private content(block: number): Uint8Array {
    const { blockSize } = this.geometry;
    return this.bytes.subarray(block * blockSize, (block + 1) * blockSize);
  }

  private superblock(entry: number): void {
    const at = this.geometry.superblockBlock * this.geometry.blockSize + this.geometry.superblockOffset;
    const view = readView(this.bytes.subarray(at, at + SUPERBLOCK.SIZE));
    const set = (SUPERBLOCK.s_feature_incompat.get(view, 0) & INCOMPAT.needs_recovery) !== 0;
    if (!set && this.transactions.length > 0) {
      this.violate(6, entry, 'needs_recovery was cleared while the log on the disk was not marked empty');
    }
    this.pendingMark = { entry, set };
  }

  private journalSuperblock(entry: number): void {
    const { superblock } = openLogSource(this.device, this.geometry);
    const { sequence, start } = superblock;
    this.areaStart = superblock.fastCommitBlocks === 0 ? Number.POSITIVE_INFINITY : superblock.end + 1;
    this.tails.push({ entry, sequence, start });
    if (start !== 0 && this.transactions.length === 0 && this.nextTid === null) this.head = start;
    for (const transaction of this.transactions) {
      if (start !== 0 && tidGeq(transaction.tid, sequence)) continue;
      for (const block of transaction.copies.keys()) this.mustBeHome(block, transaction, entry);
    }
  }

  /** The tail moves past `transaction`: what it logged of `block`, or something newer, is durable at home. */
  private mustBeHome(block: number, transaction: LoggedTransaction, entry: number): void {
    const later = this.transactions.filter(({ tid }) => tidGt(tid, transaction.tid));
    if (transaction.revoked.has(block) || later.some(({ revoked, copies }) => revoked.has(block) || copies.has(block)))
      return;
    if (block === this.geometry.superblockBlock) {
      const last = this.lastWrites.get(block);
      if (last === undefined || !this.isDurable(last.entry)) this.violate(3, entry, 'the superblock was not home');
      return;
    }
    const copy = transaction.copies.get(block) as Uint8Array;
    const writes = this.home.get(block) ?? [];
    if (writes.some((write) => this.isDurable(write.entry) && equal(write.content, copy))) return;
    this.violate(
      3,
      entry,
      `the tail moved past transaction ${transaction.tid} before block ${block} was durable at home`,
    );
  }

  private record(logBlock: number, block: number, entry: number): void {
    const holder = this.transactions.find(({ place }) => place.has(logBlock));
    if (holder !== undefined) {
      this.violate(3, entry, `log block ${logBlock} was used again while transaction ${holder.tid} was still needed`);
    }
    if (this.begun < 0) this.begun = entry;
    const view = readView(this.content(block));
    if (JOURNAL_HEADER.h_magic.get(view, 0) !== JBD2_MAGIC) return;
    if (JOURNAL_HEADER.h_blocktype.get(view, 0) !== BlockType.COMMIT) return;
    this.commit(JOURNAL_HEADER.h_sequence.get(view, 0), block, entry);
  }

  /** A block of the area: the fast commit that it belongs to may be whole now. */
  private area(logBlock: number, block: number, entry: number): void {
    // The head of what is void is taken away.
    if (readView(this.content(block)).getUint16(0, true) === 0) return;
    if (this.areaBegun < 0) this.areaBegun = entry;
    if (this.nextTid === null) return;
    const source = openLogSource(this.device, this.geometry);
    const found = scanFastCommits(source, this.geometry.inodeSize, this.nextTid);
    if (found.commits <= this.fastCommits.length) return;
    const blocks = new Set<number>();
    let commit = 0;
    for (const { record, logBlock: at } of fastCommitRecords(source, this.geometry.inodeSize)) {
      if (commit === this.fastCommits.length) blocks.add(at);
      if (record.tag === 'TAIL' && ++commit === found.commits) break;
    }
    blocks.delete(logBlock);
    for (const at of blocks) {
      const last = this.lastWrites.get(source.blockMap[at]);
      if (last === undefined || !this.isDurable(last.entry))
        this.violate(9, entry, `log block ${at} was not durable before its fast commit was whole`);
    }
    for (const data of this.unflushedData)
      if (data < this.areaBegun)
        this.violate(9, entry, `file data of entry ${data} was not durable before a fast commit`);
    this.fastCommits.push(entry);
    this.areaBegun = -1;
  }

  private commit(tid: Tid, commitBlock: number, entry: number): void {
    if (this.nextTid !== null && tid !== this.nextTid) {
      this.violate(7, entry, `transaction ${tid} was committed, ${this.nextTid} was to come`);
    }
    if (!this.durableMark) this.violate(6, entry, 'a commit block was written before needs_recovery was durable');
    const transaction = this.walk(tid, commitBlock, entry);
    this.nextTid = tidNext(tid);
    this.fastCommits = [];
    this.areaBegun = -1;
    if (transaction !== null) this.transactions.push(transaction);
    for (const data of this.unflushedData) {
      if (data < this.begun)
        this.violate(1, entry, `file data of entry ${data} was not durable before transaction ${tid}`);
    }
    this.begun = -1;
  }

  /** Reads the transaction that ends with this commit block, from where the one before ended. */
  private walk(tid: Tid, commitBlock: number, entry: number): LoggedTransaction | null {
    const source = openLogSource(this.device, this.geometry);
    const walker = new LogWalker(source, this.head);
    const place = new Set<number>();
    const copies = new Map<number, Uint8Array>();
    const revoked = new Set<number>();
    for (let record = walker.next(tid); record !== null; record = walker.next(tid)) {
      place.add(record.logBlock);
      if (record.kind === 'commit') {
        if (source.blockMap[record.logBlock] !== commitBlock)
          this.violate(7, entry, `transaction ${tid} ends elsewhere`);
        this.head = walker.position;
        for (const logBlock of place) this.mustBeDurable(source.blockMap[logBlock], commitBlock, tid, entry);
        return { tid, place, copies, revoked, commit: entry };
      }
      if (record.kind === 'revoke') {
        for (const block of decodeRevokes(walker.shape, record.view, record.logBlock)) revoked.add(block);
        continue;
      }
      for (const { block, flags } of record.tags) {
        const copy = walker.read(walker.position);
        place.add(walker.position);
        this.copied(copy, (flags & TagFlag.ESCAPE) !== 0, block, entry);
        copies.set(block, copy);
        walker.skip(1);
      }
    }
    this.violate(7, entry, `transaction ${tid} is not where the one before it ended: ${walker.end}`);
    return null;
  }

  private copied(copy: Uint8Array, escaped: boolean, block: number, entry: number): void {
    const view = new DataView(copy.buffer, copy.byteOffset, 4);
    if (view.getUint32(0) === JBD2_MAGIC) this.violate(4, entry, `the copy of block ${block} was not escaped`);
    if (escaped) view.setUint32(0, JBD2_MAGIC);
  }

  private mustBeDurable(block: number, commitBlock: number, tid: Tid, entry: number): void {
    if (block === commitBlock) return;
    const last = this.lastWrites.get(block);
    if (last === undefined || !this.isDurable(last.entry)) {
      this.violate(1, entry, `block ${block} of the log was not durable before the commit block of transaction ${tid}`);
    }
  }

  private homeWrite(block: number, entry: number): void {
    const content = this.content(block).slice();
    const logged = this.transactions.some(
      ({ copies, commit }) => this.isDurable(commit) && equal(copies.get(block), content),
    );
    if (!logged) this.violate(2, entry, `block ${block} went home with content that no durable transaction logged`);
    const revoker = this.transactions.findLast(({ revoked, copies }) => revoked.has(block) || copies.has(block));
    if (revoker?.revoked.has(block) === true && this.isDurable(revoker.commit)) {
      this.violate(2, entry, `block ${block} went home although transaction ${revoker.tid} had revoked it`);
    }
    const writes = this.home.get(block) ?? [];
    if (writes.length === 0) this.home.set(block, writes);
    writes.push({ entry, content });
  }

  private dataWrite(block: number, entry: number): void {
    this.unflushedData.add(entry);
    for (const { tid, copies, commit } of this.transactions) {
      if (!copies.has(block)) continue;
      const revoked = this.transactions.some(
        (other) => tidGeq(other.tid, tid) && other.revoked.has(block) && this.isDurable(other.commit),
      );
      if (!revoked && this.isDurable(commit)) {
        this.violate(5, entry, `block ${block} of transaction ${tid} was overwritten with data, and not revoked`);
      }
    }
    this.home.delete(block);
  }
}

function equal(a: Uint8Array | undefined, b: Uint8Array): boolean {
  return a !== undefined && Buffer.compare(a, b) === 0;
}
