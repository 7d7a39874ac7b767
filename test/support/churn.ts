/**
 * A writer process for crash tests: creates, replaces by rename, truncates and removes files in a directory for ever, and
 * prints a line for every promise the filesystem has made it: `durable NAME SHA256` once file and directory are fsynced,
 * `maybe NAME SHA256` before a rename that may or may not survive. Run as `node churn.js DIRECTORY SEED`.
 */
import { createHash } from 'node:crypto';
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, truncateSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const [, , directory, seedText] = process.argv;
let state = Number(seedText) >>> 0;

function random(limit: number): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * limit);
}

function fsyncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  fsyncSync(fd);
  closeSync(fd);
}

function writeFile(path: string, data: Buffer, durable: boolean): void {
  const fd = openSync(path, 'w');
  writeSync(fd, data);
  if (durable) fsyncSync(fd);
  closeSync(fd);
}

function tell(kind: 'durable' | 'maybe', name: string, data: Buffer): void {
  writeSync(1, `${kind} ${name} ${createHash('sha256').update(data).digest('hex')}\n`);
}

mkdirSync(directory, { recursive: true });
fsyncDirectory(join(directory, '..'));
const loose: string[] = [];
for (let n = 0; ; n++) {
  const data = Buffer.alloc([10, 500, 4096, 20_000, 200_000][random(5)], String.fromCharCode(97 + random(26)) + n);
  const choice = random(100);
  if (choice < 35) {
    const name = `durable-${n}`;
    writeFile(join(directory, name), data, true);
    fsyncDirectory(directory);
    tell('durable', name, data);
  } else if (choice < 60) {
    const slot = `slot-${random(5)}`;
    writeFile(join(directory, `${slot}.tmp`), data, true);
    tell('maybe', slot, data);
    renameSync(join(directory, `${slot}.tmp`), join(directory, slot));
    fsyncDirectory(directory);
    tell('durable', slot, data);
  } else if (choice < 78 || loose.length === 0) {
    const path = join(directory, `loose-${n}`);
    writeFile(path, data, false);
    loose.push(path);
  } else if (choice < 86) {
    unlinkSync(loose.splice(random(loose.length), 1)[0]);
  } else if (choice < 93) {
    truncateSync(loose[random(loose.length)], random(100_000));
  } else {
    const index = random(loose.length);
    const to = join(directory, `renamed-${n}`);
    renameSync(loose[index], to);
    loose[index] = to;
  }
}
