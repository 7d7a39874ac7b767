/** Commands that must succeed. */
import { spawnSync } from 'node:child_process';
import { rmSync, writeFileSync } from 'node:fs';

export const ENV = { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` };

/** What it printed. Throws if it fails or takes longer than ten minutes. */
export function sh(command: string, ...args: string[]): string {
  return shEnding(0, command, ...args);
}

/** The same for a command that ends with another code than 0 when all is well. */
export function shEnding(code: number, command: string, ...args: string[]): string {
  const result = spawnSync(command, args, { env: ENV, encoding: 'utf8', timeout: 600_000, maxBuffer: 64 << 20 });
  if (result.status !== code) {
    const why = result.error?.message ?? result.stderr;
    throw new Error(`${command} ${args.join(' ')}: exit ${result.status}: ${why}`);
  }
  return result.stdout.trim();
}

/** Seconds that it takes. */
export function timed(work: () => void): number {
  const started = performance.now();
  work();
  return (performance.now() - started) / 1000;
}

/** Nothing of any file is in memory any more. */
export function dropCaches(): void {
  sh('sync');
  writeFileSync('/proc/sys/vm/drop_caches', '3');
}

/**
 * What a row takes for page caches has been in use a moment ago. A virtual machine may give its free memory back to its host;
 * the first to touch a page then waits for the host, several times as long as for the filesystem.
 */
export function touchMemory(): void {
  const file = `/dev/shm/ext4d-bench-touched-${process.pid}`;
  sh('dd', 'if=/dev/zero', `of=${file}`, 'bs=1M', 'count=1024', 'status=none');
  rmSync(file);
}

export function isInstalled(command: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${command}`], { env: ENV }).status === 0;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length === 0 ? Number.NaN : sorted[Math.floor(sorted.length / 2)];
}
