/**
 * What the kernel knows of: how often each inode was handed out, how often it is open, and which inodes have lost their
 * last name and end when the kernel lets go of them.
 */
import type { Ino } from '../ext4/inode.js';
import { LookupCounts } from './lookup-counts.js';

export class NodeTable {
  private readonly lookups = new LookupCounts();
  private readonly opens = new Map<Ino, number>();
  private readonly writers = new Map<Ino, number>();
  private readonly unlinked = new Set<Ino>();
  private doomed: Ino[] = [];

  /** The inode was named in a reply (nlookup). */
  remember(ino: Ino): void {
    this.lookups.add(ino, 1);
  }

  /** FORGET, or a reply that nobody took. */
  forget(ino: Ino, count: number): void {
    if (this.lookups.subtract(ino, count) === 0 && this.unlinked.has(ino)) this.checkEnd(ino);
  }

  opened(ino: Ino, forWriting: boolean): void {
    this.opens.set(ino, (this.opens.get(ino) ?? 0) + 1);
    if (forWriting) this.writers.set(ino, (this.writers.get(ino) ?? 0) + 1);
  }

  released(ino: Ino, forWriting: boolean): void {
    countDown(this.opens, ino);
    if (forWriting) countDown(this.writers, ino);
    if (this.unlinked.has(ino)) this.checkEnd(ino);
  }

  /** The page cache may hold bytes of it that this server has not seen. */
  hasWriters(ino: Ino): boolean {
    return this.writers.has(ino);
  }

  get anyWriters(): boolean {
    return this.writers.size > 0;
  }

  /** The inode has no name any more, or never had one. */
  lostLastName(ino: Ino): void {
    this.unlinked.add(ino);
    this.checkEnd(ino);
  }

  /** It got a name after all (linkat of an O_TMPFILE file). */
  gotName(ino: Ino): void {
    this.unlinked.delete(ino);
  }

  /** Inodes without a name that nobody has open: the kernel is about to let go of them, unless it is someone's directory. */
  get anyLeaving(): boolean {
    for (const ino of this.unlinked) if (!this.opens.has(ino)) return true;
    return false;
  }

  get anyDoomed(): boolean {
    return this.doomed.length > 0;
  }

  /** Up to `count` inodes to evict, which are then forgotten here. */
  takeDoomed(count: number): Ino[] {
    return this.doomed.splice(0, count);
  }

  /** The kernel is gone, and everything it held with it. */
  dropAll(): void {
    this.lookups.clear();
    this.opens.clear();
    this.writers.clear();
    this.doomed.push(...this.unlinked);
    this.unlinked.clear();
  }

  private checkEnd(ino: Ino): void {
    if (this.lookups.get(ino) > 0 || this.opens.has(ino)) return;
    this.unlinked.delete(ino);
    this.doomed.push(ino);
  }
}

function countDown(counts: Map<Ino, number>, ino: Ino): void {
  const left = (counts.get(ino) ?? 0) - 1;
  if (left > 0) counts.set(ino, left);
  else counts.delete(ino);
}
