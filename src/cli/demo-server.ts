/** The server of the demonstration, as a child process; and the tools that it calls, with limits on their time. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { CommandError } from './command-error.js';
import { mountAt } from './mountinfo.js';

/** Seen from build/src/cli. */
export const PROGRAM = fileURLToPath(new URL('../../../bin/ext4d', import.meta.url));

const TOOL_MS = 60_000;
const START_MS = 20_000;
const END_MS = 30_000;

/** e2fsprogs lives in sbin, which is not on everyone's PATH. */
const environment = () => ({ ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` });

export function runTool(
  command: string,
  args: readonly string[],
  { mayFail = false } = {},
): { code: number; output: string } {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    env: environment(),
    timeout: TOOL_MS,
    maxBuffer: 1 << 28,
  });
  if (error) throw new CommandError(`${command}: ${error.message}`, 2);
  const output = `${stdout}${stderr}`;
  if (status !== 0 && !mayFail) throw new CommandError(`${command} failed (exit code ${status}): ${output.trim()}`, 1);
  return { code: status ?? -1, output: mayFail ? output : stdout };
}

const sleep = (ms: number) => new Promise((done) => setTimeout(done, ms));

export class DemoServer {
  readonly image: string;
  readonly mountpoint: string;
  private child: ChildProcess | null = null;
  private said = '';

  constructor(image: string, mountpoint: string) {
    this.image = image;
    this.mountpoint = mountpoint;
  }

  get pid(): number {
    return this.child?.pid ?? 0;
  }

  /** Returns, once it is mounted, what the server said while it mounted. */
  async start(): Promise<string[]> {
    this.said = '';
    const child = spawn(process.execPath, [PROGRAM, 'mount', '-f', '-v', '--ready-fd=3', this.image, this.mountpoint], {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    });
    this.child = child;
    child.stderr?.on('data', (chunk) => {
      this.said += chunk;
    });
    let ready = false;
    let silent = false;
    child.stdio[3]?.on('data', () => {
      ready = true;
    });
    child.stderr?.on('end', () => {
      silent = true;
    });
    const deadline = performance.now() + START_MS;
    // Once mounted the server lets go of its stderr: then everything it said is here.
    while (!ready || !silent) {
      if (this.ended()) throw new CommandError(`the server did not start: ${this.said.trim()}`, 1);
      if (performance.now() > deadline) throw new CommandError('the server did not mount in time', 1);
      await sleep(10);
    }
    return this.said.split('\n').filter((line) => line !== '');
  }

  private ended(): boolean {
    return this.child === null || this.child.exitCode !== null || this.child.signalCode !== null;
  }

  private async end(): Promise<void> {
    const deadline = performance.now() + END_MS;
    while (!this.ended()) {
      if (performance.now() > deadline) throw new CommandError('the server did not end in time', 1);
      await sleep(10);
    }
  }

  /** Pulls the plug: nothing of what the server holds in memory survives. */
  async kill(): Promise<void> {
    this.child?.kill('SIGKILL');
    await this.end();
    this.detach();
  }

  async unmount(): Promise<void> {
    runTool(process.execPath, [PROGRAM, 'umount', this.mountpoint]);
    await this.end();
    if (this.child?.exitCode !== 0)
      throw new CommandError(`the server ended with exit code ${this.child?.exitCode}`, 1);
  }

  private detach(): void {
    if (mountAt(this.mountpoint) === null) return;
    if (process.geteuid?.() === 0) runTool('umount', ['-l', this.mountpoint], { mayFail: true });
    else runTool('fusermount3', ['-uz', this.mountpoint], { mayFail: true });
  }

  /** Whatever state it is in: gone afterwards. */
  cleanUp(): void {
    if (!this.ended()) this.child?.kill('SIGKILL');
    this.detach();
  }
}
