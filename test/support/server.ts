/**
 * A real mount for tests: the server is a child process, every wait has a limit, and whatever happens nothing is left
 * behind: no mount, no process, no loop device, no file.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run, scratchDirectory } from './mke2fs.js';

/** The project's root, seen from build/test/support. */
const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '../../..');
export const EXT4D = join(ROOT, 'bin', 'ext4d');

const isRoot = process.getuid?.() === 0;

/** Why no FUSE filesystem can be mounted here, or null. */
export function whyNoFuse(): string | null {
  if (!existsSync('/dev/fuse')) return 'there is no /dev/fuse';
  if (!isRoot && spawnSync('fusermount3', ['--version']).status !== 0)
    return 'not root, and fusermount3 is not installed';
  return null;
}

/** Why the kernel's own ext4 cannot be asked here, or null. */
export function whyNoKernelExt4(): string | null {
  if (!isRoot) return 'mounting through a loop device needs root';
  if (!readFileSync('/proc/filesystems', 'utf8').includes('\text4')) return 'this kernel has no ext4';
  if (!existsSync('/dev/loop-control')) return 'there are no loop devices';
  return null;
}

/** Skips the running test, and says why. In CI nothing that matters may be skipped. */
export function requireOrSkip(test: Mocha.Context, why: string | null): void {
  if (why === null) return;
  if (process.env.CI) throw new Error(`cannot be skipped in CI: ${why}`);
  skip(test, why);
}

/** Skips what matters only where it can run, in CI as well, and says why it cannot. */
export function skip(test: Mocha.Context, why: string): never {
  process.stderr.write(`      skipped: ${why}\n`);
  return test.skip();
}

export function isMounted(directory: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .some((line) => line.split(' ')[4] === directory);
}

const sleep = (ms: number) => new Promise((done) => setTimeout(done, ms));

async function until(what: string, condition: () => boolean, limitMs: number): Promise<void> {
  const deadline = Date.now() + limitMs;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${limitMs} ms`);
    await sleep(20);
  }
}

/** A mounted image; {@link Mount.unmount} or {@link Mount.kill} ends it. */
export class Mount {
  readonly image: string;
  readonly directory: string;
  private readonly child: ChildProcess;
  stderr = '';

  private constructor(image: string, directory: string, child: ChildProcess) {
    this.image = image;
    this.directory = directory;
    this.child = child;
    child.stderr?.on('data', (chunk) => {
      this.stderr += chunk;
    });
  }

  static async start(image: string, directory: string, options = ''): Promise<Mount> {
    const args = ['mount', '-f', ...(options === '' ? [] : ['-o', options]), image, directory];
    const child = spawn(EXT4D, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    const mount = new Mount(image, directory, child);
    const closed = new Promise((resolve) => child.once('close', resolve));
    try {
      await until('the mount', () => isMounted(directory) || child.exitCode !== null, 20_000);
      // What it said may still be in the pipe.
      if (child.exitCode !== null) await closed;
      if (child.exitCode !== null) throw new Error(`ext4d mount: exit ${child.exitCode}: ${mount.stderr}`);
      return mount;
    } catch (error) {
      mount.cleanUp();
      throw error;
    }
  }

  /** Unmounts and waits for the server to end; its exit code. */
  async unmount(): Promise<number> {
    const { code, output } = run(isRoot ? 'umount' : 'fusermount3', [...(isRoot ? [] : ['-u']), this.directory]);
    if (code !== 0) throw new Error(`umount ${this.directory}: ${output}`);
    await until('the end of the server', () => this.child.exitCode !== null || this.child.signalCode !== null, 60_000);
    return this.child.exitCode ?? -1;
  }

  /** Pulls the plug. */
  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await until('the end of the server', () => this.child.exitCode !== null || this.child.signalCode !== null, 10_000);
    run('umount', ['-l', this.directory]);
  }

  get pid(): number {
    return this.child.pid ?? -1;
  }

  /** Whatever state it is in: gone afterwards. */
  cleanUp(): void {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill('SIGKILL');
    if (isMounted(this.directory)) run(isRoot ? 'umount' : 'fusermount3', [isRoot ? '-l' : '-uz', this.directory]);
  }
}

/** Runs `use` with a directory for images and an empty mountpoint in it, and cleans up. */
export async function withMountpoint(use: (scratch: string, mountpoint: string) => Promise<void>): Promise<void> {
  const scratch = scratchDirectory();
  const mountpoint = join(scratch, 'mnt');
  mkdirSync(mountpoint);
  try {
    await use(scratch, mountpoint);
  } finally {
    while (isMounted(mountpoint)) run(isRoot ? 'umount' : 'fusermount3', [isRoot ? '-l' : '-uz', mountpoint]);
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Mounts with `ext4d`, runs `use`, unmounts cleanly. */
export async function withMount(
  image: string,
  mountpoint: string,
  options: string,
  use: (mount: Mount) => Promise<void> | void,
): Promise<void> {
  const mount = await Mount.start(image, mountpoint, options);
  try {
    await use(mount);
    await mount.unmount();
  } finally {
    mount.cleanUp();
  }
}

/** Mounts with the kernel's ext4 through a loop device, runs `use`, unmounts. */
export async function withKernelMount(
  image: string,
  mountpoint: string,
  options: string,
  use: () => Promise<void> | void,
): Promise<void> {
  // -i: the kernel itself, whatever helper there is for the type.
  const { code, output } = run('mount', [
    '-i',
    '-t',
    'ext4',
    '-o',
    options === '' ? 'loop' : `loop,${options}`,
    image,
    mountpoint,
  ]);
  if (code !== 0) throw new Error(`the kernel did not mount ${image}: ${output}`);
  let gone = { code: 0, output: '' };
  try {
    await use();
  } finally {
    gone = run('umount', [mountpoint]);
  }
  if (gone.code !== 0) throw new Error(`the kernel did not unmount ${image}: ${gone.output}`);
  // A mount namespace made meanwhile has a copy of the mount: nothing is written until it ends.
  await until('the end of the loop device', () => run('losetup', ['-j', image]).output === '', 20_000);
}
