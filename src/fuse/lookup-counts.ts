/**
 * How often each inode was handed out to the kernel (nlookup). A scan of ten million files makes the kernel hold millions
 * of inodes at once, neighbours mostly; so the counts lie in small pages, a byte for each of 64 neighbours.
 */
import type { Ino } from '../ext4/inode.js';

const PAGE_INODES = 64;
const SLAB_PAGES = 1024;
/** A count that does not fit lies in a map of its own. */
const OVERFLOWED = 0xff;

export class LookupCounts {
  /** Where each page with a count above 0 lies: its number among all pages of all slabs. */
  private readonly pages = new Map<number, number>();
  private readonly slabs: Uint8Array[] = [];
  /** How many inodes of each page have a count. */
  private readonly used: Uint8Array[] = [];
  private readonly freePages: number[] = [];
  private readonly overflow = new Map<Ino, number>();

  get(ino: Ino): number {
    const page = this.pages.get(Math.floor(ino / PAGE_INODES));
    if (page === undefined) return 0;
    const count = this.slabs[Math.floor(page / SLAB_PAGES)][indexIn(page, ino)];
    return count === OVERFLOWED ? (this.overflow.get(ino) ?? OVERFLOWED) : count;
  }

  add(ino: Ino, more: number): void {
    const key = Math.floor(ino / PAGE_INODES);
    const page = this.pages.get(key) ?? this.takePage(key);
    this.put(page, ino, this.get(ino) + more);
  }

  /** Returns what is left; a count does not fall below 0. */
  subtract(ino: Ino, less: number): number {
    const key = Math.floor(ino / PAGE_INODES);
    const page = this.pages.get(key);
    if (page === undefined) return 0;
    const left = Math.max(0, this.get(ino) - less);
    this.put(page, ino, left);
    if (this.used[Math.floor(page / SLAB_PAGES)][page % SLAB_PAGES] === 0) {
      this.pages.delete(key);
      this.freePages.push(page);
    }
    return left;
  }

  clear(): void {
    this.pages.clear();
    this.slabs.length = 0;
    this.used.length = 0;
    this.freePages.length = 0;
    this.overflow.clear();
  }

  private put(page: number, ino: Ino, count: number): void {
    const slab = this.slabs[Math.floor(page / SLAB_PAGES)];
    const used = this.used[Math.floor(page / SLAB_PAGES)];
    const index = indexIn(page, ino);
    used[page % SLAB_PAGES] += Number(count > 0) - Number(slab[index] > 0);
    slab[index] = Math.min(count, OVERFLOWED);
    if (count >= OVERFLOWED) this.overflow.set(ino, count);
    else if (this.overflow.size > 0) this.overflow.delete(ino);
  }

  private takePage(key: number): number {
    if (this.freePages.length === 0) {
      const first = this.slabs.length * SLAB_PAGES;
      this.slabs.push(new Uint8Array(SLAB_PAGES * PAGE_INODES));
      this.used.push(new Uint8Array(SLAB_PAGES));
      for (let page = first + SLAB_PAGES - 1; page >= first; page--) this.freePages.push(page);
    }
    const page = this.freePages.pop() as number;
    this.pages.set(key, page);
    return page;
  }
}

function indexIn(page: number, ino: Ino): number {
  return (page % SLAB_PAGES) * PAGE_INODES + (ino % PAGE_INODES);
}
