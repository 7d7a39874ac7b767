/** Asks the server behind a mountpoint for what FUSE has no request for. */
import { closeSync, openSync } from 'node:fs';
import { requireNative } from '../native.js';

/** `command` is one of the ioctls of `fuse/operations-ioctl.ts`. Returns 0, or the errno. */
export function control(mountpoint: string, command: number): number {
  const fd = openSync(mountpoint, 'r');
  try {
    return -requireNative().control(fd, command);
  } finally {
    closeSync(fd);
  }
}
