/** The work that is timed, run in a process of its own on a mounted directory: `node workloads.js NAME DIRECTORY`. */
import {
  closeSync,
  fdatasyncSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const FILES = 5000;
const PER_DIRECTORY = 500;
const MIB = 1 << 20;

type Workload = (root: string) => { count: number; unit: string };

function eachFile(root: string, prefix: string, visit: (path: string) => void): void {
  for (let d = 0; d < FILES / PER_DIRECTORY; d++) {
    for (let i = 0; i < PER_DIRECTORY; i++) visit(join(root, `d${d}`, `${prefix}${i}`));
  }
}

/** Every workload but the first of a chain finds what the one before it left. */
export const WORKLOADS: Record<string, Workload> = {
  create(root) {
    for (let d = 0; d < FILES / PER_DIRECTORY; d++) mkdirSync(join(root, `d${d}`));
    eachFile(root, 'f', (path) => closeSync(openSync(path, 'wx')));
    return { count: FILES, unit: 'files/s' };
  },
  stat(root) {
    eachFile(root, 'f', (path) => statSync(path));
    return { count: FILES, unit: 'files/s' };
  },
  rename(root) {
    eachFile(root, 'f', (path) => renameSync(path, path.replace(/f(\d+)$/, 'g$1')));
    return { count: FILES, unit: 'files/s' };
  },
  unlink(root) {
    eachFile(root, 'g', (path) => unlinkSync(path));
    for (const directory of readdirSync(root)) rmSync(join(root, directory), { recursive: true });
    return { count: FILES, unit: 'files/s' };
  },
  small4k_write(root) {
    const data = Buffer.alloc(4096, 'x');
    mkdirSync(join(root, 'small'));
    for (let i = 0; i < FILES; i++) {
      const fd = openSync(join(root, 'small', `f${i}`), 'wx');
      writeSync(fd, data);
      closeSync(fd);
    }
    return { count: FILES, unit: 'files/s' };
  },
  seqwrite_fsync(root) {
    const data = Buffer.alloc(MIB, 'x');
    const fd = openSync(join(root, 'big'), 'w');
    for (let i = 0; i < 512; i++) writeSync(fd, data);
    fsyncSync(fd);
    closeSync(fd);
    return { count: 512, unit: 'MiB/s' };
  },
  seqread_cold(root) {
    const data = Buffer.alloc(MIB);
    const fd = openSync(join(root, 'big'), 'r');
    let count = 0;
    while (readSync(fd, data, 0, MIB, null) > 0) count++;
    closeSync(fd);
    return { count, unit: 'MiB/s' };
  },
  randread4k_cold(root) {
    const data = Buffer.alloc(4096);
    const fd = openSync(join(root, 'big'), 'r');
    let state = 1;
    for (let i = 0; i < 20_000; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      readSync(fd, data, 0, 4096, (state % (512 * 256)) * 4096);
    }
    closeSync(fd);
    return { count: 20_000, unit: 'reads/s' };
  },
  append4k_fsync(root) {
    const data = Buffer.alloc(4096, 'y');
    const fd = openSync(join(root, 'log'), 'w');
    for (let i = 0; i < 2000; i++) {
      writeSync(fd, data);
      fdatasyncSync(fd);
    }
    closeSync(fd);
    return { count: 2000, unit: 'fsyncs/s' };
  },
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , name, root] = process.argv;
  const started = performance.now();
  const { count, unit } = WORKLOADS[name](root);
  const seconds = (performance.now() - started) / 1000;
  process.stdout.write(JSON.stringify({ name, perSecond: count / seconds, unit }));
}
