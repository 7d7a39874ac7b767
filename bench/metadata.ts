/**
 * Work with names and small files, timed in a process of its own on a mounted directory: `node metadata.js NAME DIRECTORY`
 * prints operations per second. Each finds what the one before it left.
 */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const FILES = 5000;
const DIRECTORIES = 10;

function eachFile(root: string, prefix: string, visit: (path: string) => void): void {
  for (let d = 0; d < DIRECTORIES; d++) {
    for (let i = 0; i < FILES / DIRECTORIES; i++) visit(join(root, `d${d}`, `${prefix}${i}`));
  }
}

const WORK: Record<string, (root: string) => void> = {
  create(root) {
    for (let d = 0; d < DIRECTORIES; d++) mkdirSync(join(root, `d${d}`));
    eachFile(root, 'f', (path) => closeSync(openSync(path, 'wx')));
  },
  stat(root) {
    eachFile(root, 'f', (path) => statSync(path));
  },
  readdir_stat(root) {
    for (let d = 0; d < DIRECTORIES; d++) {
      const directory = join(root, `d${d}`);
      for (const name of readdirSync(directory)) statSync(join(directory, name));
    }
  },
  rename(root) {
    eachFile(root, 'f', (path) => renameSync(path, path.replace(/f(\d+)$/, 'g$1')));
  },
  unlink(root) {
    eachFile(root, 'g', (path) => unlinkSync(path));
    for (let d = 0; d < DIRECTORIES; d++) rmdirSync(join(root, `d${d}`));
  },
  small4k(root) {
    const data = Buffer.alloc(4096, 'x');
    mkdirSync(join(root, 's'));
    for (let i = 0; i < FILES; i++) {
      const fd = openSync(join(root, 's', `f${i}`), 'wx');
      writeSync(fd, data);
      closeSync(fd);
    }
    // Until it is written: a page cache takes it at any speed.
    spawnSync('sync', ['-f', root]);
  },
};

export type MetadataWork = keyof typeof WORK;

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , name, root] = process.argv;
  const started = performance.now();
  WORK[name](root);
  process.stdout.write(String(FILES / ((performance.now() - started) / 1000)));
}
