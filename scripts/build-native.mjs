/**
 * Builds the native addon, unless it is newer than its sources and loads; `--force` builds anyway. `--into DIR` says where,
 * default native/build/Release. With the headers installed beside node the compiler is all it takes, and nothing is
 * downloaded; without them node-gyp fetches them.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, homedir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const native = join(root, 'native');
const gypOutput = join(native, 'build', 'Release');
const require = createRequire(import.meta.url);

const { values } = parseArgs({ options: { force: { type: 'boolean' }, into: { type: 'string' } } });
const directory = resolve(values.into ?? gypOutput);
const addon = join(directory, 'ext4d.node');

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
    require(addon);
    return true;
  } catch {
    return false;
  }
}

/** The directory with node_api.h and uv.h, where there is one: beside node, of the distribution, of node-gyp. */
function headers() {
  const prefix = resolve(dirname(process.execPath), '..');
  const version = process.versions.node;
  const cached = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'node-gyp', version);
  return [prefix, '/usr', '/usr/local', cached]
    .map((place) => join(place, 'include', 'node'))
    .find((place) => existsSync(join(place, 'node_api.h')) && existsSync(join(place, 'uv.h')));
}

/** Sources and flags are those of binding.gyp. */
async function compile(compiler, include) {
  const [target] = JSON.parse(readFileSync(join(native, 'binding.gyp'), 'utf8')).targets;
  const napi = require.resolve('node-addon-api/package.json');
  const flags = [
    ...['-fPIC', '-pthread', ...target.cflags, ...target.cflags_cc],
    ...target.defines.map((define) => `-D${define}`),
    ...[include, dirname(napi)].map((path) => `-I${path}`),
  ];
  mkdirSync(directory, { recursive: true });
  // Whole or not at all: two builds may run at once.
  const scratch = mkdtempSync(join(directory, '.build-'));
  try {
    const objects = target.sources.map((source) => join(scratch, `${basename(source)}.o`));
    const queue = target.sources.map((source, i) => ['-c', ...flags, join(native, source), '-o', objects[i]]);
    const worker = async () => {
      for (let args = queue.shift(); args !== undefined; args = queue.shift()) await run(compiler, args);
    };
    await Promise.all(Array.from({ length: availableParallelism() }, worker));
    const unfinished = join(scratch, 'ext4d.node');
    await run(compiler, ['-shared', '-pthread', '-o', unfinished, ...objects]);
    renameSync(unfinished, addon);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function run(command, args) {
  return new Promise((done, failed) => {
    const child = spawn(command, args, { stdio: ['ignore', 2, 2] });
    child.on('error', failed);
    child.on('close', (code) => (code === 0 ? done() : failed(new Error(`${command} ended with exit code ${code}`))));
  });
}

function withGyp() {
  let gyp;
  try {
    gyp = require.resolve('node-gyp/bin/node-gyp.js');
  } catch {
    fail('the headers of node are missing. Install them: apt install libnode-dev, or use node from nodejs.org');
  }
  const missing = ['make', 'python3'].filter((tool) => !works(tool, ['--version']));
  if (missing.length > 0) fail(`${missing.join(', ')} not found. Install: apt install ${missing.join(' ')}`);
  const { status } = spawnSync(process.execPath, [gyp, 'rebuild', '--silent'], {
    cwd: native,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (status !== 0) fail('node-gyp did not succeed; its messages are above');
}

const fresh = existsSync(addon) && statSync(addon).mtimeMs >= newestSource() && loads();
if (values.force || !fresh) {
  const compiler = [process.env.CXX, 'c++', 'g++'].find((name) => name && works(name, ['--version']));
  if (compiler === undefined) {
    fail('there is no C++ compiler. Install one: apt install g++  (or: dnf install gcc-c++)');
  }
  const include = headers();
  try {
    if (include !== undefined) await compile(compiler, include);
    else if (directory === gypOutput) withGyp();
    else fail('the headers of node are missing. Install them: apt install libnode-dev, or use node from nodejs.org');
  } catch (error) {
    fail(`the compiler did not succeed; its messages are above (${error.message})`);
  }
}
