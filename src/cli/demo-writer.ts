/** What the demonstration writes, and its memory of what has been promised to be durable. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, open, readFile, rename, rmdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';

/** Names relative to the mountpoint, with the hash of what an fsync has promised to keep. */
export class Ledger {
  private readonly durable = new Map<string, string>();
  /** A rename over the name was under way: its new contents are right as well. */
  private readonly pending = new Map<string, string>();

  get size(): number {
    return this.durable.size;
  }

  expect(name: string, bytes: Uint8Array): void {
    this.pending.set(name, hashOf(bytes));
  }

  promise(name: string, bytes: Uint8Array): void {
    this.durable.set(name, hashOf(bytes));
    this.pending.delete(name);
  }

  async verify(mountpoint: string): Promise<{ good: number; bad: string[] }> {
    const bad: string[] = [];
    let good = 0;
    for (const [name, hash] of this.durable) {
      const found = await readFile(join(mountpoint, name)).then(hashOf, () => 'missing');
      if (found === hash || found === this.pending.get(name)) good++;
      else bad.push(name);
    }
    return { good, bad };
  }
}

const hashOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function writeFile(path: string, bytes: Uint8Array, sync: boolean): Promise<void> {
  const handle = await open(path, 'w');
  try {
    await handle.writeFile(bytes);
    if (sync) await handle.sync();
  } finally {
    // A killed server fails this too; what counts is whether the fsync succeeded.
    await handle.close().catch(() => {});
  }
}

async function durableFile(mountpoint: string, directory: string, name: string, size: number, ledger: Ledger) {
  const bytes = randomBytes(size);
  await writeFile(join(mountpoint, directory, name), bytes, true);
  await syncDirectory(join(mountpoint, directory));
  ledger.promise(join(directory, name), bytes);
}

const SIZES = [0, 10, 700, 4096, 20_000, 200_000];

export async function writeLetters(mountpoint: string, ledger: Ledger): Promise<void> {
  await mkdir(join(mountpoint, 'letters'));
  await syncDirectory(mountpoint);
  for (let i = 0; i < 40; i++) await durableFile(mountpoint, 'letters', `letter-${i}`, SIZES[i % SIZES.length], ledger);
}

/** A directory of several blocks is made, committed and removed: the log then holds revokes of its blocks. */
async function comeAndGo(mountpoint: string): Promise<void> {
  const passing = join(mountpoint, 'passing');
  await mkdir(passing);
  const names = Array.from({ length: 60 }, (_, i) => join(passing, `${i}-`.padEnd(200, 'x')));
  for (const name of names) await writeFile(name, new Uint8Array(0), false);
  await syncDirectory(passing);
  for (const name of names) await unlink(name);
  await rmdir(passing);
  await syncDirectory(mountpoint);
}

export interface Writers {
  /** Resolves when the filesystem has failed under all of them, to the number of files that were being written then. */
  readonly done: Promise<number>;
  /** Resolves when a directory has come and gone once more, and its end is durable. */
  cameAndWent(): Promise<void>;
}

/** Several writers at once, until the filesystem fails under them. What they had not synced may be lost, as on any disk. */
export function startWriters(mountpoint: string, ledger: Ledger): Writers {
  let waiting: (() => void)[] = [];
  const cycle = async () => {
    await comeAndGo(mountpoint);
    for (const tell of waiting.splice(0)) tell();
  };
  const done = writeUntilKilled(mountpoint, ledger, cycle).finally(() => {
    for (const tell of waiting) tell();
    waiting = [];
  });
  return { done, cameAndWent: () => new Promise((tell) => waiting.push(tell)) };
}

async function writeUntilKilled(mountpoint: string, ledger: Ledger, cycle: () => Promise<void>): Promise<number> {
  let unfinished = 0;
  const until = async (work: (i: number) => Promise<void>) => {
    try {
      for (let i = 0; ; i++) await work(i);
    } catch {
      unfinished++;
    }
  };
  const newFiles = async (writer: string) => {
    await mkdir(join(mountpoint, writer)).catch(() => {});
    await until(async (i) => {
      if (i === 0) await syncDirectory(mountpoint);
      await durableFile(mountpoint, writer, `file-${i}`, SIZES[i % SIZES.length], ledger);
    });
  };
  const replaced = () =>
    until(async (i) => {
      const bytes = randomBytes(5000 + i);
      const name = `settings-${i % 3}`;
      await writeFile(join(mountpoint, `${name}.new`), bytes, true);
      ledger.expect(name, bytes);
      await rename(join(mountpoint, `${name}.new`), join(mountpoint, name));
      await syncDirectory(mountpoint);
      ledger.promise(name, bytes);
    });
  const neverSynced = () =>
    until(async (i) => {
      await writeFile(join(mountpoint, `unsynced-${i % 50}`), randomBytes(50_000), false);
    });
  await Promise.all([newFiles('writer-a'), newFiles('writer-b'), replaced(), neverSynced(), until(cycle)]);
  return unfinished;
}
