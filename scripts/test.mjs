/**
 * `npm test`: sets up and runs the tests. `npm test -- -g PATTERN` runs those whose title matches, further arguments
 * name compiled or source test files. Ends with one line of counts; exit code 1 if any test failed.
 */
import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { debianPackages, isRoot, RUN_PACKAGES, root, setup } from './setup.mjs';

/** Tests compare with what the usual tools say, put faults under the server, and boot a kernel with device-mapper. */
const TEST_PACKAGES = {
  ...RUN_PACKAGES,
  debugfs: 'e2fsprogs',
  getfattr: 'attr',
  setfacl: 'acl',
  strace: 'strace',
  xfs_io: 'xfsprogs',
  setquota: 'quota',
  groff: 'groff-base',
  python3: 'python3',
  dpkg: 'dpkg',
  dmsetup: 'dmsetup',
  sfdisk: 'fdisk',
  modprobe: 'kmod',
  'linux.uml': 'user-mode-linux',
};

function fail(message) {
  process.stderr.write(`test: ${message}\n`);
  process.exit(1);
}

const { values, positionals } = parseArgs({
  options: { grep: { type: 'string', short: 'g' }, bail: { type: 'boolean', short: 'b' } },
  allowPositionals: true,
});

if (isRoot) {
  try {
    debianPackages(TEST_PACKAGES);
  } catch (error) {
    process.stderr.write(`test: ${error.message}\n`);
  }
}
if (!setup()) process.exit(2);

function compiled(path) {
  const source = relative(root, resolve(process.env.INIT_CWD ?? root, path));
  const name = source.replace(/^build\//, '').replace(/\.ts$/, '.js');
  const file = join(root, 'build', name);
  if (!existsSync(file)) fail(`${path}: no such test`);
  return file;
}

function allTests(directory) {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return allTests(path);
    return entry.name.endsWith('.test.js') ? [path] : [];
  });
}

const files = positionals.length > 0 ? positionals.map(compiled) : allTests(join(root, 'build', 'test')).sort();
if (files.length === 0) fail('no tests found');

const Mocha = createRequire(import.meta.url)('mocha');
const mocha = new Mocha({ reporter: 'spec', timeout: 30_000, forbidOnly: Boolean(process.env.CI) });
if (values.grep !== undefined) mocha.grep(values.grep);
if (values.bail) mocha.bail(true);
for (const file of files) mocha.addFile(file);
await mocha.loadFilesAsync();
const runner = mocha.run((failures) => {
  const { passes, pending } = runner.stats;
  process.stdout.write(`${passes} passed, ${failures} failed, ${pending} skipped\n`);
  if (passes + failures === 0) fail('no test ran');
  process.exit(failures === 0 ? 0 : 1);
});
