/**
 * Fast commits that the kernel wrote: what was fsynced is there after the power went, as the kernel showed it before.
 * Judged by what the mounted filesystem showed, not by the kernel's own replay, which loses some of it.
 */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  closeSync,
  copyFileSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmdirSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { MemoryDevice } from '../../src/block/memory-device.js';
import { closeVolume, openVolume } from '../../src/ext4/open.js';
import type { LogReport } from '../../src/ext4/recover.js';
import { noKernelDirty, useOnKernel } from '../support/kernel-dirty.js';
import { fsckFile, run, withScratch } from '../support/mke2fs.js';
import { requireOrSkip } from '../support/server.js';
import { describeTree, type Tree, treeDifferences } from '../support/tree.js';

interface Scenario {
  /** Paths are below the mount point; a full commit follows. */
  before?(at: (path: string) => string): void;
  /** What becomes durable by fast commits; `held` is closed once the power has gone. */
  changes(at: (path: string) => string, held: number[]): void;
  readonly mountOptions?: string;
  /** Block maps cannot do it, or the kernel commits it in full. */
  readonly needsExtents?: boolean;
  /** The kernel commits it in full where content lies in inodes. */
  readonly fullIfInline?: boolean;
}

function fsync(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function write(path: string, content: string | Buffer): void {
  writeFileSync(path, content);
  fsync(path);
}

function must(command: string, ...args: string[]): void {
  const { code, output } = run(command, args);
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: exit ${code}: ${output}`);
}

/** A file without a name gets one (O_TMPFILE, linkat), and is synced. */
const LINK_TMPFILE = `
  my ($dir, $name, $synced) = @ARGV;
  sysopen(F, $dir, 020200000 | 2, 0644) or die "tmpfile: $!";
  syswrite(F, "from nowhere\\n" x 1000);
  if ($synced) { syscall(74, fileno(F)) == 0 or die "fsync: $!"; }
  syscall(265, -100, "/proc/self/fd/" . fileno(F), -100, $name, 0x400) == 0 or die "linkat: $!";
  syscall(74, fileno(F)) == 0 or die "fsync: $!";
`;

const lines = (count: number, text: string) =>
  Buffer.from(Array.from({ length: count }, (_, i) => `${text} ${i}\n`).join(''));

const SCENARIOS: Record<string, Scenario> = {
  'a file is created': {
    changes(at) {
      write(at('new'), lines(3000, 'line'));
    },
  },
  'empty files in several directories': {
    before(at) {
      for (const name of ['a', 'b', 'c']) mkdirSync(at(name));
    },
    changes(at) {
      for (let i = 0; i < 60; i++) writeFileSync(at(`${'abc'[i % 3]}/${i}`), '');
      fsync(at('a/0'));
    },
  },
  'directories with files in them': {
    before(at) {
      mkdirSync(at('old'));
    },
    changes(at) {
      mkdirSync(at('old/one'));
      mkdirSync(at('old/one/two'));
      mkdirSync(at('three'));
      write(at('old/one/two/file'), lines(10, 'deep'));
      write(at('three/file'), lines(10, 'flat'));
    },
  },
  'a directory that outgrows a block': {
    changes(at) {
      mkdirSync(at('many'));
      for (let i = 0; i < 45; i++) writeFileSync(at(`many/${i}${'n'.repeat(100)}`), '');
      fsync(at(`many/0${'n'.repeat(100)}`));
    },
  },
  'a directory is made and removed, another only removed': {
    before(at) {
      mkdirSync(at('old'));
      mkdirSync(at('kept'));
    },
    changes(at) {
      mkdirSync(at('brief'));
      write(at('kept/a'), 'a');
      rmdirSync(at('brief'));
      rmdirSync(at('old'));
      write(at('kept/b'), 'b');
    },
  },
  'hard links come and go': {
    before(at) {
      writeFileSync(at('one'), lines(100, 'one'));
      writeFileSync(at('two'), lines(100, 'two'));
      linkSync(at('two'), at('second'));
    },
    changes(at) {
      linkSync(at('one'), at('another'));
      unlinkSync(at('two'));
      fsync(at('one'));
      linkSync(at('one'), at('third'));
      unlinkSync(at('one'));
      fsync(at('second'));
    },
  },
  'files are deleted': {
    needsExtents: true,
    before(at) {
      for (let i = 0; i < 20; i++) writeFileSync(at(`${i}`), Buffer.alloc(i * 5000, i));
    },
    changes(at) {
      for (let i = 0; i < 20; i += 2) unlinkSync(at(`${i}`));
      write(at('1'), 'one');
    },
  },
  'a deleted file is still open': {
    needsExtents: true,
    fullIfInline: true,
    before(at) {
      writeFileSync(at('old'), Buffer.alloc(100_000, 1));
      writeFileSync(at('kept'), 'k');
    },
    changes(at, held) {
      held.push(openSync(at('old'), 'r+'), openSync(at('new'), 'w+'));
      for (const fd of held) writeSync(fd, Buffer.alloc(50_000, 2));
      unlinkSync(at('old'));
      unlinkSync(at('new'));
      for (const fd of held) fsyncSync(fd);
      write(at('kept'), 'still here');
    },
  },
  'names are reused': {
    before(at) {
      writeFileSync(at('a'), lines(500, 'first'));
    },
    changes(at) {
      for (let i = 0; i < 5; i++) {
        unlinkSync(at('a'));
        write(at('a'), lines(500 + i, 'again'));
      }
      renameSync(at('a'), at('b'));
      write(at('a'), 'new');
    },
  },
  'a file is renamed over another': {
    before(at) {
      writeFileSync(at('to'), lines(1000, 'old'));
      mkdirSync(at('d'));
    },
    changes(at) {
      write(at('d/from'), lines(2000, 'new'));
      renameSync(at('d/from'), at('to'));
      fsync(at('to'));
    },
  },
  'a file grows, shrinks and grows': {
    before(at) {
      writeFileSync(at('file'), Buffer.alloc(1 << 20, 7));
    },
    changes(at) {
      appendFileSync(at('file'), Buffer.alloc(300_000, 8));
      fsync(at('file'));
      truncateSync(at('file'), 123_456);
      fsync(at('file'));
      appendFileSync(at('file'), Buffer.alloc(10_000, 9));
      fsync(at('file'));
    },
  },
  'a file of many extents': {
    before(at) {
      writeFileSync(at('file'), '');
    },
    changes(at) {
      const fd = openSync(at('file'), 'r+');
      for (let i = 0; i < 700; i++) writeSync(fd, Buffer.alloc(4096, i), 0, 4096, i * 8192);
      fsyncSync(fd);
      closeSync(fd);
    },
  },
  'holes in a file of many extents': {
    needsExtents: true,
    before(at) {
      const fd = openSync(at('file'), 'w');
      for (let i = 0; i < 500; i++) writeSync(fd, Buffer.alloc(4096, i), 0, 4096, i * 8192);
      closeSync(fd);
    },
    changes(at) {
      must('fallocate', '-p', '-o', String(100 * 8192), '-l', String(200 * 8192), at('file'));
      fsync(at('file'));
      write(at('other'), lines(5000, 'other'));
      truncateSync(at('file'), 350 * 8192);
      fsync(at('file'));
    },
  },
  'small files grow and shrink': {
    before(at) {
      for (const [i, size] of [0, 20, 60, 61, 100, 150].entries()) writeFileSync(at(`${i}`), Buffer.alloc(size, 'o'));
    },
    changes(at) {
      for (let i = 0; i < 6; i++) write(at(`new${i}`), Buffer.alloc(i * 30, 'n'));
      for (let i = 0; i < 6; i++) {
        truncateSync(at(`${i}`), 10 * i);
        fsync(at(`${i}`));
        appendFileSync(at(`${i}`), Buffer.alloc(30 * i, 'a'));
        fsync(at(`${i}`));
      }
      appendFileSync(at('new1'), Buffer.alloc(5000, 'b'));
      fsync(at('new1'));
      truncateSync(at('new5'), 0);
      appendFileSync(at('new5'), Buffer.alloc(100, 'c'));
      fsync(at('new5'));
      truncateSync(at('new2'), 100_000);
      fsync(at('new2'));
    },
  },
  'space is preallocated and written': {
    needsExtents: true,
    before(at) {
      writeFileSync(at('file'), '');
    },
    changes(at) {
      must('fallocate', '-l', '1000000', at('file'));
      fsync(at('file'));
      const fd = openSync(at('file'), 'r+');
      writeSync(fd, Buffer.alloc(8192, 5), 0, 8192, 400_000);
      fsyncSync(fd);
      closeSync(fd);
      must('fallocate', '-n', '-o', '2000000', '-l', '500000', at('file'));
      fsync(at('file'));
    },
  },
  'modes and times change': {
    before(at) {
      writeFileSync(at('file'), 'x');
    },
    changes(at) {
      chmodSync(at('file'), 0o4751);
      must('touch', '-d', '2001-02-03 04:05:06.789', at('file'));
      fsync(at('file'));
    },
  },
  'a file without a name gets one': {
    changes(at) {
      must('perl', '-e', LINK_TMPFILE, at(''), at('linked'), '0');
    },
  },
  'a file without a name is synced, then gets one': {
    changes(at) {
      must('perl', '-e', LINK_TMPFILE, at(''), at('linked'), '1');
    },
  },
};

const LAYOUTS: Record<string, readonly string[]> = {
  '4 KiB blocks': [],
  '1 KiB blocks, no checksums': ['-b', '1024', '-O', '^metadata_csum'],
  'block maps': ['-b', '1024', '-O', '^extent,^64bit'],
  bigalloc: ['-O', 'bigalloc', '-C', '16384'],
  'inline data': ['-O', 'inline_data', '-I', '256'],
};

/** Seeded operations on a few names, so that they meet; all is synced at the end. */
function randomChanges(seed: number, operations: number): Scenario['changes'] {
  return (at) => {
    let state = seed;
    const below = (limit: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 0x1_0000_0000) * limit);
    };
    const name = () => at(['', 'd1/', 'd2/', 'd1/d3/'][below(4)] + 'abcdefgh'[below(8)]);
    const change = (path: string, apply: (fd: number) => void) => {
      const fd = openSync(path, 'r+');
      try {
        apply(fd);
        if (below(2) === 0) fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
    };
    const steps: (() => void)[] = [
      () => writeFileSync(name(), Buffer.alloc(below(60_000), below(256))),
      () => writeFileSync(name(), Buffer.alloc(below(60_000), below(256))),
      () => change(name(), (fd) => writeSync(fd, Buffer.alloc(below(20_000), below(256)), 0, null, below(400_000))),
      () => change(name(), (fd) => writeSync(fd, Buffer.alloc(below(20_000), below(256)), 0, null, below(400_000))),
      () => change(name(), (fd) => ftruncateSync(fd, below(100_000))),
      () => change(name(), () => {}),
      () => unlinkSync(name()),
      () => renameSync(name(), name()),
      () => linkSync(name(), name()),
      () => mkdirSync(at(['d1', 'd2', 'd1/d3'][below(3)])),
      () => rmdirSync(at(['d1', 'd2', 'd1/d3'][below(3)])),
      () => run('fallocate', ['-p', '-o', String(below(80) * 1024), '-l', String(1024 + below(80_000)), name()]),
      () => run('fallocate', ['-o', String(below(80) * 1024), '-l', String(1024 + below(80_000)), name()]),
    ];
    for (let i = 0; i < operations; i++) {
      try {
        steps[below(steps.length)]();
      } catch (error) {
        // A name that is not there, or a directory that is not empty: the next step goes on.
        if (!(error instanceof Error && 'code' in error)) throw error;
      }
    }
    for (const [path, line] of describeTree(at(''))) if (line.startsWith('mode 100')) fsync(at(path));
    write(at('last'), 'x');
  };
}

/** The image as the power left it, and the tree as it was. */
function powerCut(scratch: string, scenario: Scenario, mkfs: readonly string[]): { image: string; tree: Tree } {
  const image = join(scratch, 'image');
  let tree: Tree = new Map();
  const options = {
    sizeMiB: 64,
    mkfs: ['-O', 'fast_commit', ...mkfs],
    // Nothing but fsync commits.
    mountOptions: `commit=600${scenario.mountOptions ? `,${scenario.mountOptions}` : ''}`,
  };
  useOnKernel(scratch, options, (mountPoint, backing) => {
    const at = (path: string) => join(mountPoint, path);
    writeFileSync(at('first'), 'the first transaction');
    scenario.before?.(at);
    run('sync', ['-f', mountPoint]);
    const held: number[] = [];
    try {
      scenario.changes(at, held);
      copyFileSync(backing, image);
      tree = describeTree(mountPoint);
    } finally {
      for (const fd of held) closeSync(fd);
    }
  });
  return { image, tree };
}

/** Directories get the time of what was replayed in them, which is not recorded. */
function withoutDirectoryTimes(tree: Tree): Tree {
  return new Map(
    [...tree].map(([path, line]) => [path, line.startsWith('mode 4') ? line.replace(/mtime \d+/, '') : line]),
  );
}

/** What the kernel shows of a recovered image. */
function kernelTree(image: string, mountPoint: string): Tree {
  must('mount', '-i', '-t', 'ext4', '-o', 'loop,ro', image, mountPoint);
  try {
    return describeTree(mountPoint);
  } finally {
    run('umount', [mountPoint]);
  }
}

/** Recovers the image file as a mount does. */
function recover(path: string): LogReport {
  const bytes = new Uint8Array(readFileSync(path));
  const { volume, report } = openVolume(new MemoryDevice(bytes));
  assert.deepEqual(report.readOnlyReasons, []);
  closeVolume(volume);
  writeFileSync(path, bytes);
  assert.ok(report.log);
  return report.log;
}

/** Returns how many fast commits were replayed. */
function checkRecovered(scenario: Scenario, mkfs: readonly string[], what: string): number {
  return withScratch((scratch) => {
    const { image, tree } = powerCut(scratch, scenario, mkfs);
    const { fastCommits } = recover(image);
    const { code, output } = fsckFile(image);
    assert.equal(code, 0, `${what} ${output}`);
    const got = kernelTree(image, join(scratch, 'mount'));
    assert.deepEqual(treeDifferences(withoutDirectoryTimes(tree), withoutDirectoryTimes(got)), [], what);
    return fastCommits;
  });
}

/** More of them: EXT4D_SEED is the first, EXT4D_RUNS how many. */
const FIRST_SEED = Number(process.env.EXT4D_SEED ?? 1);
const SEEDS = Number(process.env.EXT4D_RUNS ?? 4);

describe('fast commits that the kernel wrote', function () {
  this.timeout(60_000 + SEEDS * 20_000);
  const obstacle = noKernelDirty();
  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, obstacle);
  });

  for (const [name, scenario] of Object.entries(SCENARIOS)) {
    for (const [layout, mkfs] of Object.entries(LAYOUTS)) {
      if (scenario.needsExtents && layout === 'block maps') continue;
      if (scenario.fullIfInline && layout === 'inline data') continue;
      it(`${name} (${layout})`, () => assert.ok(checkRecovered(scenario, mkfs, '') > 0, 'the kernel committed fast'));
    }
  }

  for (const mountOptions of ['', 'data=writeback', 'nodelalloc', 'data=writeback,nodelalloc,dioread_lock']) {
    const layouts = [[], ['-b', '1024'], LAYOUTS.bigalloc, LAYOUTS['inline data']];
    it(`whatever was done (${mountOptions === '' ? 'default options' : mountOptions})`, () => {
      let fastCommits = 0;
      for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
        const changes = randomChanges(seed, 60);
        fastCommits += checkRecovered({ changes, mountOptions }, layouts[seed % layouts.length], `seed ${seed}`);
      }
      assert.ok(fastCommits > 0, 'the kernel committed fast');
    });
  }
});
