/** Finding the process that serves a mount, or holds an image, through /proc. */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArguments, UsageError } from './args.js';
import { COMMAND_TEXTS } from './command-texts.js';
import { splitWords } from './mount-options.js';

/** A process that cannot be confused with a later one of the same number. */
export interface Process {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat, in clock ticks since boot. */
  readonly startTime: string;
}

function statFields(pid: number): string[] | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field is the program's name in parentheses, and may hold anything.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  } catch {
    return null;
  }
}

export function processOf(pid: number): Process | null {
  const fields = statFields(pid);
  return fields === null ? null : { pid, startTime: fields[19] };
}

/** False for a zombie: it holds nothing any more. */
export function isAlive({ pid, startTime }: Process): boolean {
  const fields = statFields(pid);
  return fields !== null && fields[19] === startTime && fields[0] !== 'Z' && fields[0] !== 'X';
}

export function commandName(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return 'unknown';
  }
}

function commandLine(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
  } catch {
    return [];
  }
}

/** Processes that hold a lock on a file: the holders of the image of a mount. */
export function lockHolders(path: string): number[] {
  const { dev, ino } = statSync(path, { bigint: true });
  const pids = new Set<number>();
  for (const line of readFileSync('/proc/locks', 'utf8').split('\n')) {
    // "3: FLOCK  ADVISORY  WRITE 4242 08:01:131 0 EOF"; a line with "->" waits for the one above.
    const [, kind, , , pid, file] = line.trim().split(/\s+/);
    if (kind !== 'FLOCK' && kind !== 'OFDLCK') continue;
    const [major, minor, inode] = (file ?? '').split(':');
    if (inode !== String(ino)) continue;
    const sameDevice = Number.parseInt(major, 16) === majorOf(dev) && Number.parseInt(minor, 16) === minorOf(dev);
    // btrfs and overlayfs show another device number in stat() than in the list of locks.
    if (sameDevice || hasOpen(Number(pid), dev, ino)) pids.add(Number(pid));
  }
  return [...pids].filter((pid) => pid > 0);
}

const majorOf = (dev: bigint) => Number(((dev >> 8n) & 0xfffn) | ((dev >> 32n) & ~0xfffn));
const minorOf = (dev: bigint) => Number((dev & 0xffn) | ((dev >> 12n) & ~0xffn));

function hasOpen(pid: number, dev: bigint, ino: bigint): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => {
      const stat = statSync(`/proc/${pid}/fd/${fd}`, { bigint: true });
      return stat.dev === dev && stat.ino === ino;
    });
  } catch {
    return false;
  }
}

/** What an `ext4d mount` was told: image and mountpoint, absolute, and its mount options; null for any other process. */
interface Served {
  readonly image: string;
  readonly mountpoint: string;
  readonly words: readonly string[];
}

function served(pid: number): Served | null {
  const args = commandLine(pid);
  const at = args.indexOf('mount');
  if (at < 1) return null;
  let cwd = '/';
  try {
    cwd = readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    // Another user's: they are absolute, or we cannot tell.
  }
  try {
    const { flags, values, positionals } = parseArguments(args.slice(at + 1), COMMAND_TEXTS.mount.options, [
      'IMAGE',
      'MOUNTPOINT',
    ]);
    const [image, mountpoint] = positionals.map((path) => resolve(cwd, path));
    const words = values.options.flatMap(splitWords);
    return { image, mountpoint, words: flags['read-only'] ? [...words, 'ro'] : words };
  } catch (error) {
    if (error instanceof UsageError) return null;
    throw error;
  }
}

/**
 * The server of a mount: the holder of the image's lock, and where several hold it (read-only mounts), the one that was
 * started for this mountpoint. Null if it is gone or cannot be told.
 */
export function serverOf(mountpoint: string, source: string): Process | null {
  let holders: number[] = [];
  try {
    holders = lockHolders(source);
  } catch {
    // The source is not a path (fsname=), or is out of sight.
  }
  let candidates = holders.filter((pid) => served(pid)?.mountpoint === mountpoint);
  if (candidates.length === 0 && holders.length === 1) candidates = holders;
  if (candidates.length === 0) {
    const servers = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
      .map((name) => ({ pid: Number(name), of: served(Number(name)) }));
    const those = (of: 'mountpoint' | 'image', path: string) =>
      servers.filter((server) => server.of?.[of] === path).map(({ pid }) => pid);
    candidates = those('mountpoint', mountpoint);
    // Shown in several places (bind mounts), and the first of them is gone.
    if (candidates.length === 0) candidates = those('image', source);
  }
  // A daemon's parent waits with the same arguments until the mount is up: the server is the younger one.
  return candidates.length === 0 ? null : processOf(Math.max(...candidates));
}

/** The mount options that a server was given, as far as its command line says. */
export const wordsOfServer = (server: Process): readonly string[] => served(server.pid)?.words ?? [];

/** Up to `limit` users of the files below `mountpoint`, as "name (pid N)". Sees only what the caller may see. */
export function usersOf(mountpoint: string, limit: number): string[] {
  const inside = (link: string) => {
    try {
      const target = readlinkSync(link);
      return target === mountpoint || target.startsWith(`${mountpoint}/`);
    } catch {
      return false;
    }
  };
  const users: string[] = [];
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    let links = [`/proc/${pid}/cwd`, `/proc/${pid}/root`];
    try {
      links = links.concat(readdirSync(`/proc/${pid}/fd`).map((fd) => `/proc/${pid}/fd/${fd}`));
    } catch {
      // Not ours to look at.
    }
    if (!links.some(inside)) continue;
    users.push(`${commandName(Number(pid))} (pid ${pid})`);
    if (users.length === limit) break;
  }
  return users;
}
