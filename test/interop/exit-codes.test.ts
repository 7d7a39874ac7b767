/** Every exit code of the table is one that the commands really end with; those of bugs are left out. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { EXIT_CODES, MountExit } from '../../src/cli/exit-codes.js';
import { dirtyImage } from '../support/dirty-image.js';
import { makeImageFile, run } from '../support/mke2fs.js';
import { EXT4D, isMounted, requireOrSkip, whyNoFuse, withMountpoint } from '../support/server.js';

const HELPER = join(dirname(EXT4D), 'mount.fuse.ext4d');
const seen = new Map<string, Set<number>>();

/** Runs a command that must end with a code of its table; where that is `expected` it counts as reached. */
function ends(expected: number, command: keyof typeof EXIT_CODES, args: string[], env: NodeJS.ProcessEnv = {}): void {
  const words = command === 'mount.fuse.ext4d' ? [HELPER, ...args] : [EXT4D, command, ...args];
  const { status, stderr } = spawnSync(process.execPath, words, {
    encoding: 'utf8',
    timeout: 60_000,
    env: { ...process.env, ...env },
  });
  note(command, expected, status, stderr);
}

function note(command: string, expected: number, status: number | null, said: string): void {
  assert.equal(status, expected, `${command}: ${said}`);
  seen.set(command, (seen.get(command) ?? new Set()).add(expected));
}

/** The first child of a process, as soon as there is one. */
async function childOf(parent: ChildProcess): Promise<number> {
  for (let i = 0; i < 2000; i++) {
    for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
        if (Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === parent.pid) return Number(name);
      } catch {
        // Gone.
      }
    }
    await new Promise((done) => setTimeout(done, 1));
  }
  throw new Error('the process has started no other');
}

describe('exit codes', function () {
  this.timeout(120_000);

  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse());
  });

  it('mount, mount.fuse.ext4d and umount: those of mount(8)', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      const empty = join(scratch, 'empty');
      makeImageFile(image, 32);
      writeFileSync(empty, '');
      for (const command of ['mount', 'mount.fuse.ext4d'] as const) {
        ends(MountExit.OK, command, [image, mountpoint]);
        assert.ok(isMounted(mountpoint));
        ends(MountExit.OK, 'umount', [mountpoint]);
        ends(MountExit.USAGE, command, [image]);
        ends(MountExit.USAGE, command, [image, mountpoint, '-o', 'frobnicate']);
        ends(MountExit.FAILURE, command, [empty, mountpoint]);
      }
      ends(MountExit.USAGE, 'umount', []);
      ends(MountExit.FAILURE, 'umount', [mountpoint]);
    }));

  it('freeze and thaw: those of mount(8), and of freeze those of its command', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      for (const command of ['freeze', 'thaw'] as const) {
        ends(MountExit.USAGE, command, []);
        ends(MountExit.FAILURE, command, [mountpoint]);
      }
      ends(MountExit.OK, 'mount', [image, mountpoint]);
      ends(MountExit.OK, 'freeze', [mountpoint]);
      ends(MountExit.FAILURE, 'freeze', [mountpoint]);
      ends(MountExit.OK, 'thaw', [mountpoint]);
      ends(MountExit.OK, 'freeze', [mountpoint, '--', 'true']);
      ends(MountExit.FAILURE, 'thaw', [mountpoint]);
      ends(MountExit.OK, 'umount', [mountpoint]);
    }));

  it('mount: 8 when it is interrupted before it is mounted', () =>
    withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      for (const command of ['mount', 'mount.fuse.ext4d'] as const) {
        const words = command === 'mount' ? [EXT4D, 'mount'] : [HELPER];
        const parent = spawn(process.execPath, [...words, image, mountpoint], { stdio: 'ignore' });
        const ended = new Promise<number | null>((done) => parent.on('exit', done));
        const server = await childOf(parent);
        // It is held where it is, which is long before the mount.
        process.kill(server, 'SIGSTOP');
        parent.kill('SIGINT');
        await new Promise((done) => setTimeout(done, 50));
        try {
          process.kill(server, 'SIGCONT');
        } catch {
          // The signal that was passed on has ended it already: one without a handler is fatal to the stopped as well.
        }
        note(command, MountExit.INTERRUPTED, await ended, 'interrupted');
        assert.ok(!isMounted(mountpoint));
      }
    }));

  it('mount and umount: 2 without what they need of the system', function () {
    requireOrSkip(this, process.getuid?.() === 0 ? null : 'hiding devices needs root');
    return withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      const without = (words: string) =>
        spawnSync('unshare', ['-m', 'sh', '-c', words], { encoding: 'utf8', timeout: 60_000 });
      // Another /dev for this one process tree only.
      const hidden = 'mount -t tmpfs none /dev && mknod /dev/null c 1 3 && ';
      for (const [command, words] of [
        ['mount', `'${EXT4D}' mount`],
        ['mount.fuse.ext4d', `'${HELPER}'`],
      ] as const) {
        const copy = `${mountpoint}-${command}`;
        const kept = scratch.startsWith('/dev/') ? `cp '${image}' '/var/tmp/${command}.img' && ` : '';
        const path = kept === '' ? image : `/var/tmp/${command}.img`;
        const target = kept === '' ? mountpoint : '/mnt';
        const { status, stderr } = without(`${kept}${hidden}${words} '${path}' ${target}`);
        run('rm', ['-f', `/var/tmp/${command}.img`, copy]);
        assert.match(stderr, /\/dev\/fuse/);
        note(command, MountExit.SYSTEM, status, stderr);
      }
    });
  });

  it('umount: 2 where fusermount3 is missing', function () {
    requireOrSkip(this, process.getuid?.() === 0 ? null : 'becoming another user needs root');
    return withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      run('chmod', ['711', scratch]);
      ends(MountExit.OK, 'mount', ['-o', 'allow_other', image, mountpoint]);
      const { status, stderr } = spawnSync(
        'setpriv',
        [
          '--reuid=65534',
          '--regid=65534',
          '--clear-groups',
          'env',
          `PATH=${scratch}`,
          process.execPath,
          EXT4D,
          'umount',
          mountpoint,
        ],
        { encoding: 'utf8', timeout: 60_000 },
      );
      assert.match(stderr, /fusermount3 is not installed: apt install fuse3/);
      note('umount', MountExit.SYSTEM, status, stderr);
      ends(MountExit.OK, 'umount', [mountpoint]);
    });
  });

  it("umount: 1 for another user's mount", function () {
    const missing = spawnSync('fusermount3', ['--version']).status !== 0;
    requireOrSkip(
      this,
      process.getuid?.() !== 0 ? 'becoming another user needs root' : missing ? 'no fusermount3' : null,
    );
    return withMountpoint(async (scratch, mountpoint) => {
      const image = join(scratch, 'image');
      makeImageFile(image, 32);
      run('chmod', ['711', scratch]);
      ends(MountExit.OK, 'mount', ['-o', 'allow_other', image, mountpoint]);
      const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups'];
      const { code, output } = run('setpriv', [...nobody, process.execPath, EXT4D, 'umount', mountpoint]);
      assert.match(output, /mounted by another user: unmount it as that user, or as root/);
      assert.equal(code, MountExit.USAGE);
      ends(MountExit.OK, 'umount', [mountpoint]);
    });
  });

  it('replay, journal, info, check and quota: those of fsck(8)', () =>
    withMountpoint(async (scratch) => {
      const clean = join(scratch, 'clean');
      const dirty = join(scratch, 'dirty');
      const text = join(scratch, 'text');
      makeImageFile(clean, 32);
      writeFileSync(dirty, dirtyImage());
      writeFileSync(text, 'hello\n'.repeat(10_000));
      const quotas = join(scratch, 'quotas');
      makeImageFile(quotas, 32, ['-O', 'quota']);
      for (const command of ['replay', 'journal', 'info', 'check', 'quota'] as const) {
        ends(0, command, [command === 'quota' ? quotas : clean]);
        ends(4, command, [text]);
        ends(8, command, [join(scratch, 'nothing')]);
        ends(16, command, []);
        ends(16, command, ['--frobnicate', clean]);
      }
      ends(1, 'replay', ['-n', dirty]);
      ends(1, 'replay', [dirty]);
      ends(0, 'replay', [dirty]);
      run('debugfs', ['-w', '-R', 'clri <2>', clean]);
      ends(4, 'check', [clean]);
    }));

  it('crashtest: promises kept and broken, no test, wrong usage, interrupted', () =>
    withMountpoint(async (scratch) => {
      const report = ['--report', '-', '--size', '8'];
      ends(0, 'crashtest', [...report, '--', 'sh', '-c', 'echo x > file; sync file']);
      ends(1, 'crashtest', [...report, '--verify', 'false', '--', 'sh', '-c', 'echo x > file; sync file']);
      ends(8, 'crashtest', [...report, '--', join(scratch, 'no-such-program')]);
      ends(16, 'crashtest', []);
      const started = join(scratch, 'started');
      const child = spawn(
        process.execPath,
        [EXT4D, 'crashtest', ...report, '--', 'sh', '-c', `touch ${started}; sleep 60`],
        {
          stdio: 'ignore',
        },
      );
      const ended = new Promise<number | null>((done) => child.on('exit', done));
      for (let i = 0; i < 500 && run('ls', [scratch]).output.indexOf('started') < 0; i++)
        await new Promise((done) => setTimeout(done, 20));
      child.kill('SIGTERM');
      assert.equal(await ended, 128 + 15);
      seen.get('crashtest')?.add(128);
    }));

  it('demo: 1 for arguments that it does not take', () => ends(1, 'demo', ['x']));

  after(function () {
    const skipped = (this.test?.parent?.tests ?? []).some((test) => !test.isPassed());
    for (const [command, codes] of Object.entries(EXIT_CODES)) {
      // What the demonstration ends with where all is well is shown by running it, which takes seconds.
      if (skipped || command === 'demo') continue;
      const bug = codes.some(({ code }) => code === MountExit.FAILURE) ? MountExit.BUG : -1;
      const missing = codes.filter(({ code }) => code !== bug && !seen.get(command)?.has(code));
      assert.deepEqual(missing, [], `${command} was not seen to end with these`);
    }
  });
});
