/**
 * The checksums of ext4 and jbd2: crc32c (Castagnoli, reflected) for metadata_csum and journal checksums v2/v3,
 * crc32 (big-endian, IEEE polynomial, as lib/crc32 `crc32_be`) for the journal's v1 commit checksum, crc16 for gdt_csum.
 * None of them inverts at start or end: the seed is passed in, the result is returned as it is.
 */
import type { ReadBytes } from './view.js';

function reflectedTables(polynomial: number): Uint32Array[] {
  const tables = Array.from({ length: 8 }, () => new Uint32Array(256));
  for (let n = 0; n < 256; n++) {
    let c = n;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ polynomial : c >>> 1;
    tables[0][n] = c >>> 0;
  }
  for (let n = 0; n < 256; n++) {
    for (let t = 1; t < 8; t++) {
      const previous = tables[t - 1][n];
      tables[t][n] = (tables[0][previous & 0xff] ^ (previous >>> 8)) >>> 0;
    }
  }
  return tables;
}

const [T0, T1, T2, T3, T4, T5, T6, T7] = reflectedTables(0x82f63b78);

function crc32cPortable(seed: number, data: Uint8Array): number {
  let crc = seed;
  let i = 0;
  for (const end = data.length - 7; i < end; i += 8) {
    const low = crc ^ (data[i] | (data[i + 1] << 8) | (data[i + 2] << 16) | (data[i + 3] << 24));
    crc =
      T7[low & 0xff] ^
      T6[(low >>> 8) & 0xff] ^
      T5[(low >>> 16) & 0xff] ^
      T4[low >>> 24] ^
      T3[data[i + 4]] ^
      T2[data[i + 5]] ^
      T1[data[i + 6]] ^
      T0[data[i + 7]];
  }
  for (; i < data.length; i++) crc = T0[(crc ^ data[i]) & 0xff] ^ (crc >>> 8);
  return crc >>> 0;
}

type Crc32c = (seed: number, data: Uint8Array) => number;
let fast: Crc32c | null = null;

/** Native code pays its call only from this length on. */
const NATIVE_WORTH_BYTES = 64;

/** Installs the processor's own crc32c, when the native addon is there. */
export function useNativeCrc32c(implementation: Crc32c): void {
  fast = implementation;
}

/** crc32c of `data` continued from `seed`; start a fresh one with 0xffffffff. */
export function crc32c(seed: number, data: ReadBytes): number {
  if (fast !== null && data.length >= NATIVE_WORTH_BYTES) return fast(seed, data as Uint8Array);
  return crc32cPortable(seed, data as Uint8Array);
}

const word = new Uint8Array(4);

/** crc32c of one little-endian 32-bit number: how inode numbers, generations and group numbers enter a seed. */
export function crc32cLe32(seed: number, value: number): number {
  word[0] = value;
  word[1] = value >>> 8;
  word[2] = value >>> 16;
  word[3] = value >>> 24;
  return crc32cPortable(seed, word);
}

const BE_TABLE = new Uint32Array(256);
for (let n = 0; n < 256; n++) {
  let c = n << 24;
  for (let k = 0; k < 8; k++) c = c & 0x80000000 ? (c << 1) ^ 0x04c11db7 : c << 1;
  BE_TABLE[n] = c >>> 0;
}

/** crc32 with the bits in big-endian order, continued from `seed` (lib/crc32 `crc32_be`). */
export function crc32Be(seed: number, data: ReadBytes): number {
  let crc = seed;
  for (let i = 0; i < data.length; i++) crc = ((crc << 8) ^ BE_TABLE[(crc >>> 24) ^ data[i]]) >>> 0;
  return crc >>> 0;
}

const CRC16_TABLE = new Uint16Array(256);
for (let n = 0; n < 256; n++) {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0xa001 : c >>> 1;
  CRC16_TABLE[n] = c;
}

/** crc16 (ANSI, reflected) as the kernel's lib/crc16. */
export function crc16(seed: number, data: ReadBytes): number {
  let crc = seed;
  for (let i = 0; i < data.length; i++) crc = (crc >>> 8) ^ CRC16_TABLE[(crc ^ data[i]) & 0xff];
  return crc & 0xffff;
}

const [IEEE] = reflectedTables(0xedb88320);

/** crc32 as zlib and GPT compute it: inverted at start and end. */
export function crc32(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = IEEE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
