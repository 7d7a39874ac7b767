/**
 * Runs a script as root inside User Mode Linux: a kernel with device-mapper, on a machine that has none. Its root is
 * this machine's file tree, its disks are files. `node test/fstests/uml/boot.mjs CASE.sh [MiB of a disk]...`
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const KERNEL = '/usr/bin/linux.uml';
const MEMORY = '1200M';
const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** Why there can be no User Mode Linux here, or null. */
export function whyNoUml() {
  if (!existsSync(KERNEL)) return 'User Mode Linux is not installed (apt-get install user-mode-linux)';
  if (process.getuid() !== 0) return 'its disks and mounts need root';
  return null;
}

/**
 * Boots, runs `script` with `diskMiB` sized disks as /dev/ubda, /dev/ubdb..., and returns its exit code (-1: none, it
 * hung or the kernel panicked) and everything on the console.
 */
export async function runInUml(script, diskMiB, { timeoutMs = 600_000, echo = false, env = {} } = {}) {
  const scratch = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'ext4d-uml-'));
  // Inside, /dev is another one.
  const shared = mkdtempSync(join(tmpdir(), 'ext4d-uml-'));
  try {
    const result = join(shared, 'result');
    const disks = diskMiB.map((size, i) => {
      const path = join(scratch, `disk${i}`);
      writeFileSync(path, '');
      truncateSync(path, size * 1024 * 1024);
      return `ubd${i}=${path}`;
    });
    const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
    const child = spawn(
      KERNEL,
      [
        `mem=${MEMORY}`,
        `umid=ext4d-${process.pid}-${Date.now()}`,
        `uml_dir=${scratch}`,
        'root=/dev/root',
        'rootfstype=hostfs',
        'rootflags=/',
        'rw',
        'quiet',
        'con=null',
        'con0=null,fd:1',
        'ssl=null',
        ...disks,
        `init=${join(here, 'init.sh')}`,
        `CASE=${resolve(script)}`,
        `RESULT=${result}`,
        ...variables,
      ],
      // A group of its own: the kernel's threads are processes here.
      { detached: true, stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, TMPDIR: scratch } },
    );
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        output += chunk;
        if (echo) process.stdout.write(chunk);
      });
    }
    const end = () => kill(child);
    for (const signal of ENDING) process.on(signal, end);
    const timer = setTimeout(end, timeoutMs);
    await new Promise((done) => child.on('close', done));
    clearTimeout(timer);
    for (const signal of ENDING) process.off(signal, end);
    kill(child);
    const code = existsSync(result) ? Number(readFileSync(result, 'utf8')) : -1;
    return { code, output };
  } finally {
    for (const directory of [scratch, shared]) rmSync(directory, { recursive: true, force: true });
  }
}

function kill(child) {
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // It is gone already.
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [script, ...disks] = process.argv.slice(2);
  const why = whyNoUml();
  if (script === undefined || why !== null) {
    process.stderr.write(`usage: boot.mjs CASE.sh [MiB]...${why === null ? '' : `: ${why}`}\n`);
    process.exit(2);
  }
  const { code } = await runInUml(script, disks.map(Number), { echo: true });
  process.exit(code < 0 ? 70 : code);
}
