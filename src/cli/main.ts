/** The command line. Each command is loaded only when it is asked for. */
import { helpOf, isCommand, overview } from './command-texts.js';
import { type CommandName, CrashtestExit, ImageExit, MountExit } from './exit-codes.js';
import { version } from './version.js';

type Run = (args: readonly string[]) => number | Promise<number>;

const COMMANDS: Record<CommandName, () => Promise<Run>> = {
  mount: async () => (await import('./mount.js')).runMount,
  umount: async () => (await import('./umount.js')).runUmount,
  freeze: async () => (await import('./freeze.js')).runFreeze,
  thaw: async () => (await import('./freeze.js')).runThaw,
  replay: async () => (await import('./replay.js')).runReplay,
  journal: async () => (await import('./journal.js')).runJournal,
  info: async () => (await import('./info.js')).runInfo,
  check: async () => (await import('./check.js')).runCheck,
  quota: async () => (await import('./quota.js')).runQuota,
  crashtest: async () => (await import('./crashtest.js')).runCrashtest,
  demo: async () => (await import('./demo.js')).runDemo,
};

/** Runs one command line; the process ends with the command's exit code. */
export async function main(args: readonly string[]): Promise<void> {
  // `ext4d journal IMAGE | head` ends without a word.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit();
  });
  const code = await dispatch(args);
  // A mount that something keeps busy must not keep this process.
  if (args[0] === 'crashtest') process.exit(code);
  process.exitCode = code;
}

async function dispatch(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined) {
    process.stderr.write(overview());
    return MountExit.USAGE;
  }
  if (name === '--help' || name === '-h' || name === 'help') return help(rest[0]);
  if (name === '--version' || name === '-V') {
    process.stdout.write(version());
    return MountExit.OK;
  }
  // mount.fuse of libfuse runs `ext4d IMAGE DIR -o ...` for an fstab line with ext4d#IMAGE.
  if (name.includes('/')) return run('mount', args);
  if (!isCommand(name)) return unknown(name);
  const own = rest.includes('--') ? rest.slice(0, rest.indexOf('--')) : rest;
  if (own.includes('--help') || own.includes('-h')) return help(name);
  return run(name, rest);
}

function help(name: string | undefined): number {
  if (name !== undefined && !isCommand(name)) return unknown(name);
  process.stdout.write(name === undefined ? overview() : helpOf(name));
  return MountExit.OK;
}

function unknown(name: string): number {
  const what = name.startsWith('-') ? 'option' : 'command';
  process.stderr.write(
    `ext4d: unknown ${what}: ${name}; the commands: ${Object.keys(COMMANDS).join(' ')}; see: ext4d --help\n`,
  );
  return MountExit.USAGE;
}

/** What a bug of this program ends with: mount's own code, or what fsck calls an operational error. */
const BUG_CODES: Partial<Record<CommandName, number>> = {
  replay: ImageExit.OPERATIONAL,
  journal: ImageExit.OPERATIONAL,
  info: ImageExit.OPERATIONAL,
  check: ImageExit.OPERATIONAL,
  quota: ImageExit.OPERATIONAL,
  crashtest: CrashtestExit.OPERATIONAL,
};

async function run(name: CommandName, args: readonly string[]): Promise<number> {
  try {
    return await (await COMMANDS[name]())(args);
  } catch (error) {
    const code = BUG_CODES[name];
    if (code === undefined) throw error;
    process.stderr.write(`ext4d: internal error: ${error instanceof Error ? error.stack : String(error)}\n`);
    return code;
  }
}
