#!/usr/bin/env node
/**
 * Runs pjdfstest (https://github.com/pjd/pjdfstest), built elsewhere, on a fresh image mounted by ext4d:
 *
 *     sudo node test/fstests/pjdfstest.mjs /path/to/pjdfstest [SUBDIRECTORY OF tests ...]
 *
 * Needs root and prove (perl). Ends with the verdict of e2fsck; exit code 1 if any test failed or e2fsck complains.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..', '..');
const ext4d = join(root, 'bin', 'ext4d');

function fail(message) {
  process.stderr.write(`pjdfstest: ${message}\n`);
  process.exit(2);
}

function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit', ...options });
  if (error !== undefined) fail(`${command}: ${error.message}`);
  return status ?? 1;
}

const [suite, ...parts] = process.argv.slice(2);
if (suite === undefined) fail('usage: pjdfstest.mjs PJDFSTEST [SUBDIRECTORY ...]');
const tests = resolve(suite, 'tests');
if (!existsSync(join(resolve(suite), 'pjdfstest'))) fail(`${suite}: not built: autoreconf -ifs && ./configure && make`);
if (process.geteuid() !== 0) fail('needs root: the tests change users');

const scratch = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'ext4d-pjdfstest-'));
const image = join(scratch, 'image');
const mountpoint = join(scratch, 'mnt');
mkdirSync(mountpoint);
let code = 2;
try {
  if (run('mke2fs', ['-q', '-F', '-t', 'ext4', image, '512M']) !== 0) fail('mke2fs failed');
  if (run(ext4d, ['mount', '-o', 'allow_other,default_permissions', image, mountpoint]) !== 0) fail('not mounted');
  const wanted = parts.length === 0 ? [tests] : parts.map((part) => join(tests, part));
  const passed = run('prove', ['-r', '-f', ...wanted], { cwd: mountpoint }) === 0;
  const closed = run(ext4d, ['umount', mountpoint]) === 0;
  code = passed && closed && run('e2fsck', ['-fn', image]) === 0 ? 0 : 1;
} finally {
  spawnSync('umount', ['-l', mountpoint], { stdio: 'ignore' });
  rmSync(scratch, { recursive: true, force: true });
}
process.exit(code);
