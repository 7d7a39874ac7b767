/** mount -o auto_unmount: a mount whose server died is taken away, instead of answering "not connected" to everybody. */
import { spawn } from 'node:child_process';

/**
 * Waits for the end of its input, which is the end of the server, however it came. A clean end leaves nothing to do.
 * Attributes may be in the kernel's cache; what the filesystem has free (stat -f) only a server knows. The question may
 * come in time to be aborted with the connection, or after that: either way it fails.
 */
const WATCH = `
cat >/dev/null
stat -f "$1" >/dev/null 2>&1 && exit 0
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
