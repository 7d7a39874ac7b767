/** A command of this program, run in this process. */

/** Runs a command of ours; what it prints is returned. */
export function command(
  main: (args: readonly string[]) => number,
  ...args: string[]
): { code: number; out: string; err: string } {
  const kept = { stdout: process.stdout.write, stderr: process.stderr.write };
  const text = { stdout: '', stderr: '' };
  for (const stream of ['stdout', 'stderr'] as const) {
    process[stream].write = ((chunk: string) => {
      text[stream] += chunk;
      return true;
    }) as typeof process.stdout.write;
  }
  try {
    const code = main(args);
    return { code, out: text.stdout, err: text.stderr };
  } finally {
    process.stdout.write = kept.stdout;
    process.stderr.write = kept.stderr;
  }
}
