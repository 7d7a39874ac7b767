/** Hashes of names for indexed directories (fs/ext4/hash.c): legacy, half MD4 and TEA, each for signed and unsigned chars. */
import type { Geometry } from './volume.js';

/** hash_version in dx_root_info; 3 to 5 are the unsigned variants of 0 to 2. */
export const DX_HASH_LEGACY = 0;
export const DX_HASH_HALF_MD4 = 1;
export const DX_HASH_TEA = 2;
export const DX_HASH_LAST_KNOWN = 5;

const HTREE_EOF = 0xfffffffe;

/** Result of the last {@link hashName}: filled in place, so that hashing makes no garbage. */
export const nameHash = { hash: 0, minor: 0 };

const seedWords = new Uint32Array(4);
const input = new Uint32Array(8);

/** Packs up to `words` words of the name from `at` on (str2hashbuf_signed, str2hashbuf_unsigned). */
function fillInput(name: Uint8Array, at: number, words: number, unsigned: boolean): void {
  const length = name.length - at;
  let pad = length | (length << 8);
  pad |= pad << 16;
  const used = Math.min(length, words * 4);
  let value = pad;
  let word = 0;
  for (let i = 0; i < used; i++) {
    const byte = name[at + i];
    value = ((unsigned ? byte : (byte << 24) >> 24) + (value << 8)) | 0;
    if (i % 4 === 3) {
      input[word++] = value;
      value = pad;
    }
  }
  if (word < words) input[word++] = value;
  while (word < words) input[word++] = pad;
}

const rol = (x: number, s: number) => (x << s) | (x >>> (32 - s));
const F = (x: number, y: number, z: number) => z ^ (x & (y ^ z));
const G = (x: number, y: number, z: number) => (x & y) + ((x ^ y) & z);
const H = (x: number, y: number, z: number) => x ^ y ^ z;
const K2 = 0x5a827999;
const K3 = 0x6ed9eba1;

/** half_md4_transform: each round takes the eight words of input in its own order. */
function halfMd4(buf: Uint32Array): void {
  const x = input;
  let a = buf[0] | 0;
  let b = buf[1] | 0;
  let c = buf[2] | 0;
  let d = buf[3] | 0;
  for (let i = 0; i < 8; i += 4) {
    a = rol((a + F(b, c, d) + x[i]) | 0, 3);
    d = rol((d + F(a, b, c) + x[i + 1]) | 0, 7);
    c = rol((c + F(d, a, b) + x[i + 2]) | 0, 11);
    b = rol((b + F(c, d, a) + x[i + 3]) | 0, 19);
  }
  for (let i = 1; i >= 0; i--) {
    a = rol((a + G(b, c, d) + x[i] + K2) | 0, 3);
    d = rol((d + G(a, b, c) + x[i + 2] + K2) | 0, 5);
    c = rol((c + G(d, a, b) + x[i + 4] + K2) | 0, 9);
    b = rol((b + G(c, d, a) + x[i + 6] + K2) | 0, 13);
  }
  for (let i = 3; i >= 1; i -= 2) {
    a = rol((a + H(b, c, d) + x[i] + K3) | 0, 3);
    d = rol((d + H(a, b, c) + x[i + 4] + K3) | 0, 9);
    c = rol((c + H(d, a, b) + x[i - 1] + K3) | 0, 11);
    b = rol((b + H(c, d, a) + x[i + 3] + K3) | 0, 15);
  }
  buf[0] += a;
  buf[1] += b;
  buf[2] += c;
  buf[3] += d;
}

/** TEA_transform */
function tea(buf: Uint32Array): void {
  let b0 = buf[0];
  let b1 = buf[1];
  const [a, b, c, d] = input;
  let sum = 0;
  for (let n = 0; n < 16; n++) {
    sum = (sum + 0x9e3779b9) | 0;
    b0 = (b0 + ((((b1 << 4) + a) | 0) ^ ((b1 + sum) | 0) ^ (((b1 >>> 5) + b) | 0))) >>> 0;
    b1 = (b1 + ((((b0 << 4) + c) | 0) ^ ((b0 + sum) | 0) ^ (((b0 >>> 5) + d) | 0))) >>> 0;
  }
  buf[0] += b0;
  buf[1] += b1;
}

/** dx_hack_hash */
function legacy(name: Uint8Array, unsigned: boolean): number {
  let hash0 = 0x12a3fe2d;
  let hash1 = 0x37abe8f9;
  for (let i = 0; i < name.length; i++) {
    const char = unsigned ? name[i] : (name[i] << 24) >> 24;
    let hash = (hash1 + (hash0 ^ Math.imul(char, 7152373))) >>> 0;
    if ((hash & 0x80000000) !== 0) hash = (hash - 0x7fffffff) >>> 0;
    hash1 = hash0;
    hash0 = hash;
  }
  return (hash0 << 1) >>> 0;
}

/**
 * Hashes a name as an index with this hash_version has it (ext4fs_dirhash); the result is in {@link nameHash}. The
 * version must be one of the known ones.
 */
export function hashName(geometry: Geometry, version: number, name: Uint8Array): void {
  const unsigned = version > DX_HASH_TEA || geometry.hashUnsigned;
  const kind = version % 3;
  let hash = 0;
  let minor = 0;
  if (kind === DX_HASH_LEGACY) {
    hash = legacy(name, unsigned);
  } else {
    setSeed(geometry.hashSeed);
    const words = kind === DX_HASH_HALF_MD4 ? 8 : 4;
    for (let at = 0; at < name.length; at += words * 4) {
      fillInput(name, at, words, unsigned);
      if (kind === DX_HASH_HALF_MD4) halfMd4(seedWords);
      else tea(seedWords);
    }
    hash = kind === DX_HASH_HALF_MD4 ? seedWords[1] : seedWords[0];
    minor = kind === DX_HASH_HALF_MD4 ? seedWords[2] : seedWords[1];
  }
  hash = (hash & ~1) >>> 0;
  if (hash === HTREE_EOF) hash = HTREE_EOF - 2;
  nameHash.hash = hash;
  nameHash.minor = minor;
}

function setSeed(seed: Uint8Array): void {
  let any = 0;
  for (let i = 0; i < 16; i++) any |= seed[i];
  if (any === 0) {
    seedWords[0] = 0x67452301;
    seedWords[1] = 0xefcdab89;
    seedWords[2] = 0x98badcfe;
    seedWords[3] = 0x10325476;
    return;
  }
  for (let i = 0; i < 4; i++) {
    seedWords[i] = seed[i * 4] | (seed[i * 4 + 1] << 8) | (seed[i * 4 + 2] << 16) | (seed[i * 4 + 3] << 24);
  }
}
