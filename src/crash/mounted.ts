/** A device served at a mountpoint by this very process, and commands that run in it. */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { setTimeout } from 'node:timers/promises';
import type { BlockDevice } from '../block/device.js';
import type { FsError } from '../errors.js';
import { Filesystem } from '../ext4/filesystem.js';
import { mountFuse, permissionsAreChecked, requestUnmount } from '../fuse/mount.js';
import { Session } from '../fuse/session.js';

export interface CommandResult {
  /** Exit code; 128 and the signal's number if a signal ended it. */
  readonly code: number;
  readonly output: string;
}

export interface CommandOptions {
  readonly stdin?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly timeoutMs?: number;
  /** Each piece of its output as it comes. */
  readonly onOutput?: (text: string) => void;
  /** Ends the command. */
  readonly signal?: AbortSignal;
}

const SIGNALS_FROM = 128;
const TIMED_OUT = 124;
const LINGER_MS = 5000;

export interface MountedOptions {
  readonly mountpoint: string;
  /** A block device for the kernel to hold, of which it reads nothing: then sync(2) and syncfs(2) come through. Root only. */
  readonly standIn: string | null;
  /** Stands between the mount and the engine. */
  readonly wrap?: (fs: Filesystem) => Filesystem;
}

/** Something keeps files open: this process still serves them, unseen, and must end itself. */
export class MountBusyError extends Error {
  constructor() {
    super('something that the command started still has files open: have the command end it');
  }
}

/**
 * Mounts, runs `use` while it is served, unmounts. Throws what mounting and `use` throw, the error of closing, and
 * MountBusyError.
 */
export async function whileMounted<T>(
  device: BlockDevice,
  { mountpoint, standIn, wrap = (fs) => fs }: MountedOptions,
  use: () => Promise<T>,
): Promise<T> {
  const fs = Filesystem.open(device);
  const fuseFd = mountFuse({
    source: standIn ?? 'ext4d-crashtest',
    mountpoint,
    blkdev: standIn !== null,
    blksize: fs.volume.geometry.blockSize,
    options: standIn === null ? { fsname: 'ext4d-crashtest' } : {},
  });
  const ended = new Promise<FsError | null>((done) => {
    new Session({
      fs: wrap(fs),
      fuseFd,
      device,
      blockSize: fs.volume.geometry.blockSize,
      permissionsChecked: permissionsAreChecked({}),
      onEnd: done,
    }).start();
  });
  let error: FsError | null;
  let result: T;
  try {
    result = await use();
  } finally {
    error = await unmounted(mountpoint, ended);
  }
  if (error !== null) throw error;
  return result;
}

/** Those who still have files open lose the mount from sight, and keep the server until they end. */
async function unmounted(mountpoint: string, ended: Promise<FsError | null>): Promise<FsError | null> {
  const request = (lazy: boolean) => new Promise<number>((done) => requestUnmount(mountpoint, lazy, done));
  if ((await request(false)) === 0) return await ended;
  await request(true);
  const timer = new AbortController();
  const lingered = setTimeout(LINGER_MS, true, { signal: timer.signal }).catch(() => false);
  const late = await Promise.race([ended.then(() => false), lingered]);
  timer.abort();
  if (late) throw new MountBusyError();
  return await ended;
}

/**
 * Runs a command with `directory`, which this process serves, as its working directory. What it leaves running in its
 * process group is killed when it ends.
 */
export function runIn(
  directory: string,
  command: readonly string[],
  { stdin = '', env = process.env, timeoutMs = 0, onOutput, signal: stop }: CommandOptions = {},
): Promise<CommandResult> {
  return new Promise((done, fail) => {
    // The shell enters the directory, not spawn(): this thread must be free to answer for it.
    const child = spawn('/bin/sh', ['-c', 'cd "$0" && exec "$@"', directory, ...command], {
      cwd: '/',
      env: { ...env, EXT4D_MOUNT: directory },
      stdio: ['pipe', 'pipe', 'pipe'],
      detached: true,
    });
    let output = '';
    let late = false;
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
        onOutput?.(text);
      });
    }
    const end = () => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      } catch {
        // None of them is left.
      }
    };
    stop?.addEventListener('abort', end);
    if (stop?.aborted) end();
    const timer = new AbortController();
    if (timeoutMs > 0) {
      setTimeout(timeoutMs, undefined, { signal: timer.signal }).then(
        () => {
          late = true;
          end();
        },
        () => {},
      );
    }
    child.on('error', fail);
    child.on('exit', end);
    child.on('close', (code, signal) => {
      timer.abort();
      stop?.removeEventListener('abort', end);
      if (late) done({ code: TIMED_OUT, output: `${output}(killed after ${timeoutMs / 1000} s)` });
      else done({ code: code ?? SIGNALS_FROM + (signal === null ? 0 : constants.signals[signal]), output });
    });
    child.stdin.on('error', () => {});
    child.stdin.end(stdin);
  });
}
