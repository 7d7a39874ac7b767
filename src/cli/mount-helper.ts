/**
 * mount.fuse.ext4d: what mount(8) runs for `-t fuse.ext4d`, as `mount.fuse.ext4d SPEC DIR [-sfnv] [-o OPTIONS]
 * [-t TYPE]`. Here -f means "fake": check everything, mount nothing.
 */
import { OptionError, parseArguments, UsageError } from './args.js';
import { MountExit } from './exit-codes.js';
import { mountInBackground } from './mount.js';
import { checkTargets } from './mount-checks.js';
import { parseMountOptions, splitWords } from './mount-options.js';
import { isRemount, remount } from './remount.js';
import { report } from './report.js';
import { version } from './version.js';

const NAME = 'mount.fuse.ext4d';
const USAGE = `usage: ${NAME} IMAGE|DEVICE DIR [-sfnvrw] [-o OPTIONS] [-t TYPE]`;
export const HELPER_OPTIONS = {
  sloppy: { type: 'boolean', short: 's' },
  fake: { type: 'boolean', short: 'f' },
  'no-mtab': { type: 'boolean', short: 'n' },
  verbose: { type: 'boolean', short: 'v' },
  'read-only': { type: 'boolean', short: 'r' },
  'read-write': { type: 'boolean', short: 'w' },
  options: { type: 'string', short: 'o' },
  types: { type: 'string', short: 't' },
  namespace: { type: 'string', short: 'N' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean', short: 'V' },
} as const;

export async function main(args: readonly string[]): Promise<void> {
  process.exitCode = await runHelper(args);
}

async function runHelper(args: readonly string[]): Promise<number> {
  if (args.includes('--help') || args.includes('-h')) {
    process.stdout.write(`${USAGE}\nWhat mount -t fuse.ext4d runs; the options: ext4d help mount\n`);
    return MountExit.OK;
  }
  if (args.includes('--version') || args.includes('-V')) {
    process.stdout.write(version());
    return MountExit.OK;
  }
  try {
    const { flags, values, positionals } = parseArguments(args, HELPER_OPTIONS, ['IMAGE', 'DIR']);
    if (values.namespace.length > 0)
      throw new UsageError('-N is not supported: enter the namespace first, with nsenter');
    const [image, directory] = positionals;
    const remounts = isRemount(values.options);
    const words = remounts ? [...values.options] : values.options.map(withoutDefault);
    if (flags['read-only']) words.push('ro');
    if (flags['read-write']) words.push('rw');
    if (remounts) return flags.fake ? MountExit.OK : remount(NAME, directory, words);
    const options = parseMountOptions(words, { sloppy: flags.sloppy });
    if (flags.verbose && options.ignored.length > 0) {
      process.stdout.write(`${NAME}: ignored: ${options.ignored.join(', ')}\n`);
    }
    if (flags.fake) {
      checkTargets(image, directory);
      return MountExit.OK;
    }
    // What -s let pass must not meet the server's own, strict parser.
    const known = words.length === 0 ? [] : [withoutIgnored(words, options.ignored)];
    return await mountInBackground(image, directory, { words: known, options, verbose: flags.verbose });
  } catch (error) {
    const code = report(NAME, error, args[0]);
    if (error instanceof UsageError && !(error instanceof OptionError)) process.stderr.write(`${USAGE}\n`);
    return code;
  }
}

/** mount(8) begins every list with `ro` or `rw`: this `rw` is nobody's wish, and what is write-protected is mounted read-only. */
const withoutDefault = (list: string) => list.replace(/^rw(,|$)/, '');

function withoutIgnored(lists: readonly string[], ignored: readonly string[]): string {
  return lists
    .flatMap(splitWords)
    .filter((word) => !ignored.includes(word))
    .map((word) => word.replaceAll(',', '\\,'))
    .join(',');
}
