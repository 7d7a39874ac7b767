/** File data being written beside the JavaScript thread, per inode, and the requests that wait for it to end. */
import type { Ino } from '../ext4/inode.js';

export class InFlight {
  private readonly counts = new Map<Ino, number>();
  private readonly waiting = new Map<Ino, (() => void)[]>();
  private total = 0;
  private readonly idle: (() => void)[] = [];

  has(ino: Ino): boolean {
    return this.counts.has(ino);
  }

  /** Requests wait for the inode: one that came later must not overtake them for ever. */
  hasWaiters(ino: Ino): boolean {
    return this.waiting.has(ino);
  }

  started(ino: Ino): void {
    this.total++;
    this.counts.set(ino, (this.counts.get(ino) ?? 0) + 1);
  }

  ended(ino: Ino): void {
    this.total--;
    const left = (this.counts.get(ino) ?? 1) - 1;
    if (left > 0) {
      this.counts.set(ino, left);
    } else {
      this.counts.delete(ino);
      const retries = this.waiting.get(ino);
      this.waiting.delete(ino);
      if (retries !== undefined) for (const retry of retries) retry();
    }
    this.tellIdle();
  }

  /** A read: it holds no one up but the end of the session. */
  readStarted(): void {
    this.total++;
  }

  readEnded(): void {
    this.total--;
    this.tellIdle();
  }

  /** Calls back when nothing of the inode is under way; at once if that is so now. */
  whenDrained(ino: Ino, retry: () => void): void {
    if (!this.counts.has(ino)) {
      retry();
      return;
    }
    const list = this.waiting.get(ino);
    if (list === undefined) this.waiting.set(ino, [retry]);
    else list.push(retry);
  }

  /** Calls back when nothing at all is under way; at once if that is so now. */
  whenIdle(tell: () => void): void {
    if (this.total === 0) tell();
    else this.idle.push(tell);
  }

  private tellIdle(): void {
    if (this.total === 0) for (const tell of this.idle.splice(0)) tell();
  }
}
