/**
 * Files whose content follows from their name, so that nothing but the names of those fsynced need be remembered.
 *   synced.mjs fill DIR LIST FIRST COUNT KIB   write and fsync COUNT files; the name of each that was synced goes to LIST
 *   synced.mjs verify DIR LIST KIB             every file in LIST is there and whole; exit code 1 if not
 */
import { appendFileSync, closeSync, fsyncSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

function contentOf(name, bytes) {
  const words = new Uint32Array(bytes / 4);
  let x = 2166136261;
  for (const letter of Buffer.from(name)) x = Math.imul(x ^ letter, 16777619) >>> 0 || 1;
  for (let i = 0; i < words.length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words[i] = x;
  }
  return Buffer.from(words.buffer);
}

function fill(directory, list, first, count, kib) {
  let synced = 0;
  for (let i = 0; i < count; i++) {
    const name = `file${first + i}`;
    try {
      const fd = openSync(join(directory, name), 'w');
      try {
        writeSync(fd, contentOf(name, kib * 1024));
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
      appendFileSync(list, `${name}\n`);
      synced++;
    } catch (error) {
      if (!['ENOSPC', 'EIO', 'EROFS', 'ENOTCONN', 'ECONNABORTED'].includes(error.code)) throw error;
    }
  }
  console.log(`${synced} of ${count} synced`);
}

function verify(directory, list, kib) {
  const names = readFileSync(list, 'utf8').split('\n').filter(Boolean);
  const bad = names.filter((name) => {
    try {
      return !readFileSync(join(directory, name)).equals(contentOf(name, kib * 1024));
    } catch {
      return true;
    }
  });
  console.log(`${names.length} synced files, ${bad.length} lost ${bad.slice(0, 5).join(' ')}`);
  process.exit(bad.length > 0 ? 1 : 0);
}

const [command, directory, list, ...numbers] = process.argv.slice(2);
if (command === 'fill') fill(directory, list, ...numbers.map(Number));
else verify(directory, list, Number(numbers[0]));
