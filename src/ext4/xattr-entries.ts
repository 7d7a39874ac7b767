/** A run of attribute entries with their values, in an inode or in a block: decoded with every bound checked, encoded afresh. */
import type { ReadBytes, ReadView, WriteView } from '../codec/view.js';
import { ownView } from '../codec/view.js';
import { CorruptionError } from '../errors.js';
import { INCOMPAT } from './features.js';
import { EXT4_XATTR_SIZE_MAX, XATTR_ENTRY } from './format/xattr.js';
import type { Geometry } from './volume.js';

/** A value that an inode of its own holds (ea_inode). */
export interface ExternalValue {
  readonly ino: number;
  readonly sizeBytes: number;
  /** e_hash of the entry: of its name and of the hash of the value; 0 in the form that Lustre wrote. */
  readonly hash: number;
}

export interface Attribute {
  readonly index: number;
  /** Without the prefix that `index` stands for. */
  readonly name: Uint8Array;
  /** Empty for one that is elsewhere. */
  readonly value: Uint8Array;
  readonly external: ExternalValue | null;
  /** Where the value was found, in the block that was decoded. */
  readonly valueAt?: number;
}

export interface Area {
  /** First entry. */
  readonly from: number;
  /** First byte behind the area; values grow down from here. */
  readonly end: number;
  /** What e_value_offs counts from. */
  readonly valueBase: number;
}

const END_MARK_BYTES = 4;
const NOTHING = new Uint8Array(0);

/** Bytes that a value of this length takes up. */
export const paddedBytes = (length: number) => (length + 3) & ~3;
const entryLength = (nameLength: number) => paddedBytes(XATTR_ENTRY.SIZE + nameLength);

/** As check_xattrs. Throws CorruptionError; `place` says whose attributes they are. */
export function decodeAttributes(
  view: ReadView,
  bytes: ReadBytes,
  area: Area,
  geometry: Geometry,
  place: string,
): Attribute[] {
  const bad = (finding: string) => new CorruptionError('extended attributes', place, finding);
  const starts: number[] = [];
  let listEnd = area.from;
  for (;;) {
    if (listEnd + END_MARK_BYTES > area.end) throw bad('the list has no end');
    if (view.getUint32(listEnd, true) === 0) break;
    starts.push(listEnd);
    listEnd += entryLength(XATTR_ENTRY.e_name_len.get(view, listEnd));
    if (listEnd > area.end) throw bad('an entry runs over the end');
  }
  return starts.map((at) => {
    const nameAt = at + XATTR_ENTRY.SIZE;
    const name = bytes.slice(nameAt, nameAt + XATTR_ENTRY.e_name_len.get(view, at));
    if (name.includes(0)) throw bad('a name has a NUL in it');
    const index = XATTR_ENTRY.e_name_index.get(view, at);
    const size = XATTR_ENTRY.e_value_size.get(view, at);
    if (size > EXT4_XATTR_SIZE_MAX) throw bad(`a value of ${size} bytes`);
    const ino = XATTR_ENTRY.e_value_inum.get(view, at);
    if (ino !== 0) {
      if ((geometry.incompat & INCOMPAT.ea_inode) === 0)
        throw bad('a value in an inode of its own, without the ea_inode feature');
      if (ino < geometry.firstInode || ino > geometry.inodesCount) throw bad(`a value in inode ${ino}`);
      return {
        index,
        name,
        value: NOTHING,
        external: { ino, sizeBytes: size, hash: XATTR_ENTRY.e_hash.get(view, at) },
      };
    }
    if (size === 0) return { index, name, value: NOTHING, external: null };
    const valueAt = area.valueBase + XATTR_ENTRY.e_value_offs.get(view, at);
    if (valueAt < listEnd + END_MARK_BYTES || valueAt + paddedBytes(size) > area.end)
      throw bad('a value lies outside, or on the names');
    return { index, name, value: bytes.slice(valueAt, valueAt + size), external: null, valueAt };
  });
}

/** Bytes of the values alone. */
export function valueBytes(attributes: readonly Attribute[]): number {
  return attributes.reduce((sum, { value }) => sum + paddedBytes(value.length), 0);
}

/** Bytes that these attributes need: entries, the end mark, values. */
export function encodedBytes(attributes: readonly Attribute[]): number {
  return attributes.reduce((sum, { name }) => sum + entryLength(name.length), END_MARK_BYTES) + valueBytes(attributes);
}

/**
 * ext4_xattr_hash_entry: over the name's bytes and the value's words. `signed`: as kernels did where char is signed,
 * before 6.3.
 */
export function entryHash(name: Uint8Array, value: Uint8Array, signed = false): number {
  let hash = 0;
  for (const byte of name) {
    hash = ((hash << 5) ^ (hash >>> 27) ^ (signed ? (byte << 24) >> 24 : byte)) >>> 0;
  }
  const padded = new Uint8Array(paddedBytes(value.length));
  padded.set(value);
  const view = ownView(padded);
  for (let at = 0; at < padded.length; at += 4) hash = ((hash << 16) ^ (hash >>> 16) ^ view.getUint32(at, true)) >>> 0;
  return hash;
}

/**
 * Writes the attributes into a zeroed area; the caller has checked that they fit. `hashed`: values in place have a hash
 * in their entry. Returns the hash of all, 0 if one entry has none (ext4_xattr_rehash).
 */
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
  let complete = true;
  for (const { index, name, value, external } of attributes) {
    const hash = external?.hash ?? (hashed ? entryHash(name, value) : 0);
    XATTR_ENTRY.e_name_len.set(view, at, name.length);
    XATTR_ENTRY.e_name_index.set(view, at, index);
    XATTR_ENTRY.e_value_inum.set(view, at, external?.ino ?? 0);
    XATTR_ENTRY.e_value_size.set(view, at, external?.sizeBytes ?? value.length);
    XATTR_ENTRY.e_hash.set(view, at, hash);
    XATTR_ENTRY.e_value_offs.set(view, at, 0);
    if (value.length > 0) {
      valueEnd -= paddedBytes(value.length);
      bytes.set(value, valueEnd);
      XATTR_ENTRY.e_value_offs.set(view, at, valueEnd - area.valueBase);
    }
    bytes.set(name, at + XATTR_ENTRY.SIZE);
    at += entryLength(name.length);
    total = ((total << 16) ^ (total >>> 16) ^ hash) >>> 0;
    if (hash === 0) complete = false;
  }
  return complete ? total : 0;
}

/** Order in a block: prefix, length, bytes (ext4_xattr_find_entry relies on it). */
export function compareAttributes(a: Attribute, b: Attribute): number {
  if (a.index !== b.index) return a.index - b.index;
  if (a.name.length !== b.name.length) return a.name.length - b.name.length;
  return Buffer.compare(a.name, b.name);
}

/** Same names, same values, or values in the same inode (ext4_xattr_cmp). Both in the order of a block. */
export function sameAttributes(some: readonly Attribute[], others: readonly Attribute[]): boolean {
  return (
    some.length === others.length &&
    some.every((a, i) => {
      const b = others[i];
      if (compareAttributes(a, b) !== 0) return false;
      if (a.external === null || b.external === null) {
        return a.external === b.external && Buffer.compare(a.value, b.value) === 0;
      }
      const { ino, sizeBytes, hash } = a.external;
      return ino === b.external.ino && sizeBytes === b.external.sizeBytes && hash === b.external.hash;
    })
  );
}
