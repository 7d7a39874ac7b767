/** /proc/self/mountinfo: what is mounted, and where. */
import { lstatSync, readFileSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';

export interface MountEntry {
  /** "major:minor" of the mounted filesystem. */
  readonly device: string;
  /** What of the filesystem shows there: "/" is all of it. */
  readonly root: string;
  readonly mountpoint: string;
  /** "fuse.ext4d", "fuseblk.ext4d", "ext4". */
  readonly type: string;
  readonly source: string;
  readonly readOnly: boolean;
  /** Options of this mount and of the filesystem: "nosuid", "sync", "user_id=0". */
  readonly words: readonly string[];
}

/** Space, tab, newline and backslash are written as three octal digits. */
function unescapeOctal(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

export function parseMountinfo(text: string): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const [left, right] = line.split(' - ');
    if (right === undefined) continue;
    const [, , device, root, mountpoint, flags] = left.split(' ');
    const [type, source, superFlags] = right.split(' ');
    const words = `${flags},${superFlags}`.split(',');
    entries.push({
      device,
      root: unescapeOctal(root),
      mountpoint: unescapeOctal(mountpoint),
      type,
      source: unescapeOctal(source),
      readOnly: words.includes('ro'),
      words,
    });
  }
  return entries;
}

export function readMountinfo(): MountEntry[] {
  return parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'));
}

/** The mount that shows at `path` (the topmost one), or null. Asks nothing of the filesystem mounted there. */
export function mountAt(path: string): MountEntry | null {
  const entries = readMountinfo();
  const find = (at: string) => entries.findLast((entry) => entry.mountpoint === at) ?? null;
  const direct = find(canonicalMountpoint(path));
  if (direct !== null) return direct;
  try {
    return lstatSync(path).isSymbolicLink() ? find(realpathSync(path)) : null;
  } catch {
    return null;
  }
}

/** Absolute, symbolic links resolved in all but the last component: that one may be a mount whose server is dead. */
export function canonicalMountpoint(path: string): string {
  const absolute = resolve(path);
  if (absolute === '/') return '/';
  try {
    return join(realpathSync(dirname(absolute)), basename(absolute));
  } catch {
    return absolute;
  }
}
