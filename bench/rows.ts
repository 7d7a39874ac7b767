/** The rows of the comparison, in the order in which they run on one mount, and what each is meant to reach. */
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { dropCaches, sh, timed } from './shell.js';

const METADATA = join(dirname(fileURLToPath(import.meta.url)), '../../bench/metadata.py');
/** Of the one large file, and of what is written to it in the row without a time limit. */
const FILE_MIB = 512;
const UNWRITTEN_MIB = 128;
const SECONDS = 3;

export interface Row {
  readonly name: string;
  readonly unit: 'MB/s' | 'IOPS' | 'ops/s' | 's';
  /** Of the kernel's figure; for seconds the other way round: at most so many times the kernel's. */
  readonly goal: number;
  /** The same for images on disk, where it differs. */
  readonly goalOnDisk?: number;
  /** On disk the goal is of what the disk itself gives, not of the kernel's figure. */
  readonly disk?: 'read' | 'write';
  /** How many times as fast as fuse2fs it is to be as well. */
  readonly overFuse2fs?: number;
  run(root: string): number;
}

interface FioJob {
  readonly bw_bytes: number;
  readonly iops: number;
}

/** fio on the one large file of `root`: MB/s of transfers of 1 MiB, otherwise operations per second. */
function fio(root: string, rw: string, ...more: string[]): number {
  const args = [`--directory=${root}`, '--name=j', '--output-format=json', `--rw=${rw}`, ...more];
  const report = JSON.parse(sh('fio', ...args)) as { jobs: { read: FioJob; write: FioJob }[] };
  const job = report.jobs[0][rw.endsWith('read') ? 'read' : 'write'];
  return more.includes('--bs=1m') ? job.bw_bytes / 1e6 : job.iops;
}

const BIG = ['--filename=big', `--size=${FILE_MIB}m`];
const STREAM = [...BIG, '--bs=1m'];
const RANDOM = [...BIG, '--bs=4k', '--time_based', `--runtime=${SECONDS}`];
const BUFFERED = '--ioengine=psync';
const DIRECT = (depth: number) => ['--ioengine=libaio', `--iodepth=${depth}`, '--direct=1'];
const NO_SPACE_AHEAD = '--fallocate=none';

/** What the disk of the directory gives to direct transfers like those of the rows, of a file that has its blocks: MB/s. */
export function ofTheDisk(directory: string, rw: 'read' | 'write'): number {
  dropCaches();
  return fio(directory, rw, ...STREAM, ...DIRECT(8), '--overwrite=1');
}

/** Files per second: one of those in metadata.py. */
const metadata = (work: string, root: string) => Number(sh('python3', METADATA, work, root));

export const ROWS: readonly Row[] = [
  {
    name: 'seqwrite_buf_fsync',
    unit: 'MB/s',
    goal: 1.1,
    run: (root) => fio(root, 'write', ...STREAM, BUFFERED, NO_SPACE_AHEAD, '--end_fsync=1'),
  },
  {
    name: 'seqread_buf_cold',
    unit: 'MB/s',
    goal: 0.5,
    goalOnDisk: 0.95,
    run(root) {
      dropCaches();
      return fio(root, 'read', ...STREAM, BUFFERED);
    },
  },
  {
    name: 'seqread_buf_warm',
    unit: 'MB/s',
    goal: 1,
    run: (root) => fio(root, 'read', ...STREAM, BUFFERED, '--invalidate=0'),
  },
  {
    name: 'seqwrite_dio',
    unit: 'MB/s',
    goal: 0.95,
    disk: 'write',
    run: (root) => fio(root, 'write', ...STREAM, ...DIRECT(8), NO_SPACE_AHEAD),
  },
  {
    name: 'seqread_dio',
    unit: 'MB/s',
    goal: 0.95,
    disk: 'read',
    run: (root) => fio(root, 'read', ...STREAM, ...DIRECT(8)),
  },
  {
    name: 'randread_buf_cold',
    unit: 'IOPS',
    goal: 1.2,
    run(root) {
      dropCaches();
      return fio(root, 'randread', ...RANDOM, BUFFERED);
    },
  },
  {
    name: 'randwrite_buf',
    unit: 'IOPS',
    goal: 0.85,
    run: (root) => fio(root, 'randwrite', ...RANDOM, BUFFERED, '--end_fsync=1'),
  },
  { name: 'randread_dio', unit: 'IOPS', goal: 0.8, run: (root) => fio(root, 'randread', ...RANDOM, ...DIRECT(16)) },
  { name: 'randwrite_dio', unit: 'IOPS', goal: 0.8, run: (root) => fio(root, 'randwrite', ...RANDOM, ...DIRECT(16)) },
  {
    name: 'randwrite_dio_unwritten',
    unit: 'IOPS',
    goal: 0.5,
    run(root) {
      rmSync(join(root, 'big'));
      const figure = fio(
        root,
        'randwrite',
        ...BIG,
        '--bs=4k',
        ...DIRECT(16),
        '--fallocate=posix',
        `--io_size=${UNWRITTEN_MIB}m`,
      );
      rmSync(join(root, 'big'));
      return figure;
    },
  },
  {
    name: 'append4k_fsync',
    unit: 'IOPS',
    goal: 1,
    run(root) {
      const limits = ['--size=64m', '--time_based', `--runtime=${SECONDS}`];
      const figure = fio(root, 'write', '--filename=log', '--bs=4k', '--fsync=1', BUFFERED, ...limits);
      rmSync(join(root, 'log'));
      return figure;
    },
  },
  { name: 'create', unit: 'ops/s', goal: 0.5, overFuse2fs: 4, run: (root) => metadata('create', root) },
  {
    name: 'stat_cold',
    unit: 'ops/s',
    goal: 0.7,
    run(root) {
      dropCaches();
      return metadata('stat', root);
    },
  },
  {
    name: 'readdir_stat',
    unit: 'ops/s',
    goal: 0.7,
    run(root) {
      dropCaches();
      return metadata('readdir_stat', root);
    },
  },
  { name: 'rename', unit: 'ops/s', goal: 0.5, overFuse2fs: 4, run: (root) => metadata('rename', root) },
  { name: 'unlink', unit: 'ops/s', goal: 0.5, overFuse2fs: 4, run: (root) => metadata('unlink', root) },
  {
    name: 'small4k_write',
    unit: 'ops/s',
    goal: 0.5,
    run: (root) => metadata('small4k', root),
  },
  {
    name: 'untar',
    unit: 's',
    goal: 2,
    run(root) {
      const tree = join(root, 'tree');
      mkdirSync(tree);
      return timed(() => {
        sh('tar', '-C', tree, '-xf', tarball);
        sh('sync', '-f', root);
      });
    },
  },
  {
    name: 'rmrf',
    unit: 's',
    goal: 3,
    run: (root) =>
      timed(() => {
        sh('rm', '-rf', join(root, 'tree'));
        sh('sync', '-f', root);
      }),
  },
];

let tarball = '';

/** 8,000 files in 400 directories, 140 MB: most of them a few kilobytes, as sources are. */
export function makeTarball(scratch: string): void {
  const tree = join(scratch, 'source');
  const data = Buffer.alloc(256 << 10, 'ext4d ');
  let state = 1;
  for (let d = 0; d < 400; d++) {
    const directory = join(tree, `a${d % 20}`, `b${d}`);
    mkdirSync(directory, { recursive: true });
    for (let i = 0; i < 20; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const fd = openSync(join(directory, `file${i}.c`), 'w');
      writeSync(fd, data, 0, (state >>> 8) % (i === 0 ? 256 << 10 : 12 << 10));
      closeSync(fd);
    }
  }
  tarball = join(scratch, 'tree.tar');
  sh('tar', '-C', tree, '-cf', tarball, '.');
  rmSync(tree, { recursive: true });
}
