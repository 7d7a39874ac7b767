/**
 * What an operation costs as things grow: files, images, directories, extents, the log. Each curve is drawn as SVG into a
 * directory, and its figures are printed. `npm run bench:scale`, as root, in memory.
 */
import { spawn } from 'node:child_process';
import {
  closeSync,
  constants,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statfsSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Curve, drawing } from './curve.js';
import { EXT4D } from './servers.js';
import { dropCaches, sh, shEnding, timed } from './shell.js';

const USAGE = `usage: npm run bench:scale [-- OPTIONS]     as root; some 12 GiB of memory for all of it
  --out DIR     where the pictures go (docs/scale)
  --most N      files, entries of a directory and extents: up to 10, 100 or 1000 thousand (1000), or more files
  --curve NAME  only files, image, full, directory, extents or log; may be repeated
`;

const O_DIRECT = process.arch === 'arm64' ? 0o200000 : 0o40000;
const READS = 2000;
const PER_DIRECTORY = 1000;

let scratch = '';
const image = () => join(scratch, 'image');
const mountpoint = () => join(scratch, 'mnt');

function makeImage(bytes: number, ...more: string[]): void {
  rmSync(image(), { force: true });
  writeFileSync(image(), '');
  truncateSync(image(), bytes);
  sh('mke2fs', '-q', '-F', '-t', 'ext4', '-E', 'lazy_itable_init=1,nodiscard', ...more, image());
}

/** Mounts in the background of this process, so that the server's memory can be seen. */
function mounted<T>(options: string, use: (pid: number) => T): T {
  sh(EXT4D, 'mount', '-o', options, image(), mountpoint());
  try {
    return use(serverPid());
  } finally {
    sh(EXT4D, 'umount', mountpoint());
  }
}

function serverPid(): number {
  const { ino } = statSync(image());
  const line = readFileSync('/proc/locks', 'utf8')
    .split('\n')
    .find((each) => each.split(/\s+/)[5]?.endsWith(`:${ino}`));
  return Number(line?.split(/\s+/)[4]);
}

const peakMiB = (pid: number) => Number(/VmHWM:\s*(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

const microseconds = (count: number, work: () => void) => (timed(work) * 1e6) / count;

function say(what: string, x: string, figures: Record<string, number>): void {
  const text = Object.entries(figures).map(([name, value]) => `${name} ${value.toPrecision(4)}`);
  process.stdout.write(`${what.padEnd(10)} ${x.padStart(9)}  ${text.join('  ')}\n`);
}

/** Figures by their name, for each x. */
class Points {
  private readonly curves = new Map<string, [number, number][]>();
  private readonly what: string;

  constructor(what: string) {
    this.what = what;
  }

  add(x: number, shown: string, figures: Record<string, number>): void {
    say(this.what, shown, figures);
    for (const [name, value] of Object.entries(figures))
      this.curves.set(name, [...(this.curves.get(name) ?? []), [x, value]]);
  }

  of(...names: string[]): Curve[] {
    return names.map((name) => ({ name, points: this.curves.get(name) ?? [] }));
  }
}

const upTo = (most: number) => [10_000, 100_000, 1_000_000, 10_000_000].filter((count) => count <= most);

/** Files in directories of a thousand: made, found again after a remount, removed. */
function files(most: number): string {
  const points = new Points('files');
  for (const count of upTo(most)) {
    makeImage(Math.max(1, Math.ceil(count / 2_000_000)) * 2 ** 33, '-i', '4096');
    const at = (i: number) => join(mountpoint(), `d${Math.floor(i / PER_DIRECTORY)}`, `f${i % PER_DIRECTORY}`);
    const figures: Record<string, number> = {};
    mounted('noatime', (pid) => {
      figures.create = microseconds(count, () => {
        for (let i = 0; i < count; i++) {
          if (i % PER_DIRECTORY === 0) mkdirSync(join(mountpoint(), `d${i / PER_DIRECTORY}`));
          closeSync(openSync(at(i), 'wx'));
        }
      });
      figures['memory in MiB'] = peakMiB(pid);
    });
    mounted('noatime', () => {
      dropCaches();
      const step = Math.max(1, Math.floor(count / 10_000));
      figures['stat, cold'] = microseconds(Math.floor(count / step), () => {
        for (let i = 0; i < count; i += step) statSync(at(i));
      });
      const removed = Math.min(count, 10_000);
      figures.unlink = microseconds(removed, () => {
        for (let i = 0; i < removed; i++) unlinkSync(at(i));
      });
    });
    points.add(count, String(count), figures);
  }
  const title = 'Files in directories of 1,000';
  return drawing(title, 'files', 'µs per operation', points.of('create', 'stat, cold', 'unlink', 'memory in MiB'));
}

const SIZES_GIB = [1, 16, 256, 4096, 16_000];

const makeImageOf = (gib: number, ...more: string[]) =>
  makeImage(gib * 2 ** 30, ...(gib > 256 ? ['-O', '64bit'] : []), ...more);

/** The same work on larger and larger images. */
function images(): string {
  const points = new Points('image');
  for (const gib of SIZES_GIB) {
    makeImageOf(gib);
    const figures: Record<string, number> = {};
    const started = performance.now();
    mounted('noatime', () => {
      figures['mount, ms'] = performance.now() - started;
      figures['create, µs'] = microseconds(5000, () => {
        for (let i = 0; i < 5000; i++) closeSync(openSync(join(mountpoint(), `f${i}`), 'wx'));
      });
      const data = Buffer.alloc(64 << 10, 'x');
      figures['64 KiB written, µs'] = microseconds(1000, () => {
        const fd = openSync(join(mountpoint(), 'data'), 'w');
        for (let i = 0; i < 1000; i++) writeSync(fd, data);
        closeSync(fd);
        sh('sync', '-f', mountpoint());
      });
    });
    points.add(gib, `${gib} GiB`, figures);
  }
  const names = ['mount, ms', 'create, µs', '64 KiB written, µs'];
  return drawing('Images of more and more space', 'GiB', 'cost', points.of(...names));
}

const SPACE_LEFT = 2 ** 29;

/** Images whose groups are all full but the last few: whoever wants space finds none near what it belongs to. */
function full(): string {
  const points = new Points('full');
  for (const gib of SIZES_GIB) {
    makeImageOf(gib, '-m', '0');
    mounted('noatime', () => {
      const { bavail, bsize } = statfsSync(mountpoint());
      sh('fallocate', '-l', String(bavail * bsize - SPACE_LEFT), join(mountpoint(), 'filling'));
    });
    const figures: Record<string, number> = {};
    mounted('noatime', () => {
      const data = Buffer.alloc(64 << 10, 'x');
      const write = (name: string) => {
        const fd = openSync(join(mountpoint(), name), 'wx');
        writeSync(fd, data);
        closeSync(fd);
      };
      const synced = () => sh('sync', '-f', mountpoint());
      figures['first file, ms'] =
        microseconds(1, () => {
          write('first');
          synced();
        }) / 1000;
      figures['file of 64 KiB, µs'] = microseconds(2000, () => {
        for (let i = 0; i < 2000; i++) write(`f${i}`);
        synced();
      });
      figures['directory, µs'] = microseconds(1000, () => {
        for (let i = 0; i < 1000; i++) mkdirSync(join(mountpoint(), `d${i}`));
      });
    });
    points.add(gib, `${gib} GiB`, figures);
  }
  const names = ['first file, ms', 'file of 64 KiB, µs', 'directory, µs'];
  return drawing('Images with 512 MiB left, at their end', 'GiB', 'cost', points.of(...names));
}

/** One directory of so many entries. */
function directory(most: number): string {
  const points = new Points('directory');
  for (const count of upTo(Math.min(most, 1_000_000))) {
    makeImage(2 ** 33, '-i', '4096');
    const at = (i: number) => join(mountpoint(), `entry-${i}`);
    const figures: Record<string, number> = {};
    mounted('noatime', () => {
      for (let i = 0; i < count - 5000; i++) closeSync(openSync(at(i), 'wx'));
      figures.create = microseconds(5000, () => {
        for (let i = count - 5000; i < count; i++) closeSync(openSync(at(i), 'wx'));
      });
      dropCaches();
      const step = count / 5000;
      figures['stat, cold'] = microseconds(5000, () => {
        for (let i = 0; i < count; i += step) statSync(at(i));
      });
      figures.unlink = microseconds(5000, () => {
        for (let i = 0; i < count; i += step) unlinkSync(at(i));
      });
    });
    points.add(count, String(count), figures);
  }
  const title = 'One directory';
  return drawing(title, 'entries', 'µs per operation', points.of('create', 'stat, cold', 'unlink'));
}

/** A file of which every other block is a hole. */
function extents(most: number): string {
  const points = new Points('extents');
  const shared = Buffer.from(new SharedArrayBuffer(8192));
  const block = shared.subarray((4096 - (shared.byteOffset % 4096)) % 4096).subarray(0, 4096);
  for (const count of upTo(Math.min(most, 1_000_000))) {
    makeImage(2 ** 34);
    const path = join(mountpoint(), 'file');
    const figures: Record<string, number> = {};
    mounted('noatime', () => {
      const fd = openSync(path, constants.O_RDWR | constants.O_CREAT);
      figures.write = microseconds(count, () => {
        for (let i = 0; i < count; i++) writeSync(fd, block, 0, 4096, i * 8192);
        sh('sync', '-f', mountpoint());
      });
      closeSync(fd);
    });
    mounted('noatime', () => {
      const fd = openSync(path, constants.O_RDONLY | O_DIRECT);
      let state = 1;
      figures['random read'] = microseconds(READS, () => {
        for (let i = 0; i < READS; i++) {
          state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
          readSync(fd, block, 0, 4096, (state % count) * 8192);
        }
      });
      closeSync(fd);
      figures.unlink = microseconds(count, () => {
        unlinkSync(path);
        sh('sync', '-f', mountpoint());
      });
    });
    points.add(count, String(count), figures);
  }
  const title = 'A file of so many extents';
  return drawing(title, 'extents', 'µs per extent', points.of('write', 'random read', 'unlink'));
}

/** Logs that the kernel filled with file data and did not take home. */
function log(): string {
  const points = new Points('log');
  for (const mib of [16, 64, 256, 1024]) {
    makeImage(2 ** 33, '-J', `size=${mib}`);
    sh('mount', '-i', '-t', 'ext4', '-o', 'loop,data=journal', image(), mountpoint());
    const data = Buffer.alloc(1 << 20, 'x');
    const fd = openSync(join(mountpoint(), 'data'), 'w');
    for (let i = 0; i < mib * 0.8; i++) writeSync(fd, data);
    fsyncSync(fd);
    closeSync(fd);
    sh('xfs_io', '-x', '-c', 'shutdown -f', mountpoint());
    sh('umount', mountpoint());
    // 1: recovered.
    let report = '';
    const seconds = timed(() => {
      report = shEnding(1, EXT4D, 'replay', '--json', image());
    });
    const megabytes = ((JSON.parse(report) as { log: { blocks: number } }).log.blocks * 4096) / 1e6;
    points.add(mib, `${mib} MiB`, { 'replay, ms': seconds * 1000, 'MB of blocks': megabytes });
  }
  const title = 'Replay of a full log';
  return drawing(title, 'MiB of the log', 'ms, MB', points.of('replay, ms', 'MB of blocks'));
}

function main(): void {
  let wanted: { out: string; most: number; curves: string[] };
  try {
    const { values } = parseArgs({
      options: {
        out: { type: 'string', default: 'docs/scale' },
        most: { type: 'string', default: '1000' },
        curve: { type: 'string', multiple: true, default: ['files', 'image', 'full', 'directory', 'extents', 'log'] },
      },
    });
    wanted = { out: values.out, most: Number(values.most) * 1000, curves: values.curve };
    if (!(wanted.most >= 10_000)) throw new Error('too few');
  } catch {
    process.stderr.write(USAGE);
    process.exit(1);
  }
  const curves: Record<string, () => string> = {
    files: () => files(wanted.most),
    image: images,
    full,
    directory: () => directory(wanted.most),
    extents: () => extents(wanted.most),
    log,
  };
  mkdirSync(wanted.out, { recursive: true });
  scratch = mkdtempSync('/dev/shm/ext4d-scale-');
  mkdirSync(mountpoint());
  try {
    for (const name of wanted.curves) writeFileSync(join(wanted.out, `${name}.svg`), curves[name]());
  } finally {
    if (readFileSync('/proc/self/mountinfo', 'utf8').includes(scratch)) spawn('umount', ['-l', mountpoint()]);
    rmSync(scratch, { recursive: true, force: true });
  }
}

main();
