/**
 * The comparison: the same work on ext4d, on fuse2fs and on the kernel's ext4, round by round on one image size in
 * memory, and the medians' ratios. `npm run bench [-- --rounds N] [--size MiB]`. Root, and fuse2fs installed.
 */
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { WORKLOADS } from './workloads.js';

const HERE = dirname(fileURLToPath(import.meta.url));
const EXT4D = resolve(HERE, '../../bin/ext4d');
const ENV = { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` };
/** Read with the page cache emptied first. */
const COLD = new Set(['stat', 'seqread_cold', 'randread4k_cold']);

function sh(command: string, ...args: string[]): string {
  const result = spawnSync(command, args, { env: ENV, encoding: 'utf8', timeout: 300_000 });
  if (result.status !== 0) throw new Error(`${command} ${args.join(' ')}: exit ${result.status}: ${result.stderr}`);
  return result.stdout.trim();
}

interface Server {
  readonly name: string;
  mount(image: string, directory: string): () => void;
}

const SERVERS: Server[] = [
  {
    name: 'ext4d',
    mount(image, directory) {
      sh(EXT4D, 'mount', image, directory);
      return () => sh(EXT4D, 'umount', directory);
    },
  },
  {
    name: 'fuse2fs',
    mount(image, directory) {
      sh('fuse2fs', '-o', 'fakeroot', image, directory);
      return () => {
        sh('umount', directory);
        waitForEndOf('fuse2fs', image);
      };
    },
  },
  {
    name: 'kernel',
    mount(image, directory) {
      sh('mount', '-o', 'loop', image, directory);
      return () => sh('umount', directory);
    },
  },
];

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

/** What the workloads need: half a gigabyte of one file, and small ones. */
const LEAST_MIB = 1024;

function options(): { rounds: number; sizeMiB: number } {
  try {
    const { values } = parseArgs({ options: { rounds: { type: 'string' }, size: { type: 'string' } } });
    const rounds = Number(values.rounds ?? 3);
    const sizeMiB = Number(values.size ?? 3072);
    if (rounds >= 1 && sizeMiB >= LEAST_MIB) return { rounds, sizeMiB };
  } catch {
    // Told below.
  }
  process.stderr.write(`usage: npm run bench [-- --rounds N] [--size MiB]   (at least ${LEAST_MIB} MiB, in memory)\n`);
  process.exit(1);
}

/** A plain umount returns before a FUSE server has written everything back. */
function waitForEndOf(program: string, image: string): void {
  const running = () =>
    readdirSync('/proc').some((pid) => {
      if (!/^\d+$/.test(pid)) return false;
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
        return words[0].endsWith(program) && words.includes(image);
      } catch {
        return false;
      }
    });
  while (running()) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
}

function runServer(
  server: Server,
  image: string,
  directory: string,
  results: Map<string, number[]>,
  units: Map<string, string>,
) {
  const unmount = server.mount(image, directory);
  try {
    const root = join(directory, 'bench');
    mkdirSync(root);
    for (const name of Object.keys(WORKLOADS)) {
      if (COLD.has(name)) {
        sh('sync');
        writeFileSync('/proc/sys/vm/drop_caches', '3');
      }
      const output = sh(process.execPath, join(HERE, 'workloads.js'), name, root);
      const { perSecond, unit } = JSON.parse(output) as { perSecond: number; unit: string };
      const key = `${server.name} ${name}`;
      results.set(key, [...(results.get(key) ?? []), perSecond]);
      units.set(name, unit);
    }
  } finally {
    unmount();
  }
}

function main(): void {
  if (process.getuid?.() !== 0) {
    process.stderr.write('bench: the kernel mount and dropping caches need root\n');
    process.exit(1);
  }
  const { rounds, sizeMiB } = options();
  const servers = SERVERS.filter((server) => server.name !== 'fuse2fs' || existsSync('/usr/bin/fuse2fs'));
  const scratch = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'ext4d-bench-'));
  const results = new Map<string, number[]>();
  const units = new Map<string, string>();
  try {
    const image = join(scratch, 'image');
    const directory = join(scratch, 'mnt');
    mkdirSync(directory);
    for (let round = 0; round < rounds; round++) {
      for (const server of servers) {
        rmSync(image, { force: true });
        writeFileSync(image, '');
        truncateSync(image, sizeMiB << 20);
        sh('mke2fs', '-q', '-F', '-t', 'ext4', '-E', 'lazy_itable_init=1', image);
        runServer(server, image, directory, results, units);
      }
    }
  } finally {
    const mounted = readFileSync('/proc/self/mountinfo', 'utf8').includes(scratch);
    if (mounted) spawnSync('umount', ['-l', join(scratch, 'mnt')], { env: ENV });
    rmSync(scratch, { recursive: true, force: true });
  }
  const of = (server: string, name: string) => median(results.get(`${server} ${name}`) ?? [Number.NaN]);
  process.stdout.write(`medians of ${rounds} rounds, ${sizeMiB} MiB image in memory\n`);
  process.stdout.write('row                 ext4d    fuse2fs     kernel  unit       x fuse2fs  x kernel\n');
  for (const name of Object.keys(WORKLOADS)) {
    const [ours, fuse2fs, kernel] = ['ext4d', 'fuse2fs', 'kernel'].map((server) => of(server, name));
    const cell = (value: number) => (Number.isNaN(value) ? '-' : value.toFixed(0)).padStart(10);
    const ratio = (value: number) => (Number.isNaN(value) ? '-' : value.toFixed(2)).padStart(9);
    process.stdout.write(
      `${name.padEnd(15)}${cell(ours)} ${cell(fuse2fs)} ${cell(kernel)}  ${(units.get(name) ?? '').padEnd(9)} ${ratio(ours / fuse2fs)} ${ratio(ours / kernel)}\n`,
    );
  }
}

main();
