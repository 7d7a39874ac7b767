/** A run of attribute entries with their values, in an inode or in a block: decoded with every bound checked, encoded afresh. */
import type { ReadBytes, ReadView, WriteView } from '../codec/view.js';
import { ownView } from '../codec/view.js';
import { CorruptionError } from '../errors.js';
import { XATTR_ENTRY } from './format/xattr.js';

export interface Attribute {
  readonly index: number;
  /** Without the prefix that `index` stands for. */
  readonly name: Uint8Array;
  readonly value: Uint8Array;
  /** Inode that holds the value (ea_inode), or 0. */
  readonly valueInum: number;
}

export interface Area {
  /** First entry. */
  readonly from: number;
  /** First byte behind the area; values grow down from here. */
  readonly end: number;
  /** What e_value_offs counts from. */
  readonly valueBase: number;
}

const pad4 = (n: number) => (n + 3) & ~3;
const entryLength = (nameLength: number) => pad4(XATTR_ENTRY.SIZE + nameLength);

/** Throws CorruptionError; `place` says whose attributes they are. */
export function decodeAttributes(view: ReadView, bytes: ReadBytes, area: Area, place: string): Attribute[] {
  const bad = (finding: string) => new CorruptionError('extended attributes', place, finding);
  const attributes: Attribute[] = [];
  let at = area.from;
  for (;;) {
    if (at + 4 > area.end) throw bad('the list has no end');
    if (view.getUint32(at, true) === 0) return attributes;
    const nameLength = XATTR_ENTRY.e_name_len.get(view, at);
    if (at + entryLength(nameLength) > area.end) throw bad('an entry runs over the end');
    const size = XATTR_ENTRY.e_value_size.get(view, at);
    const valueInum = XATTR_ENTRY.e_value_inum.get(view, at);
    const valueAt = area.valueBase + XATTR_ENTRY.e_value_offs.get(view, at);
    if (valueInum === 0 && size > 0 && (valueAt < area.from || valueAt + size > area.end))
      throw bad('a value lies outside');
    attributes.push({
      index: XATTR_ENTRY.e_name_index.get(view, at),
      name: bytes.slice(at + XATTR_ENTRY.SIZE, at + XATTR_ENTRY.SIZE + nameLength),
      value: valueInum === 0 ? bytes.slice(valueAt, valueAt + size) : new Uint8Array(0),
      valueInum,
    });
    at += entryLength(nameLength);
  }
}

/** Bytes that these attributes need: entries, the end mark, values. */
export function encodedBytes(attributes: readonly Attribute[]): number {
  return attributes.reduce((sum, { name, value }) => sum + entryLength(name.length) + pad4(value.length), 4);
}

/** ext4_xattr_hash_entry: over the name's bytes and the value's words. */
function entryHash(name: Uint8Array, value: Uint8Array): number {
  let hash = 0;
  for (const byte of name) hash = ((hash << 5) ^ (hash >>> 27) ^ byte) >>> 0;
  const padded = new Uint8Array(pad4(value.length));
  padded.set(value);
  const view = ownView(padded);
  for (let at = 0; at < padded.length; at += 4) hash = ((hash << 16) ^ (hash >>> 16) ^ view.getUint32(at, true)) >>> 0;
  return hash;
}

/** Writes the attributes into a zeroed area; the caller has checked that they fit. Returns the hash of all (ext4_xattr_rehash). */
export function encodeAttributes(
  view: WriteView,
  bytes: Uint8Array,
  area: Area,
  attributes: readonly Attribute[],
  hashed: boolean,
): number {
  let at = area.from;
  let valueEnd = area.end;
  let total = 0;
  for (const { index, name, value, valueInum } of attributes) {
    const hash = hashed ? entryHash(name, value) : 0;
    XATTR_ENTRY.e_name_len.set(view, at, name.length);
    XATTR_ENTRY.e_name_index.set(view, at, index);
    XATTR_ENTRY.e_value_inum.set(view, at, valueInum);
    XATTR_ENTRY.e_value_size.set(view, at, value.length);
    XATTR_ENTRY.e_hash.set(view, at, hash);
    if (value.length > 0) {
      valueEnd -= pad4(value.length);
      bytes.set(value, valueEnd);
      XATTR_ENTRY.e_value_offs.set(view, at, valueEnd - area.valueBase);
    } else {
      XATTR_ENTRY.e_value_offs.set(view, at, 0);
    }
    bytes.set(name, at + XATTR_ENTRY.SIZE);
    at += entryLength(name.length);
    total = ((total << 16) ^ (total >>> 16) ^ hash) >>> 0;
  }
  return total;
}

/** Order in a block: prefix, length, bytes (ext4_xattr_find_entry relies on it). */
export function compareAttributes(a: Attribute, b: Attribute): number {
  if (a.index !== b.index) return a.index - b.index;
  if (a.name.length !== b.name.length) return a.name.length - b.name.length;
  for (let i = 0; i < a.name.length; i++) if (a.name[i] !== b.name[i]) return a.name[i] - b.name[i];
  return 0;
}
