/**
 * Bitmaps as ext4 keeps them: bit n is bit n % 8 of byte n / 8, set means in use. Read in little-endian 32-bit words,
 * which puts bit n at bit n % 32 of word n / 32.
 */
import type { ReadView, WriteView } from '../codec/view.js';

export function testBit(view: ReadView, bit: number): boolean {
  return (view.getUint8(bit >>> 3) & (1 << (bit & 7))) !== 0;
}

/** Bits from..31 of a word that lie below `count`. */
function rangeMask(from: number, count: number): number {
  const ones = count >= 32 ? 0xffffffff : (1 << count) - 1;
  return (ones << from) >>> 0;
}

/** True if all bits [start, start + count) are `value`. */
export function allBits(view: ReadView, start: number, count: number, value: boolean): boolean {
  for (let bit = start, left = count; left > 0; ) {
    const from = bit & 31;
    const length = Math.min(32 - from, left);
    const mask = rangeMask(from, length);
    const word = readWord(view, bit >>> 5) & mask;
    if (value ? word >>> 0 !== mask : word !== 0) return false;
    bit += length;
    left -= length;
  }
  return true;
}

export function fillBits(view: WriteView, start: number, count: number, value: boolean): void {
  for (let bit = start, left = count; left > 0; ) {
    if ((bit & 31) === 0 && left >= 32 && (bit >>> 3) + 4 <= view.byteLength) {
      view.setUint32(bit >>> 3, value ? 0xffffffff : 0, true);
      bit += 32;
      left -= 32;
      continue;
    }
    const from = bit & 7;
    const length = Math.min(8 - from, left);
    const mask = ((1 << length) - 1) << from;
    const byte = view.getUint8(bit >>> 3);
    view.setUint8(bit >>> 3, value ? byte | mask : byte & ~mask);
    bit += length;
    left -= length;
  }
}

/** The same over words in memory. */
export function fillWords(words: Uint32Array, start: number, count: number, value: boolean): void {
  for (let bit = start, left = count; left > 0; ) {
    const from = bit & 31;
    const length = Math.min(32 - from, left);
    const mask = rangeMask(from, length);
    if (value) words[bit >>> 5] |= mask;
    else words[bit >>> 5] &= ~mask;
    bit += length;
    left -= length;
  }
}

/** Word `index`; a bitmap that ends inside a word reads as in use behind its end. */
export function readWord(view: ReadView, index: number): number {
  const at = index << 2;
  if (at + 4 <= view.byteLength) return view.getUint32(at, true);
  let word = 0xffffffff;
  for (let i = 0; at + i < view.byteLength; i++)
    word = (word & ~(0xff << (i * 8))) | (view.getUint8(at + i) << (i * 8));
  return word >>> 0;
}

function popcount(word: number): number {
  let v = word - ((word >>> 1) & 0x55555555);
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
  return Math.imul((v + (v >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** Clear bits among the first `bits`. */
export function countClear(view: ReadView, bits: number): number {
  let set = 0;
  for (let bit = 0; bit < bits; bit += 32) set += popcount(readWord(view, bit >>> 5) & rangeMask(0, bits - bit));
  return bits - set;
}

/** What a search found; `length` 0 means nothing. */
export interface ClearRun {
  start: number;
  length: number;
  /** The first clear bit that the search came across, or where it ended. */
  firstClear: number;
}

/**
 * The first run of at least `wanted` clear bits in [from, end), or the longest shorter one. Bits set in `held` count as
 * set. `into` receives it; true if it is as long as wanted.
 */
export function findClearRun(
  view: ReadView,
  held: Uint32Array | null,
  from: number,
  end: number,
  wanted: number,
  into: ClearRun,
): boolean {
  into.start = 0;
  into.length = 0;
  into.firstClear = end;
  let runStart = -1;
  for (let bit = from; bit < end; ) {
    const index = bit >>> 5;
    let word = readWord(view, index);
    if (held !== null) word |= held[index];
    const shift = bit & 31;
    let rest = word >>> shift;
    let width = Math.min(32 - shift, end - bit);
    if (rest === 0) {
      if (runStart < 0) runStart = bit;
      bit += width;
      if (bit - runStart >= wanted) return takeRun(into, runStart, wanted);
      continue;
    }
    while (width > 0) {
      // Clear bits at the bottom, then set ones.
      const clear = rest === 0 ? width : Math.min(width, 31 - Math.clz32(rest & -rest));
      if (clear > 0) {
        if (runStart < 0) runStart = bit;
        bit += clear;
        width -= clear;
        rest >>>= clear;
        if (bit - runStart >= wanted) return takeRun(into, runStart, wanted);
        if (width === 0) break;
      }
      if (runStart >= 0) {
        if (bit - runStart > into.length) takeRun(into, runStart, bit - runStart);
        runStart = -1;
      }
      const inverted = ~rest;
      const set = inverted === 0 ? width : Math.min(width, 31 - Math.clz32(inverted & -inverted));
      bit += set;
      width -= set;
      // A shift by 32 would shift by nothing.
      rest = set === 32 ? 0 : rest >>> set;
    }
  }
  if (runStart >= 0 && end - runStart > into.length) takeRun(into, runStart, end - runStart);
  return into.length >= wanted;
}

/** Clear bits from `from` on, at most `limit`. */
export function clearRunAt(view: ReadView, held: Uint32Array | null, from: number, limit: number): number {
  let found = 0;
  while (found < limit) {
    const bit = from + found;
    let word = readWord(view, bit >>> 5);
    if (held !== null) word |= held[bit >>> 5];
    const shift = bit & 31;
    const rest = word >>> shift;
    const clear = rest === 0 ? 32 - shift : 31 - Math.clz32(rest & -rest);
    found += Math.min(clear, 32 - shift);
    if (clear < 32 - shift) break;
  }
  return Math.min(found, limit);
}

function takeRun(into: ClearRun, start: number, length: number): true {
  if (into.length === 0) into.firstClear = Math.min(into.firstClear, start);
  into.start = start;
  into.length = length;
  return true;
}
