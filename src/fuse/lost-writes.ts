/**
 * Bytes that a program was allowed to write into the page cache and that write-back could not store. fsync and close
 * tell of them by the kernel's own doing; a program that does neither would write into a full filesystem for ever.
 * With a write-back cache a write reaches no server, but the kernel asks for stale attributes before each: so they are
 * made stale, and the answer is the error.
 */
import type { FsError } from '../errors.js';
import type { Ino } from '../ext4/inode.js';

export class LostWrites {
  private readonly lost = new Map<Ino, FsError>();

  note(ino: Ino, error: FsError): void {
    this.lost.set(ino, error);
  }

  /** The error that the next write of this inode gets; it is told once. */
  take(ino: Ino): FsError | undefined {
    const error = this.lost.get(ino);
    if (error !== undefined) this.lost.delete(ino);
    return error;
  }
}
