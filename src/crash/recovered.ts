/** What a mount makes of a crash state, and the tree that it then shows. */
import type { BlockDevice } from '../block/device.js';
import { checkFilesystem } from '../ext4/check/check.js';
import { Filesystem, type InodeStat } from '../ext4/filesystem.js';
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../ext4/format/inode.js';
import { frozenVolume } from '../ext4/frozen-volume.js';
import { readGeometry } from '../ext4/open.js';
import type { Environment } from '../ext4/volume.js';

const ROOT = 2;
const decoder = new TextDecoder();
const encoder = new TextEncoder();

/** Recovery needs no clock and no randomness: two recoveries of one state are the same to the byte. */
const STILL: Environment = {
  now: () => ({ seconds: 1_700_000_000, nanoseconds: 0 }),
  monotonicMs: () => 0,
  random32: () => 4,
  sleep: () => {},
  schedule: () => () => {},
};

export interface RecoveredFile {
  readonly path: string;
  readonly stat: InodeStat;
  /** First path under which the inode was met: the same for all names of one inode. */
  readonly first: string;
  /** Content of a regular file, target of a symbolic link. */
  readonly content: Uint8Array | null;
  readonly xattrs: readonly (readonly [string, Uint8Array])[];
}

/** A crash state is looked at once: a cache as large as such an image is all it needs. */
const CACHE_BYTES = 64 << 10;

export function openState(device: BlockDevice): Filesystem {
  return Filesystem.open(device, { env: STILL, cacheBytes: CACHE_BYTES });
}

/** Everything below the root but lost+found, directories before what is in them, names in order. */
export function readTree(fs: Filesystem): RecoveredFile[] {
  const files: RecoveredFile[] = [];
  const firstPaths = new Map<number, string>();
  const visit = (directory: number, prefix: string) => {
    const names: { name: string; ino: number }[] = [];
    fs.readdir(directory, 0, (name, ino) => {
      const text = decoder.decode(name);
      if (text !== '.' && text !== '..' && !(directory === ROOT && text === 'lost+found'))
        names.push({ name: text, ino });
      return true;
    });
    names.sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const { name, ino } of names) {
      const path = prefix + name;
      const stat = fs.stat(ino);
      const type = stat.mode & S_IFMT;
      const first = firstPaths.get(ino) ?? path;
      firstPaths.set(ino, first);
      const content = type === S_IFREG ? readContent(fs, ino, stat.size) : type === S_IFLNK ? fs.readlink(ino) : null;
      files.push({ path, stat, first, content, xattrs: readXattrs(fs, ino) });
      if (type === S_IFDIR) visit(ino, `${path}/`);
    }
  };
  visit(ROOT, '');
  return files;
}

function readXattrs(fs: Filesystem, ino: number): [string, Uint8Array][] {
  const list = fs.listxattr(ino);
  if (list.length === 0) return [];
  const names = decoder.decode(list).split('\0').slice(0, -1).sort();
  return names.map((name) => [name, fs.getxattr(ino, encoder.encode(name)) ?? new Uint8Array(0)]);
}

/** What the project's own checker finds on an image that was closed; empty if nothing. */
export function contradictions(device: BlockDevice): string[] {
  return checkFilesystem(frozenVolume(device, readGeometry(device), CACHE_BYTES)).findings.map(
    ({ message }) => message,
  );
}

function readContent(fs: Filesystem, ino: number, size: number): Uint8Array {
  const data = new Uint8Array(size);
  fs.readData(ino, 0, data);
  return data;
}
