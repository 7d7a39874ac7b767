/**
 * The comparison: the same work on ext4d, on fuse2fs and on the kernel's ext4, in turns, on images in memory and on disk;
 * medians and their ratios. `npm run bench`, as root, with fio and fuse2fs installed.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { makeTarball, ofTheDisk, ROWS, type Row } from './rows.js';
import { availableServers, mountOptions, type Server } from './servers.js';
import { ENV, isInstalled, sh, touchMemory } from './shell.js';
import { type Figures, table } from './table.js';

const USAGE = `usage: npm run bench [-- OPTIONS]      as root; needs fio and python3, and fuse2fs to compare with
  --rounds N         5; the medians are of so many
  --on memory|disk   only there; otherwise both
  --disk DIR         where the disk is (${tmpdir()})
  --row NAME         only this row; may be repeated. Some need those before them
  --server NAME      only ext4d, fuse2fs or kernel; may be repeated
  --options WORDS    mount options for ext4d
`;

interface Options {
  readonly rounds: number;
  readonly places: readonly { name: string; directory: string }[];
  readonly rows: readonly Row[];
  readonly servers: readonly Server[];
}

function options(): Options {
  try {
    const { values } = parseArgs({
      options: {
        rounds: { type: 'string', default: '5' },
        on: { type: 'string' },
        disk: { type: 'string', default: tmpdir() },
        row: { type: 'string', multiple: true },
        server: { type: 'string', multiple: true },
        options: { type: 'string', default: '' },
      },
    });
    const { on, row, server } = values;
    mountOptions.ext4d = values.options;
    const places = [
      { name: 'memory', directory: '/dev/shm' },
      { name: 'disk', directory: values.disk },
    ].filter(({ name }) => on === undefined || on === name);
    const rows = ROWS.filter(({ name }) => row === undefined || row.includes(name));
    const servers = availableServers().filter(({ name }) => server === undefined || server.includes(name));
    const rounds = Number(values.rounds);
    if (rounds >= 1 && places.length > 0 && rows.length > 0 && servers.length > 0)
      return { rounds, places, rows, servers };
  } catch {
    // Told below.
  }
  process.stderr.write(USAGE);
  process.exit(1);
}

const IMAGE_MIB = 3072;

/** As a disk is: without holes, whose first write would measure the filesystem that the image is on. */
function makeDisk(image: string): void {
  sh('dd', 'if=/dev/zero', `of=${image}`, 'bs=1M', `count=${IMAGE_MIB}`, 'conv=fsync', 'status=none');
}

/** What the disk itself gives, for the rows that are compared with it. */
function measureDisk(scratch: string, rows: readonly Row[], figures: Figures): void {
  for (const { name, disk } of rows) {
    if (disk === undefined) continue;
    const key = `disk ${name}`;
    figures.set(key, [...(figures.get(key) ?? []), ofTheDisk(scratch, disk)]);
  }
  rmSync(join(scratch, 'big'), { force: true });
}

/** One server on a fresh filesystem: a figure for each row. */
function measure(server: Server, scratch: string, rows: readonly Row[], figures: Figures): void {
  const image = join(scratch, 'image');
  const directory = join(scratch, 'mnt');
  sh('mke2fs', '-q', '-F', '-t', 'ext4', '-E', 'lazy_itable_init=0,nodiscard', image);
  sh('sync');
  const unmount = server.mount(image, directory);
  try {
    const root = join(directory, 'bench');
    mkdirSync(root);
    for (const row of rows) {
      touchMemory();
      const key = `${server.name} ${row.name}`;
      figures.set(key, [...(figures.get(key) ?? []), row.run(root)]);
    }
  } finally {
    unmount();
  }
}

function compare(place: { name: string; directory: string }, { rounds, rows, servers }: Options): void {
  const scratch = mkdtempSync(join(place.directory, 'ext4d-bench-'));
  const figures: Figures = new Map();
  try {
    mkdirSync(join(scratch, 'mnt'));
    makeTarball(scratch);
    makeDisk(join(scratch, 'image'));
    for (let round = 0; round < rounds; round++) {
      // Nobody is always the first.
      const turn = servers.map((_, i) => servers[(i + round) % servers.length]);
      for (const server of turn) measure(server, scratch, rows, figures);
      if (place.name === 'disk') measureDisk(scratch, rows, figures);
      process.stderr.write(`${place.name}: round ${round + 1} of ${rounds}\n`);
    }
  } finally {
    if (readFileSync('/proc/self/mountinfo', 'utf8').includes(scratch))
      spawnSync('umount', ['-l', join(scratch, 'mnt')], { env: ENV });
    rmSync(scratch, { recursive: true, force: true });
  }
  process.stdout.write(
    `\nImages ${place.name === 'disk' ? 'on' : 'in'} ${place.name}, medians of ${rounds} rounds\n\n`,
  );
  process.stdout.write(table(rows, figures, place.name === 'disk'));
}

function main(): void {
  const chosen = options();
  if (process.getuid?.() !== 0) {
    process.stderr.write('bench: the kernel mount and dropping caches need root\n');
    process.exit(1);
  }
  if (!isInstalled('fio')) {
    process.stderr.write('bench: fio is missing: apt install fio fuse2fs\n');
    process.exit(1);
  }
  const today = new Date().toISOString().slice(0, 10);
  const memory = Math.round(totalmem() / 2 ** 30);
  process.stdout.write(
    `${today}, ${cpus().length} processors, ${memory} GiB, Linux ${release().split('-')[0]}, Node ${process.version}\n`,
  );
  for (const place of chosen.places) compare(place, chosen);
}

main();
