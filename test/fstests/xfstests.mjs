/**
 * The upstream suite (kdave/xfstests) with ext4d in the place of a kernel filesystem.
 *   XFSTESTS_DIR=built-checkout node test/fstests/run.mjs --as ext4|fuse|kernel [--mkfs WORDS] [--options WORDS] [arguments of its ./check]
 *
 * A profile is how both disks are made and mounted: --mkfs "-b 1024", --options data=journal.
 * --as ext4: on loop devices, stock mkfs.ext4 and e2fsck after each test. --as fuse: on image files, the plain tests, as for any FUSE filesystem; the suite then makes and checks nothing
 * on the disk, and the runner has e2fsck look at both images at the end. --as kernel: the kernel's own ext4, to compare with; nothing is left out.
 * The runner has a mount namespace of its own, in which mount(8) finds ext4d as its helper: nobody else notices.
 * Makes the users fsgqa, fsgqa2 and 123456-fsgqa where they are missing: dozens of tests want them.
 */
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const helpers = join(here, 'helpers');
const USERS = ['fsgqa', 'fsgqa2', '123456-fsgqa'];
const DEVICE_MIB = 2048;
const WAYS = {
  ext4: join(helpers, 'mount.ext4'),
  fuse: join(helpers, 'mount.fuse.ext4d'),
  kernel: null,
};
/** What each way is mounted with anyway. */
const MOUNT_WORDS = { ext4: 'acl,user_xattr', fuse: 'allow_other,default_permissions', kernel: 'acl,user_xattr' };

class Refusal extends Error {}

function tool(command, ...args) {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Refusal(`${command} ${args.join(' ')}: ${stderr.trim()}`);
  return stdout.trim();
}

/** Runs it; returns the exit code: 0 all tests passed, and on ext4d. */
export async function runUpstream(args) {
  const { as: way, mkfs, options, rest } = ownArguments(args);
  const suite = process.env.XFSTESTS_DIR;
  if (process.env.EXT4D_NAMESPACE === undefined) return inNamespace();
  let scratch = null;
  const devices = [];
  try {
    if (!(way in WAYS)) throw new Refusal('--as what? ext4, fuse or kernel');
    if (process.getuid() !== 0) throw new Refusal('the suite needs root');
    if (suite === undefined || !existsSync(join(suite, 'ltp/fsstress'))) {
      throw new Refusal('XFSTESTS_DIR must name a built checkout: git clone https://github.com/kdave/xfstests && make');
    }
    makeUsers();
    leaveOthersMounts();
    scratch = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'ext4d-xfstests-'));
    // Its users must get through.
    chmodSync(scratch, 0o755);
    if (WAYS[way] !== null) install(WAYS[way], scratch);
    for (const name of ['test', 'scratch']) {
      const image = join(scratch, `${name}.img`);
      writeFileSync(image, '');
      truncateSync(image, DEVICE_MIB * 1024 * 1024);
      tool('/sbin/mkfs.ext4', '-q', '-F', ...mkfs.split(' ').filter(Boolean), image);
      devices.push(way === 'fuse' ? image : tool('losetup', '--find', '--show', image));
      mkdirSync(join(scratch, name));
    }
    return await check({ suite, way, mkfs, options, scratch, devices, args: rest });
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    console.error(`xfstests: ${error.message}`);
    return 2;
  } finally {
    for (const name of scratch === null ? [] : ['test', 'scratch']) spawnSync('umount', ['-q', join(scratch, name)]);
    if (way !== 'fuse') for (const device of devices) spawnSync('losetup', ['-d', device]);
    if (WAYS[way]) spawnSync('umount', [SBIN]);
    if (scratch !== null) rmSync(scratch, { recursive: true, force: true });
  }
}

/** Takes what is for the runner out of the arguments of ./check. */
function ownArguments(args) {
  const own = { as: '', mkfs: '', options: '', rest: [] };
  for (let i = 0; i < args.length; i++) {
    const name = /^--(as|mkfs|options)$/.exec(args[i])?.[1];
    if (name === undefined) own.rest.push(args[i]);
    else own[name] = args[++i] ?? '';
  }
  return own;
}

/** Lists in exclude/ of what cannot pass. */
function exclusions(way, mkfs) {
  if (way === 'kernel') return [];
  return /-b *(1024|2048)\b/.test(mkfs) ? [way, 'small-blocks'] : [way];
}

async function check({ suite, way, mkfs, options, scratch, devices, args }) {
  const [testDevice, scratchDevice] = devices;
  const mounts = join(scratch, 'mounts');
  writeFileSync(mounts, '');
  const mountOptions = `-o ${MOUNT_WORDS[way]}${options === '' ? '' : `,${options}`}`;
  const settings = {
    FSTYP: way === 'kernel' ? 'ext4' : way,
    TEST_DEV: testDevice,
    TEST_DIR: join(scratch, 'test'),
    SCRATCH_DEV: scratchDevice,
    SCRATCH_MNT: join(scratch, 'scratch'),
    RESULT_BASE: process.env.RESULT_BASE ?? join(scratch, 'results'),
    MOUNT_OPTIONS: mountOptions,
    TEST_FS_MOUNT_OPTS: mountOptions,
    MKFS_OPTIONS: mkfs,
    ...(way === 'fuse' ? { FUSE_SUBTYP: '.ext4d' } : {}),
  };
  const config = join(scratch, 'local.config');
  writeFileSync(
    config,
    Object.entries(settings)
      .map(([name, value]) => `export ${name}="${value}"\n`)
      .join(''),
  );
  const env = {
    ...process.env,
    HOST_OPTIONS: config,
    EXT4D_MOUNTS: mounts,
    PATH: `${way === 'ext4' ? `${helpers}:` : ''}${process.env.PATH}:/usr/sbin:/sbin`,
  };
  const what = args.length > 0 ? args : ['-g', 'quick'];
  const excluded = exclusions(way, mkfs).flatMap((name) => ['-E', join(here, 'exclude', `${name}.txt`)]);
  // Encrypted directories are only read here.
  if (way !== 'kernel') excluded.push('-x', 'encrypt');
  const child = spawn('./check', [...excluded, ...what], {
    cwd: suite,
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (chunk) => {
    output += chunk;
    process.stdout.write(chunk);
  });
  const code = await new Promise((done) => child.on('close', done));
  for (const name of ['test', 'scratch']) spawnSync('umount', ['-q', join(scratch, name)]);
  if (way !== 'kernel' && readFileSync(mounts, 'utf8') === '')
    throw new Refusal('ext4d was never mounted: this tested something else');
  if (/Passed all 0 tests/.test(output)) throw new Refusal('no test ran');
  return way === 'fuse' && !(await bothClean(devices)) ? 1 : code;
}

/** The suite has unmounted them, or does not mind; a server may still be closing its image. */
async function bothClean(images) {
  for (const image of images) {
    const deadline = Date.now() + 20_000;
    let result;
    do {
      result = spawnSync('/sbin/e2fsck', ['-fn', image], { encoding: 'utf8' });
      if (result.status !== 0) await new Promise((done) => setTimeout(done, 500));
    } while (result.status !== 0 && Date.now() < deadline);
    if (result.status !== 0) {
      console.log(`e2fsck -fn ${image}: exit ${result.status}\n${result.stdout}`);
      return false;
    }
  }
  console.log('e2fsck -fn finds nothing wrong in either image');
  return true;
}

function makeUsers() {
  for (const user of USERS) {
    if (spawnSync('id', [user]).status !== 0) tool('useradd', '-m', '--badname', user);
  }
}

/** Mounts copied into the namespace would live on in it, and keep their servers waiting, after they are unmounted outside. */
function leaveOthersMounts() {
  spawnSync('umount', ['--all', '--lazy', '--types', 'fuse.ext4d,fuseblk.ext4d']);
}

/** Runs this same command where mounts are its own. */
function inNamespace() {
  const { status } = spawnSync(
    'unshare',
    ['--mount', '--propagation', 'private', process.execPath, ...process.argv.slice(1)],
    {
      stdio: 'inherit',
      env: { ...process.env, EXT4D_NAMESPACE: '1' },
    },
  );
  return status ?? 2;
}

/** mount(8) looks for its helpers there. */
const SBIN = realpathSync('/sbin');

function install(helper, scratch) {
  const upper = join(scratch, 'sbin');
  const work = join(scratch, 'work');
  mkdirSync(upper);
  mkdirSync(work);
  symlinkSync(helper, join(upper, basename(helper)));
  // What mount(8) looks for to remount.
  symlinkSync(helper, join(upper, 'mount.fuseblk.ext4d'));
  tool('mount', '-t', 'overlay', 'overlay', '-o', `lowerdir=${SBIN},upperdir=${upper},workdir=${work}`, SBIN);
}
