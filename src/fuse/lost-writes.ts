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
  /** Of which only the server knows: fsync has to be told as well. */
  private readonly unsynced = new Map<Ino, FsError>();

  note(ino: Ino, error: FsError): void {
    this.lost.set(ino, error);
  }

  /** A write was answered before it failed. */
  noteAnswered(ino: Ino, error: FsError): void {
    this.lost.set(ino, error);
    this.unsynced.set(ino, error);
  }

  /** The error that the next fsync of this inode, or of everything (null), gets; it is told once. */
  takeUnsynced(ino: Ino | null): FsError | undefined {
    if (ino === null) {
      const [first] = this.unsynced.values();
      this.unsynced.clear();
      return first;
    }
    const error = this.unsynced.get(ino);
    if (error !== undefined) this.unsynced.delete(ino);
    return error;
  }

  /** These numbers may be other files' from now on. */
  forget(inos: readonly Ino[]): void {
    for (const ino of inos) {
      this.lost.delete(ino);
      this.unsynced.delete(ino);
    }
  }

  /** The error that the next write of this inode gets; it is told once. */
  take(ino: Ino): FsError | undefined {
    const error = this.lost.get(ino);
    if (error !== undefined) this.lost.delete(ino);
    return error;
  }
}
