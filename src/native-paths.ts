/** Where the native addon may be. */
import { accessSync, constants, existsSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The package, seen from build/src. */
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const BUILT = join(ROOT, 'native', 'build', 'Release');

/** Outside of the package, for one version of it on one kind of machine. */
function cacheDirectory(): string {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const base = process.geteuid?.() === 0 ? '/var/cache' : (process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'));
  return join(base, 'ext4d', `${version}-${process.arch}`);
}

/** Code is loaded from there: it must be nobody else's to write. */
function isOurs(directory: string): boolean {
  const { uid, mode } = statSync(directory);
  return uid === process.geteuid?.() && (mode & 0o022) === 0;
}

/** The best first: built in the package, shipped with it, built at the first run where the package cannot be written. */
export function addonPaths(): string[] {
  const cache = cacheDirectory();
  const directories = [BUILT, join(ROOT, 'native', 'prebuilt', `${process.platform}-${process.arch}`)];
  if (existsSync(cache) && isOurs(cache) && isOurs(dirname(cache))) directories.push(cache);
  return directories.map((directory) => join(directory, 'ext4d.node')).filter((path) => existsSync(path));
}

/** Where to build it, and with what. */
export function addonBuild(): { script: string; directory: string } {
  const script = join(ROOT, 'scripts', 'build-native.mjs');
  try {
    accessSync(join(ROOT, 'native'), constants.W_OK);
    return { script, directory: BUILT };
  } catch {
    return { script, directory: cacheDirectory() };
  }
}
