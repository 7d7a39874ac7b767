/** The three that are compared, each mounting an image file for root. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isInstalled, sh } from './shell.js';

export const EXT4D = resolve(dirname(fileURLToPath(import.meta.url)), '../../bin/ext4d');

export interface Server {
  readonly name: 'ext4d' | 'fuse2fs' | 'kernel';
  /** Returns what unmounts it, and returns when the image is closed. */
  mount(image: string, directory: string): () => void;
}

/** Words after -o. */
export const mountOptions = { ext4d: '' };

export const SERVERS: readonly Server[] = [
  {
    name: 'ext4d',
    mount(image, directory) {
      sh(EXT4D, 'mount', '-o', mountOptions.ext4d, image, directory);
      return () => sh(EXT4D, 'umount', directory);
    },
  },
  {
    name: 'fuse2fs',
    mount(image, directory) {
      sh('fuse2fs', '-o', 'fakeroot', image, directory);
      return () => {
        sh('umount', directory);
        // A plain umount returns before the server has written everything back.
        while (isRunning('fuse2fs', image)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
      };
    },
  },
  {
    name: 'kernel',
    mount(image, directory) {
      sh('mount', '-i', '-t', 'ext4', '-o', 'loop', image, directory);
      return () => sh('umount', directory);
    },
  },
];

/** Those that this machine has. */
export const availableServers = () => SERVERS.filter(({ name }) => name !== 'fuse2fs' || isInstalled('fuse2fs'));

function isRunning(program: string, image: string): boolean {
  return readdirSync('/proc').some((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      return words[0].endsWith(program) && words.includes(image);
    } catch {
      return false;
    }
  });
}
