/**
 * `ext4d freeze` and `ext4d thaw`, for what fsfreeze(8) does elsewhere: the kernel answers FIFREEZE for FUSE by itself, with
 * EOPNOTSUPP, so the server has commands of its own.
 */
import { spawn, spawnSync } from 'node:child_process';
import { constants } from 'node:os';
import { EXT4D_IOC_FREEZE, EXT4D_IOC_THAW } from '../fuse/operations-ioctl.js';
import { errorOf } from '../native.js';
import { parseArguments, UsageError } from './args.js';
import { CommandError } from './command-error.js';
import { COMMAND_TEXTS, usageOf } from './command-texts.js';
import { MountExit } from './exit-codes.js';
import { checkNative } from './mount-checks.js';
import { mountAt } from './mountinfo.js';
import { report } from './report.js';
import { control } from './server-control.js';

/** Exit code: 0 frozen, or what COMMAND ended with; 1 usage or permission, 32 not frozen. */
export async function runFreeze(args: readonly string[]): Promise<number> {
  return told('freeze', args, async () => {
    const end = args.indexOf('--');
    const command = end < 0 ? null : args.slice(end + 1);
    if (command?.length === 0) throw new UsageError('a command is missing behind --');
    const { positionals } = parseArguments(end < 0 ? args : args.slice(0, end), COMMAND_TEXTS.freeze.options, [
      'MOUNTPOINT',
    ]);
    const mountpoint = mountpointOf(positionals[0]);
    freeze(positionals[0], mountpoint);
    if (command === null) return MountExit.OK;
    try {
      return await run(command);
    } finally {
      thaw(positionals[0], mountpoint);
    }
  });
}

/** Exit code: 0 thawed, 1 usage or permission, 32 not thawed. */
export async function runThaw(args: readonly string[]): Promise<number> {
  return told('thaw', args, async () => {
    const { positionals } = parseArguments(args, COMMAND_TEXTS.thaw.options, ['MOUNTPOINT']);
    thaw(positionals[0], mountpointOf(positionals[0]));
    return MountExit.OK;
  });
}

async function told(name: 'freeze' | 'thaw', args: readonly string[], work: () => Promise<number>): Promise<number> {
  try {
    return await work();
  } catch (error) {
    const code = report(`ext4d ${name}`, error, args[0]);
    if (error instanceof UsageError) process.stderr.write(`usage: ${usageOf(name)}; see: ext4d help ${name}\n`);
    return code;
  }
}

function mountpointOf(typed: string): string {
  checkNative();
  const entry = mountAt(typed);
  if (entry === null) throw new CommandError(`${typed}: not mounted; what is: findmnt -t fuse.ext4d,fuseblk.ext4d`);
  if (!entry.type.startsWith('fuse')) throw new CommandError(`${typed}: mounted as ${entry.type}: use fsfreeze`);
  return entry.mountpoint;
}

function freeze(typed: string, mountpoint: string): void {
  // What only the page cache holds comes first: once frozen the server would not take it.
  const synced = spawnSync('sync', ['-f', '--', mountpoint], { encoding: 'utf8' });
  if (synced.status !== 0) throw new CommandError(`${typed}: cannot be synced: ${synced.stderr.trim()}`);
  const errno = control(mountpoint, EXT4D_IOC_FREEZE);
  if (errno !== 0) throw refusal(typed, errno, `frozen already; to end that: ext4d thaw ${typed}`);
}

function thaw(typed: string, mountpoint: string): void {
  const errno = control(mountpoint, EXT4D_IOC_THAW);
  if (errno !== 0) throw refusal(typed, errno, 'not frozen: nothing to do');
}

/** Thaws what is mounted there, if it is frozen and of ours: its last changes would keep an unmount waiting. */
export function thawForUnmount(mountpoint: string): void {
  try {
    control(mountpoint, EXT4D_IOC_THAW);
  } catch {
    // A server that is gone holds nothing.
  }
}

function refusal(typed: string, errno: number, inThatState: string): CommandError {
  const { EBUSY, EINVAL, ENOTTY, EPERM } = constants.errno;
  switch (errno) {
    case EBUSY:
    case EINVAL:
      return new CommandError(`${typed}: ${inThatState}`);
    case EPERM:
      return new CommandError(`${typed}: that is for root, and for whoever mounted it`, MountExit.USAGE);
    case ENOTTY:
      return new CommandError(`${typed}: not mounted by ext4d: see findmnt ${typed}`);
    default:
      return new CommandError(`${typed}: ${errorOf(-errno, 'freeze').message}; the system log tells more`);
  }
}

/** Signals meant for the command reach it as well; this process stays to thaw. */
function run(command: readonly string[]): Promise<number> {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  const child = spawn(command[0], command.slice(1), { stdio: 'inherit' });
  const pass = (signal: NodeJS.Signals) => child.kill(signal);
  for (const signal of signals) process.on(signal, pass);
  return new Promise<number>((done, fail) => {
    child.on('error', (error) => fail(new CommandError(`${command[0]}: cannot be run: ${error.message}`)));
    child.on('close', (code, signal) => done(code ?? 128 + (signal === null ? 0 : constants.signals[signal])));
  }).finally(() => {
    for (const signal of signals) process.off(signal, pass);
  });
}
