/** /dev/fd/N in the place of an image or a mountpoint: something that a launcher has opened, or mounted, already. */

/** N; null for an ordinary path. */
export function inheritedFd(path: string): number | null {
  const [, fd] = /^\/dev\/fd\/(\d+)$/.exec(path) ?? [];
  return fd === undefined ? null : Number(fd);
}

/** Descriptors for a child, each under its own number, and a pipe at the first number that is free. */
export function stdioWith(paths: readonly string[]): {
  stdio: (number | 'ignore' | 'inherit' | 'pipe')[];
  pipeAt: number;
} {
  const stdio: (number | 'ignore' | 'inherit' | 'pipe')[] = ['ignore', 'ignore', 'inherit'];
  for (const path of paths) {
    const fd = inheritedFd(path);
    if (fd === null || fd < 3) continue;
    while (stdio.length <= fd) stdio.push('ignore');
    stdio[fd] = fd;
  }
  return { stdio: [...stdio, 'pipe'], pipeAt: stdio.length };
}
