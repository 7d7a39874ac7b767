/**
 * Makes build/rehearsal.stage, the filesystem on which a fresh server rehearses (src/fuse/rehearsal-stage.ts), unless it is
 * there and no older than this. Without mke2fs there is none, and the first operations of each mount are slower.
 *
 * A filesystem of 4 GiB, so that places lie beyond 2 GiB as they do on real ones: of its blocks only those that hold something,
 * each after its number.
 */
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { delimiter, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const SIZE_BYTES = 4 * 2 ** 30;
const BLOCK_BYTES = 4096;
const PIECE_BYTES = 4 * 2 ** 20;

const build = join(resolve(dirname(fileURLToPath(import.meta.url)), '..'), 'build');
const stage = join(build, 'rehearsal.stage');

function makeImage(path) {
  writeFileSync(path, '');
  truncateSync(path, SIZE_BYTES);
  const args = ['-q', '-F', '-t', 'ext4', '-b', `${BLOCK_BYTES}`, '-J', 'size=4', '-N', '65536'];
  const env = { ...process.env, PATH: `${process.env.PATH ?? ''}${delimiter}/usr/sbin${delimiter}/sbin` };
  return spawnSync('mke2fs', [...args, '-E', 'lazy_itable_init=1', path], { stdio: 'ignore', env }).status === 0;
}

/** Each block of the image that is not all zeroes, after its number (32 bits, little-endian). */
function usedBlocks(path, flags) {
  const records = [];
  // At the beginning of a page, as O_DIRECT wants it.
  const piece = Buffer.from(new WebAssembly.Memory({ initial: PIECE_BYTES / 65536 }).buffer);
  const empty = Buffer.alloc(PIECE_BYTES);
  const fd = openSync(path, constants.O_RDONLY | flags);
  try {
    for (let at = 0; at < SIZE_BYTES; at += PIECE_BYTES) {
      if (readSync(fd, piece, 0, PIECE_BYTES, at) !== PIECE_BYTES) throw new Error(`${path}: short read`);
      if (piece.equals(empty)) continue;
      for (let from = 0; from < PIECE_BYTES; from += BLOCK_BYTES) {
        const block = piece.subarray(from, from + BLOCK_BYTES);
        if (block.equals(empty.subarray(0, BLOCK_BYTES))) continue;
        const number = Buffer.alloc(4);
        number.writeUInt32LE((at + from) / BLOCK_BYTES);
        records.push(number, Buffer.from(block));
      }
    }
  } finally {
    closeSync(fd);
  }
  return Buffer.concat(records);
}

/** Past the page cache where that can be had: it would take 4 GiB of memory for holes. */
function usedBlocksOfAny(path) {
  try {
    return usedBlocks(path, constants.O_DIRECT);
  } catch {
    return usedBlocks(path, 0);
  }
}

const script = fileURLToPath(import.meta.url);
if (!existsSync(stage) || statSync(stage).mtimeMs < statSync(script).mtimeMs) {
  mkdirSync(build, { recursive: true });
  // Whole or not at all: two builds may run at once.
  const image = `${stage}.image.${process.pid}`;
  const unfinished = `${stage}.${process.pid}`;
  try {
    if (makeImage(image)) {
      writeFileSync(unfinished, usedBlocksOfAny(image));
      renameSync(unfinished, stage);
    }
  } finally {
    for (const path of [image, unfinished]) rmSync(path, { force: true });
  }
}
