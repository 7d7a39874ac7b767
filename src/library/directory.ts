/** A directory that is read entry by entry, as fs.Dir. */
import type { Dirent } from './stats.js';

export class Dir {
  readonly path: string;
  private entries: Dirent[] | null;

  /** Use {@link Image.opendir}: the entries are those of that moment. */
  constructor(path: string, entries: readonly Dirent[]) {
    this.path = path;
    this.entries = [...entries].reverse();
  }

  /** Null behind the last. */
  async read(): Promise<Dirent | null> {
    if (this.entries === null)
      throw Object.assign(new Error('Directory handle was closed'), { code: 'ERR_DIR_CLOSED' });
    return this.entries.pop() ?? null;
  }

  async close(): Promise<void> {
    this.entries = null;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Dirent> {
    try {
      for (let entry = await this.read(); entry !== null; entry = await this.read()) yield entry;
    } finally {
      await this.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
