/** The command line: one table of commands. Each is loaded only when it is asked for. */
import { readFileSync } from 'node:fs';
import { MountExit } from './exit-codes.js';

interface Command {
  readonly usage: string;
  readonly summary: string;
  readonly run: (args: readonly string[]) => Promise<number>;
}

const COMMANDS: Record<string, Command> = {
  mount: {
    usage: 'mount [-f] [-d] [-r] [-o OPTIONS] IMAGE|DEVICE MOUNTPOINT',
    summary: 'mount an ext4 image or block device; -f stays in the foreground, -d also tells what it does',
    run: async (args) => (await import('./mount.js')).runMount(args),
  },
  umount: {
    usage: 'umount [-l] MOUNTPOINT',
    summary: 'unmount; returns when the image is clean and the server gone',
    run: async (args) => (await import('./umount.js')).runUmount(args),
  },
  replay: {
    usage: 'replay [-n] [--log-only] [--json] [--journal DEVICE] IMAGE',
    summary: 'recover an image without mounting it: the log, then orphans; -n only tells what it would do',
    run: async (args) => (await import('./replay.js')).runReplay(args),
  },
  journal: {
    usage: 'journal [--json] [--journal DEVICE] IMAGE',
    summary: 'show the log, transaction by transaction',
    run: async (args) => (await import('./journal.js')).runJournal(args),
  },
  info: {
    usage: 'info [--json] [--journal DEVICE] IMAGE',
    summary: 'show superblock, features, journal state and orphans',
    run: async (args) => (await import('./info.js')).runInfo(args),
  },
  check: {
    usage: 'check [--json] [--journal DEVICE] IMAGE',
    summary: 'look for contradictions in an image; a dirty log is replayed in memory',
    run: async (args) => (await import('./check.js')).runCheck(args),
  },
  crashtest: {
    usage: 'crashtest [--setup SHELL] [--verify SHELL] [OPTIONS] -- COMMAND...',
    summary: 'run a program, then crash its filesystem at every moment of it, and see which promises are broken',
    run: async (args) => (await import('./crashtest.js')).runCrashtest(args),
  },
  demo: {
    usage: 'demo',
    summary: 'make an image, kill its server in mid-write, and show that nothing fsynced is lost',
    run: async (args) => (await import('./demo.js')).runDemo(args),
  },
};

function help(): string {
  const lines = Object.values(COMMANDS).map(({ usage, summary }) => `  ext4d ${usage}\n        ${summary}\n`);
  return `ext4d: an ext4 filesystem server in user space, with a real jbd2 journal

${lines.join('')}
  ext4d --help | --version

Mount options (-o, separated by commas): ro rw norecovery data=ordered|writeback commit=SECONDS
errors=continue|remount-ro|panic offset=BYTES sizelimit=BYTES cache_size=N[kmg] allow_other subtype= fsname=,
and the generic words (nosuid nodev noexec noatime ...). What is not supported is refused by name.
`;
}

function version(): string {
  // Seen from build/src/cli.
  const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'));
  return `ext4d ${version}\n`;
}

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
    process.stderr.write(help());
    return MountExit.USAGE;
  }
  if (name === '--help' || name === '-h' || name === 'help') {
    process.stdout.write(help());
    return MountExit.OK;
  }
  if (name === '--version' || name === '-V') {
    process.stdout.write(version());
    return MountExit.OK;
  }
  // mount.fuse of libfuse runs `ext4d IMAGE DIR -o ...` for an fstab line with ext4d#IMAGE.
  if (name.includes('/')) return COMMANDS.mount.run(args);
  if (!Object.hasOwn(COMMANDS, name)) {
    process.stderr.write(`ext4d: unknown command: ${name}; see: ext4d --help\n`);
    return MountExit.USAGE;
  }
  const command = COMMANDS[name];
  const own = rest.includes('--') ? rest.slice(0, rest.indexOf('--')) : rest;
  if (own.includes('--help') || own.includes('-h')) {
    process.stdout.write(`usage: ext4d ${command.usage}\n       ${command.summary}\n`);
    return MountExit.OK;
  }
  return command.run(rest);
}
