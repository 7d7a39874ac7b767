/** Images made by the real mke2fs and judged by the real e2fsck, as bytes in memory. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** e2fsprogs lives in sbin, which is not on everyone's PATH. */
const ENV = { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` };

/** Memory-backed where there is such a place. */
export function scratchDirectory(): string {
  return mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'ext4d-test-'));
}

/** Runs `use` with a scratch directory that is gone afterwards. */
export function withScratch<T>(use: (directory: string) => T): T {
  const directory = scratchDirectory();
  try {
    return use(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

export function run(command: string, args: readonly string[], input?: string): { code: number; output: string } {
  const result = spawnSync(command, args, { env: ENV, encoding: 'utf8', input, timeout: 120_000, maxBuffer: 1 << 28 });
  if (result.error) throw result.error;
  return { code: result.status ?? -1, output: result.stdout + result.stderr };
}

/** A fresh ext4 image; `args` as for mke2fs. A fixed hash seed and uuid keep runs comparable. */
export function makeImage(sizeMiB: number, args: readonly string[] = []): Uint8Array {
  return withScratch((directory) => {
    const path = join(directory, 'image');
    makeImageFile(path, sizeMiB, args);
    return new Uint8Array(readFileSync(path));
  });
}

export function makeImageFile(path: string, sizeMiB: number, args: readonly string[] = []): void {
  writeFileSync(path, '');
  truncateSync(path, sizeMiB * 1024 * 1024);
  const base = [
    '-q',
    '-F',
    ...(args.includes('-t') ? [] : ['-t', 'ext4']),
    '-E',
    'hash_seed=01020304-0506-4708-890a-0b0c0d0e0f10,nodiscard',
  ];
  if (!args.includes('-b')) base.push('-b', '4096');
  const { code, output } = run('mke2fs', [...base, ...args, path]);
  if (code !== 0) throw new Error(`mke2fs: exit ${code}: ${output}`);
}

/** What e2fsck says of a filesystem without faults. An extent tree deeper than it need be is left by the kernel as well. */
const ORDINARY = [
  /extent tree \(at level \d\) could be (narrower|shorter)/,
  /^e2fsck /,
  /^Pass \d/,
  /^Warning: skipping journal recovery/,
  /: \d+\/\d+ files \(/,
  /^$/,
];

/** `e2fsck -fn`: code 0 means that it found nothing to say. Some of what it would mend leaves its own exit code 0. */
export function fsckFile(path: string): { code: number; output: string } {
  const { code, output } = run('e2fsck', ['-fn', path]);
  const remarks = output.split('\n').filter((line) => !ORDINARY.some((pattern) => pattern.test(line)));
  return { code: code === 0 && remarks.length > 0 ? 4 : code, output };
}

export function fsck(image: Uint8Array): { code: number; output: string } {
  return withScratch((directory) => {
    const path = join(directory, 'image');
    writeFileSync(path, image);
    return fsckFile(path);
  });
}

/** One debugfs command on an image; its output. */
export function debugfs(image: Uint8Array, command: string): string {
  return withScratch((directory) => {
    const path = join(directory, 'image');
    writeFileSync(path, image);
    return run('debugfs', ['-R', command, path]).output;
  });
}
