/**
 * Everything between a fresh checkout and a program that runs: npm packages, Debian packages (as root; otherwise the
 * one command to run is printed), the native addon, and the compiled TypeScript. Does nothing where nothing is to do.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { delimiter, dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
export const isRoot = process.geteuid?.() === 0;

/** What the program needs to run: the command that shows it is there, and the Debian package it comes from. */
export const RUN_PACKAGES = { mke2fs: 'e2fsprogs', e2fsck: 'e2fsprogs', fusermount3: 'fuse3' };
const BUILD_PACKAGES = { 'g++': 'g++', make: 'make', python3: 'python3' };

class SetupError extends Error {}

function say(line) {
  process.stderr.write(`setup: ${line}\n`);
}

/** e2fsprogs lives in sbin, which is not on everyone's PATH. */
export function onPath(command) {
  return `${process.env.PATH ?? ''}${delimiter}/usr/sbin${delimiter}/sbin`.split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function run(command, args, options = {}) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2], ...options });
  return error === undefined && status === 0;
}

/** Installs what `packages` names and is missing; prints the command where it may not. */
export function debianPackages(packages) {
  const missing = [
    ...new Set(
      Object.keys(packages)
        .filter((command) => !onPath(command))
        .map((command) => packages[command]),
    ),
  ];
  if (missing.length === 0) return;
  const install = ['install', '-y', '--no-install-recommends', ...missing];
  if (!isRoot || !onPath('apt-get')) {
    const command = onPath('apt-get')
      ? `sudo apt-get install -y ${missing.join(' ')}`
      : `the packages ${missing.join(', ')}`;
    throw new SetupError(`missing: ${missing.join(', ')}. Install once: ${command}`);
  }
  say(`installing ${missing.join(', ')}`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  // The lists of a fresh machine are empty or old: only then are they fetched.
  if (run('apt-get', ['-q', ...install], { env, stdio: 'ignore' })) return;
  if (run('apt-get', ['-q', 'update'], { env }) && run('apt-get', ['-q', ...install], { env })) return;
  throw new SetupError(`apt-get could not install ${missing.join(', ')}`);
}

function readJson(path) {
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : null;
}

/** npm writes down what it installed: that must be what package-lock.json asks for. */
function nodeModulesAreStale() {
  const wanted = readJson(join(root, 'package-lock.json'))?.packages ?? {};
  const found = readJson(join(root, 'node_modules', '.package-lock.json'))?.packages;
  if (!found) return true;
  return Object.entries(wanted).some(
    ([path, { version, optional }]) => path !== '' && !optional && found[path]?.version !== version,
  );
}

function npmPackages() {
  if (!nodeModulesAreStale()) return;
  say('installing npm packages');
  const command = existsSync(join(root, 'package-lock.json')) ? 'ci' : 'install';
  if (!run('npm', [command, '--no-audit', '--no-fund', '--loglevel=error']))
    throw new SetupError(`npm ${command} failed`);
}

/** Builds the addon; build-native.mjs knows whether that is needed. */
function native() {
  if (!run(process.execPath, [join(root, 'scripts', 'build-native.mjs')]))
    throw new SetupError('the native addon was not built');
}

function nativeIsBuilt() {
  return existsSync(join(root, 'native', 'build', 'Release', 'ext4d.node'));
}

function* filesBelow(directory) {
  for (const entry of existsSync(directory) ? readdirSync(directory, { withFileTypes: true }) : []) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) yield* filesBelow(path);
    else yield path;
  }
}

/** What the compiled files were made from: names, sizes and times of the sources. */
function sourceStamp() {
  const hash = createHash('sha256');
  const paths = ['src', 'test', 'bench'].flatMap((name) => [...filesBelow(join(root, name))].sort());
  for (const path of [join(root, 'tsconfig.json'), join(root, 'package-lock.json'), ...paths]) {
    const { size, mtimeMs } = statSync(path);
    hash.update(`${relative(root, path)} ${size} ${mtimeMs}\n`);
  }
  return hash.digest('hex');
}

/** A test whose source is gone must not run any more. */
function removeOrphanedOutputs() {
  for (const name of ['src', 'test', 'bench']) {
    for (const path of filesBelow(join(root, 'build', name))) {
      const source = relative(join(root, 'build'), path).replace(/(\.d\.ts|\.js)(\.map)?$/, '.ts');
      if (source.endsWith('.ts') && !existsSync(join(root, source))) rmSync(path);
    }
  }
}

function typescript() {
  const stampPath = join(root, 'build', '.stamp');
  const stamp = sourceStamp();
  if (existsSync(stampPath) && readFileSync(stampPath, 'utf8') === stamp && existsSync(join(root, 'build', 'src')))
    return;
  say('compiling');
  removeOrphanedOutputs();
  // Without its outputs the compiler's memory of them is worth nothing.
  if (!existsSync(join(root, 'build', 'src'))) rmSync(join(root, 'build', '.tsbuildinfo'), { force: true });
  if (!run(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.json'])) {
    throw new SetupError('the TypeScript sources do not compile');
  }
  mkdirSync(dirname(stampPath), { recursive: true });
  writeFileSync(stampPath, stamp);
}

/** Returns true when the program is ready to run; prints what is missing otherwise. */
export function setup({ packages = RUN_PACKAGES } = {}) {
  try {
    const [major] = process.versions.node.split('.');
    if (Number(major) < 20) throw new SetupError(`Node 20 or newer is needed, this is ${process.version}`);
    if (process.platform !== 'linux') throw new SetupError('ext4d runs on Linux only');
    debianPackages(nativeIsBuilt() ? packages : { ...packages, ...BUILD_PACKAGES });
    npmPackages();
    native();
    typescript();
    run(process.execPath, [join(root, 'scripts', 'build-rehearsal-stage.mjs')]);
    return true;
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    say(error.message);
    return false;
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) process.exit(setup() ? 0 : 2);
