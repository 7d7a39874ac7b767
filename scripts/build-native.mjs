/**
 * Builds native/build/Release/ext4d.node with node-gyp, unless it is newer than its sources.
 * `--force` builds anyway. Uses the headers installed beside node when there are any, so that nothing is downloaded.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const native = join(root, 'native');
const addon = join(native, 'build', 'Release', 'ext4d.node');

function newestSource() {
  const sources = readdirSync(join(native, 'src')).map((name) => join(native, 'src', name));
  return Math.max(...[...sources, join(native, 'binding.gyp')].map((path) => statSync(path).mtimeMs));
}

function works(command, args) {
  const { status, error } = spawnSync(command, args, { stdio: 'ignore' });
  return error === undefined && status === 0;
}

function fail(message) {
  process.stderr.write(`build-native: ${message}\n`);
  process.exit(1);
}

/** The addon runs with every node whose N-API it was built for, but a build of another architecture does not load. */
function loads() {
  try {
    createRequire(import.meta.url)(addon);
    return true;
  } catch {
    return false;
  }
}

if (!process.argv.includes('--force') && existsSync(addon) && statSync(addon).mtimeMs >= newestSource() && loads()) {
  process.exit(0);
}

const missing = [];
if (!works(process.env.CXX ?? 'c++', ['--version']) && !works('g++', ['--version'])) missing.push('g++');
if (!works('make', ['--version'])) missing.push('make');
if (!works('python3', ['--version'])) missing.push('python3');
if (missing.length > 0) {
  fail(
    `${missing.join(', ')} not found. Install them: apt install g++ make python3  (or: dnf install gcc-c++ make python3)`,
  );
}

const require = createRequire(import.meta.url);
let gyp;
try {
  gyp = require.resolve('node-gyp/bin/node-gyp.js');
} catch {
  fail('node-gyp is not installed. Run: npm install');
}

const prefix = resolve(dirname(process.execPath), '..');
const args = [gyp, 'rebuild', '--silent'];
if (existsSync(join(prefix, 'include', 'node', 'node_api.h'))) args.push(`--nodedir=${prefix}`);
const { status, error } = spawnSync(process.execPath, args, { cwd: native, stdio: ['ignore', 'inherit', 'inherit'] });
if (error !== undefined || status !== 0 || !existsSync(addon)) {
  fail('the compiler did not succeed; its messages are above. Needed: g++ (C++17), make, python3, node headers');
}
