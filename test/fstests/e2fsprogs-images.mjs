/**
 * The images of e2fsprogs' own tests (tytso/e2fsprogs): damaged ones, and logs to recover.
 *   node test/fstests/e2fsprogs-images.mjs CHECKOUT [NAME...]
 *
 * Each image of CHECKOUT/tests, and each that the scripts of its j_* tests make with debugfs, is opened, walked, written to,
 * looked at again read-only and checked, in a process of its own with little memory and time. Then every log that asks for
 * recovery is recovered by e2fsck and by ext4d: the same blocks must come of it, or both must refuse it.
 * Exit code 1 if ext4d crashed, hung, or came to another end than e2fsck.
 */
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '..', '..');
const MAIN = join(root, 'build/test/property/hostile/image-main.js');
const EXT4D = join(root, 'bin/ext4d');
const HEAP_MIB = 512;
const TIMEOUT_MS = 120_000;
const JOURNAL_SUFFIX = '.jnl';

/** Tools of this machine in the place of those that the checkout would build. */
const TEST_CONFIG = `
for tool in FSCK:e2fsck MKE2FS:mke2fs DUMPE2FS:dumpe2fs TUNE2FS:tune2fs DEBUGFS:debugfs RESIZE2FS:resize2fs; do
  path=$(command -v \${tool#*:}); eval \${tool%%:*}=$path; eval \${tool%%:*}_EXE=$path
done
CHATTR=chattr LSATTR=lsattr CRCSUM=false CLEAN_OUTPUT="sed -f $cmd_dir/filter.sed"
TZ=GMT0 LC_ALL=C E2FSCK_CONFIG=/dev/null MKE2FS_CONFIG=$SRCDIR/mke2fs.conf.in BLKID_FILE=/dev/null
EXT2FS_NO_MTAB_OK=yes E2FSPROGS_SKIP_PROGRESS=yes
export TZ LC_ALL E2FSCK_CONFIG MKE2FS_CONFIG BLKID_FILE EXT2FS_NO_MTAB_OK E2FSPROGS_SKIP_PROGRESS
`;
const ENV = {
  ...process.env,
  PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin`,
  // What e2fsck writes does not depend on when it runs.
  E2FSCK_TIME: '1700000000',
  E2FSPROGS_FAKE_TIME: '1700000000',
};

function run(command, args, options = {}) {
  const { status, signal, stdout, stderr, error } = spawnSync(command, args, {
    env: ENV,
    encoding: 'utf8',
    timeout: TIMEOUT_MS,
    maxBuffer: 1 << 28,
    ...options,
  });
  if (error && error.code !== 'ETIMEDOUT') throw error;
  return { code: status, signal: error ? 'timeout' : signal, output: `${stdout}${stderr}` };
}

/** The images that come with a test, unpacked into `to`; their paths. */
function unpack(test, name, to) {
  const image = join(to, `${name}.img`);
  const at = (file) => join(test, file);
  if (existsSync(at('image.gz'))) {
    const packed = readFileSync(at('image.gz'));
    writeFileSync(image, packed.length === 0 ? '' : gunzipSync(packed));
  } else if (existsSync(at('image.bz2'))) {
    run('sh', ['-c', 'bzip2 -dc "$0" > "$1"', at('image.bz2'), image]);
  } else if (existsSync(at('image.tar.bz2'))) {
    run('tar', ['xjf', at('image.tar.bz2'), '-C', to]);
  } else if (existsSync(at('image'))) {
    copyFileSync(at('image'), image);
  }
  if (existsSync(at('journal.gz'))) writeFileSync(image + JOURNAL_SUFFIX, gunzipSync(readFileSync(at('journal.gz'))));
}

/** The images that the script of a test makes: the suite's own way to keep them is this variable. */
function make(tests, name, to) {
  const scratch = mkdtempSync(join(to, 'script-'));
  const config = join(scratch, 'test_config');
  writeFileSync(config, TEST_CONFIG);
  const env = { ...ENV, SRCDIR: tests, TEST_CONFIG: config, JOURNAL_DUMP_DIR: to, TMPDIR: scratch, DD: 'dd' };
  const line = 'sed "s;@[A-Z_]*@;;" "$SRCDIR/test_one.in" > test_one && sh ./test_one "$SRCDIR/$0"';
  run('sh', ['-c', line, name], { cwd: scratch, env });
  rmSync(scratch, { recursive: true, force: true });
}

/** Where e2fsck may come to another end, and why. Neither does the kernel's ext4 recover them. */
const EXPECTED = new Map([
  ['f_journal', "the journal's inode is overwritten; e2fsck takes the copy of it that the superblock has"],
]);

/** What becomes of an image in a process of its own; throws what no image may lead to. */
function use(image) {
  const journal = existsSync(image + JOURNAL_SUFFIX) ? [image + JOURNAL_SUFFIX] : [];
  const { code, signal, output } = run(process.execPath, [`--max-old-space-size=${HEAP_MIB}`, MAIN, image, ...journal]);
  if (code !== 0 || signal !== null) throw new Error(`${signal ?? `exit ${code}`}: ${output}`);
  return JSON.parse(output.trim().split('\n').at(-1));
}

const asksForRecovery = (image) => /needs_recovery/.test(run('dumpe2fs', ['-h', image]).output);

/**
 * Recovers copies with both; what came of it. Same means: the same blocks as after debugfs' journal_run, where that knows the
 * kind of log, and the same blocks when e2fsck has gone over both.
 */
function compareRecovery(image, { differingBlocks, journalRun }) {
  const directory = mkdtempSync(join(dirname(image), 'recover-'));
  const at = (name) => join(directory, name);
  const external = existsSync(image + JOURNAL_SUFFIX);
  // Short names, for they are part of what is said.
  for (const copy of ['ours', 'theirs', 'replayed']) {
    copyFileSync(image, at(copy));
    if (external) copyFileSync(image + JOURNAL_SUFFIX, at(copy + JOURNAL_SUFFIX));
  }
  try {
    const there = { cwd: directory };
    const journal = (option, copy) => (external ? [option, copy + JOURNAL_SUFFIX] : []);
    const mine = run(EXT4D, ['replay', '--log-only', ...journal('--journal', 'ours'), 'ours'], there);
    const theirs = run('e2fsck', ['-fy', ...journal('-j', 'theirs'), 'theirs'], there);
    let says = lastLine(mine.output);
    if (mine.signal !== null) return { outcome: 'differs', detail: `ext4d: ${mine.signal}` };
    const refused = mine.code !== 0 && mine.code !== 1;
    const complaint = refusalOfE2fsck(theirs);
    if (refused && complaint !== null) return { outcome: 'both refuse', detail: `${says} | e2fsck: ${complaint}` };
    if (refused)
      return { outcome: 'differs', detail: `only ext4d refuses: ${says} | e2fsck: ${lastLine(theirs.output)}` };
    if (complaint !== null) return { outcome: 'differs', detail: `only e2fsck refuses: ${complaint} | ${says}` };
    const differing = [];
    if (!external) {
      try {
        journalRun(at('replayed'));
        differing.push(...differingBlocks(at('ours'), at('replayed'), image));
      } catch (error) {
        // debugfs wants sounder images than e2fsck does.
        says += ` (not compared with debugfs: ${lastLine(error.message)})`;
      }
    }
    run('e2fsck', ['-fy', ...journal('-j', 'ours'), 'ours'], there);
    differing.push(...differingBlocks(at('ours'), at('theirs'), image));
    if (differing.length === 0) return { outcome: 'same', detail: says };
    // Replaying a fast commit allocates: which blocks of a tree of extents, each decides for itself.
    if (/fast commit/.test(mine.output) && sameTree(directory))
      return { outcome: 'same', detail: `${says} (the tree)` };
    return {
      outcome: 'differs',
      detail: `blocks ${differing.slice(0, 20).join(' ')}${differing.length > 20 ? ' ...' : ''}`,
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Names and contents, as debugfs reads them. */
function sameTree(directory) {
  for (const copy of ['ours', 'theirs']) {
    mkdirSync(join(directory, `${copy}.tree`));
    run('debugfs', ['-R', `rdump / ${copy}.tree`, copy], { cwd: directory });
  }
  return run('diff', ['-r', 'ours.tree', 'theirs.tree'], { cwd: directory }).code === 0;
}

const lastLine = (output) => output.trim().split('\n').at(-1);

/** What e2fsck complains of when it throws a log away, or gives up; null if it recovers it. */
function refusalOfE2fsck({ code, output }) {
  const lines = output.split('\n');
  const recovering = lines.findIndex((line) => /recovering journal$/.test(line));
  const complaint = lines.find((line, i) =>
    i < recovering || recovering < 0
      ? /journal.*(corrupt|invalid|checksum|unsupported|not found)|(corrupt|invalid).*journal|bad magic/i.test(line)
      : /^JBD2: |^Journal (checksum|transaction)|while recovering journal/.test(line),
  );
  if (complaint !== undefined) return complaint.trim();
  return code >= 8 ? lastLine(output) : null;
}

async function main([checkout, ...names]) {
  if (checkout === undefined || !existsSync(join(checkout, 'tests'))) {
    console.error('usage: node test/fstests/e2fsprogs-images.mjs CHECKOUT-OF-E2FSPROGS [TEST...]');
    return 2;
  }
  const judges = await import(join(root, 'build/test/support/replay-compare.js'));
  const tests = resolve(checkout, 'tests');
  const scratch = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'ext4d-e2fsprogs-'));
  const counts = { images: 0, refused: 0, read: 0, written: 0, failed: 0 };
  const recoveries = { same: 0, 'both refuse': 0, 'expected to differ': 0, differs: 0 };
  try {
    for (const name of readdirSync(tests).sort()) {
      if (names.length > 0 && !names.includes(name)) continue;
      const to = join(scratch, name);
      mkdirSync(to);
      unpack(join(tests, name), name, to);
      if (readdirSync(to).length === 0 && name.startsWith('j_') && existsSync(join(tests, name, 'script')))
        make(tests, name, to);
      for (const file of readdirSync(to).filter((each) => !each.endsWith(JOURNAL_SUFFIX))) {
        const image = join(to, file);
        counts.images++;
        try {
          const { outcome, reason, corruptions } = use(image);
          counts[outcome]++;
          console.log(
            `${basename(file, '.img')}: ${outcome}${reason ? ` (${reason})` : ''}${corruptions ? `, ${corruptions} corruptions` : ''}`,
          );
        } catch (error) {
          counts.failed++;
          console.log(`${name}: FAILED: ${error.message}`);
        }
        if (!asksForRecovery(image)) continue;
        const { outcome, detail } = compareRecovery(image, judges);
        recoveries[EXPECTED.has(name) && outcome === 'differs' ? 'expected to differ' : outcome]++;
        console.log(`${basename(file, '.img')}: recovery: ${outcome}: ${detail}`);
      }
      rmSync(to, { recursive: true, force: true });
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  const list = (record) =>
    Object.entries(record)
      .map(([key, count]) => `${count} ${key}`)
      .join(', ');
  console.log(`all: ${list(counts)}; recoveries: ${list(recoveries)}`);
  return counts.failed > 0 || recoveries.differs > 0 ? 1 : 0;
}

process.exitCode = await main(process.argv.slice(2));
