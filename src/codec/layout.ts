/**
 * On-disk and wire structures as tables: kernel field names, explicit offsets, checked when the module loads.
 *
 *   export const EXTENT = layout('ext4_extent', 12, { ee_block: le32(0), ee_len: le16(4), ... });
 *   EXTENT.ee_block.get(view, base)    EXTENT.ee_block.set(view, base, 7)
 */
import type { ReadBytes, ReadView, WriteView } from './view.js';

export interface Field {
  readonly offset: number;
  readonly size: number;
  get(view: ReadView, base: number): number;
  set(view: WriteView, base: number, value: number): void;
}

export interface BytesField {
  readonly offset: number;
  readonly size: number;
  /** The field's bytes inside `bytes`, not copied. */
  of(bytes: ReadBytes, base: number): ReadBytes;
}

type AnyField = Field | BytesField;

export const u8 = (offset: number): Field => ({
  offset,
  size: 1,
  get: (view, base) => view.getUint8(base + offset),
  set: (view, base, value) => view.setUint8(base + offset, value),
});

export const le16 = (offset: number): Field => ({
  offset,
  size: 2,
  get: (view, base) => view.getUint16(base + offset, true),
  set: (view, base, value) => view.setUint16(base + offset, value, true),
});

export const le32 = (offset: number): Field => ({
  offset,
  size: 4,
  get: (view, base) => view.getUint32(base + offset, true),
  set: (view, base, value) => view.setUint32(base + offset, value, true),
});

/** 64 bits as a number: exact below 2^53, which covers every byte and block count on disk. */
export const le64 = (offset: number): Field => ({
  offset,
  size: 8,
  get: (view, base) => view.getUint32(base + offset, true) + view.getUint32(base + offset + 4, true) * 0x1_0000_0000,
  set: (view, base, value) => {
    view.setUint32(base + offset, value >>> 0, true);
    view.setUint32(base + offset + 4, Math.floor(value / 0x1_0000_0000) >>> 0, true);
  },
});

export const be16 = (offset: number): Field => ({
  offset,
  size: 2,
  get: (view, base) => view.getUint16(base + offset, false),
  set: (view, base, value) => view.setUint16(base + offset, value, false),
});

export const be32 = (offset: number): Field => ({
  offset,
  size: 4,
  get: (view, base) => view.getUint32(base + offset, false),
  set: (view, base, value) => view.setUint32(base + offset, value, false),
});

export const be64 = (offset: number): Field => ({
  offset,
  size: 8,
  get: (view, base) => view.getUint32(base + offset, false) * 0x1_0000_0000 + view.getUint32(base + offset + 4, false),
  set: (view, base, value) => {
    view.setUint32(base + offset, Math.floor(value / 0x1_0000_0000) >>> 0, false);
    view.setUint32(base + offset + 4, value >>> 0, false);
  },
});

/** A run of bytes: names, uuids, arrays, and space that is declared so that no gap goes unnoticed. */
export const bytes = (offset: number, size: number): BytesField => ({
  offset,
  size,
  of: (data, base) => data.subarray(base + offset, base + offset + size),
});

/** Checks that the fields lie inside `size` bytes, in order, without overlap or gap; returns the table with its size. */
export function layout<T extends Record<string, AnyField>>(
  name: string,
  size: number,
  fields: T,
): T & { SIZE: number } {
  let end = 0;
  for (const [field, { offset, size: fieldSize }] of Object.entries(fields)) {
    if (offset !== end)
      throw new Error(`layout ${name}: ${field} starts at ${offset}, the field before it ends at ${end}`);
    end = offset + fieldSize;
  }
  if (end !== size) throw new Error(`layout ${name}: fields end at ${end}, the structure is ${size} bytes`);
  return Object.assign(fields, { SIZE: size });
}
