/**
 * `ext4d mount`. With -f this process serves until it is unmounted; otherwise it starts that as a process of its own and
 * returns once the filesystem is mounted, so that every error is told, and known by the exit code, before it detaches.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { OptionError, parseArguments, UsageError } from './args.js';
import { CommandError } from './command-error.js';
import { COMMAND_TEXTS, usageOf } from './command-texts.js';
import { MountExit } from './exit-codes.js';
import { stdioWith } from './inherited-fd.js';
import { checkTargets } from './mount-checks.js';
import { type MountOptions, parseMountOptions } from './mount-options.js';
import { isRemount, remount } from './remount.js';
import { report } from './report.js';
import { mountAgainOn, mountedAlready } from './shared-mount.js';

const NAME = 'ext4d mount';
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** Seen from build/src/cli: the daemon shows in ps as what the user would have typed. */
const PROGRAM = fileURLToPath(new URL('../../../bin/ext4d', import.meta.url));

/** Exit codes as mount(8). With -f the process has served and the filesystem is unmounted when this returns. */
export async function runMount(args: readonly string[]): Promise<number> {
  let image = '';
  try {
    const { flags, values, positionals } = parseArguments(args, COMMAND_TEXTS.mount.options, ['IMAGE', 'MOUNTPOINT']);
    const directory = positionals[1];
    image = positionals[0];
    const words = [...values.options];
    if (flags['read-only']) words.push('ro');
    if (flags['read-write']) words.push('rw');
    if (isRemount(words)) return remount(NAME, directory, words);
    const options = parseMountOptions(words);
    if (!flags.foreground && !flags.debug) {
      return await mountInBackground(image, directory, { words, options, verbose: flags.verbose });
    }
    const { serve } = await import('./serve.js');
    const readyFd = values['ready-fd'].at(-1);
    return await serve(image, directory, options, {
      verbose: flags.verbose || flags.debug,
      readyFd: readyFd === undefined ? null : Number(readyFd),
    });
  } catch (error) {
    const code = report(NAME, error, image);
    if (error instanceof UsageError && !(error instanceof OptionError))
      process.stderr.write(`usage: ${usageOf('mount')}; see: ext4d help mount\n`);
    return code;
  }
}

export interface BackgroundOptions {
  /** Lists of mount options, as after -o, already found valid. */
  readonly words: readonly string[];
  /** What they say. */
  readonly options: MountOptions;
  readonly verbose: boolean;
}

/** Starts the server as a daemon, unless there is one already; returns its exit code, or 0 once it is mounted. */
export async function mountInBackground(
  image: string,
  directory: string,
  { words, options, verbose }: BackgroundOptions,
): Promise<number> {
  const already = mountedAlready(image, words);
  if (already !== null) {
    mountAgainOn(already, image, directory, { options, words });
    return MountExit.OK;
  }
  checkTargets(image, directory);
  const { stdio, pipeAt } = stdioWith([image, directory]);
  const args = ['mount', '-f', `--ready-fd=${pipeAt}`];
  if (verbose) args.push('-v');
  if (words.length > 0) args.push('-o', words.join(','));
  // Absolute: the server leaves this directory.
  args.push('--', resolve(image), resolve(directory));
  // First of all: from the moment that there is a server, it is the server that a signal is for.
  let server: ChildProcess | null = null;
  for (const signal of SIGNALS) process.on(signal, () => server?.kill(signal));
  const child = spawn(process.execPath, [PROGRAM, ...args], { stdio, detached: true });
  server = child;
  return new Promise((done, fail) => {
    const ready = child.stdio[pipeAt] as NodeJS.ReadableStream;
    ready.on('data', () => {
      // Mounted and serving. Nothing of the daemon may keep this process.
      child.unref();
      (ready as NodeJS.ReadableStream & { destroy(): void }).destroy();
      done(MountExit.OK);
    });
    child.on('error', (error) => fail(new CommandError(`cannot start the server: ${error.message}`, MountExit.SYSTEM)));
    child.on('exit', (code, signal) => {
      if (code !== null && code !== 0) done(code);
      else if (signal !== null && SIGNALS.some((one) => one === signal)) {
        fail(new CommandError(`${image}: interrupted (${signal}); it is not mounted`, MountExit.INTERRUPTED));
      } else
        fail(
          new CommandError(
            `${image}: the server ended before it was mounted (${signal ?? 'unmounted'}): mount with -f to see more`,
          ),
        );
    });
  });
}
