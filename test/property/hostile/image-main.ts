/**
 * `node build/test/property/hostile/image-main.js IMAGE [JOURNAL]`: one image from elsewhere, in memory: opened, walked, written
 * to, closed, looked at again, checked. Prints what became of it as JSON; dies of what no image may lead to.
 */
import { readFileSync } from 'node:fs';
import { useNativeCrc32c } from '../../../src/codec/crc.js';
import { loadNative } from '../../../src/native.js';
import { GuardDevice } from './guard-device.js';
import { check, live, lookAgain } from './life.js';
import { ScratchImage } from './scratch-image.js';
import type { SoundImage } from './sound-image.js';

const SEEDS = [1, 2, 3];
/** What a journal's bytes begin at is a multiple of every block size. */
const ALIGNMENT = 1 << 16;

function load(path: string, journal: string | undefined): SoundImage {
  const bytes = readFileSync(path);
  if (journal === undefined) return { bytes, journalAt: undefined };
  const theirs = readFileSync(journal);
  const journalAt = Math.ceil(bytes.length / ALIGNMENT) * ALIGNMENT;
  const both = new Uint8Array(journalAt + theirs.length);
  both.set(bytes);
  both.set(theirs, journalAt);
  return { bytes: both, journalAt };
}

const native = loadNative();
if (native !== null) useNativeCrc32c(native.crc32c);
const [path, journal] = process.argv.slice(2);
const image = new ScratchImage(load(path, journal));
lookAgain(new GuardDevice(image));
check(new GuardDevice(image));
let first: object | null = null;
for (const seed of SEEDS) {
  const life = await live(new GuardDevice(image), { errors: 'continue', crash: seed % 2 === 0, seed, favourites: [] });
  first ??= life;
  lookAgain(new GuardDevice(image));
  check(new GuardDevice(image));
  image.restore();
}
console.log(JSON.stringify(first));
