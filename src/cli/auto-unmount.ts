/** mount -o auto_unmount: a mount whose server died is taken away, instead of answering "not connected" to everybody. */
import { spawn } from 'node:child_process';

/** Waits for the end of its input, which is the end of the server, however it came. A clean end leaves nothing to do. */
const WATCH = `
cat >/dev/null
LC_ALL=C stat "$1" 2>&1 | grep -q 'not connected' || exit 0
umount -l "$1" 2>/dev/null || fusermount3 -u -z "$1"
`;

/** Starts a process, a shell of some hundred KiB, that outlives this one for as long as that takes. */
export function unmountWhenDead(mountpoint: string): void {
  const watcher = spawn('/bin/sh', ['-c', WATCH, 'ext4d-auto-unmount', mountpoint], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  watcher.on('error', () => {});
  watcher.unref();
  (watcher.stdin as NodeJS.WritableStream & { unref?: () => void }).unref?.();
}
