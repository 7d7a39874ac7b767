/** What a hostile image is made from: every structure of a sound one, where its fields are, and what checksums cover it. */
import type { BytesField, Field } from '../../../src/codec/layout.js';
import type { ScratchImage } from './scratch-image.js';

/** The kinds of structures that are damaged. */
export const KINDS = [
  'superblock',
  'group descriptor',
  'block bitmap',
  'inode bitmap',
  'inode',
  'orphan list',
  'orphan file block',
  'extent header',
  'extent index',
  'extent',
  'extent block',
  'block map',
  'indirect block',
  'directory entry',
  'directory block',
  'directory index',
  'attribute in inode',
  'attribute block',
  'attribute value',
  'symlink',
  'verity metadata',
  'quota file',
  'mmp block',
  'journal inode',
  'external journal',
  'journal superblock',
  'descriptor block',
  'block tag',
  'revoke block',
  'commit block',
  'logged block',
  'fast-commit area',
  'fast-commit record',
] as const;

export type Kind = (typeof KINDS)[number];

export interface FieldPlace {
  readonly name: string;
  /** Byte offset in the image. */
  readonly at: number;
  readonly size: number;
  readonly bigEndian: boolean;
}

/** Puts the checksums right that cover a structure, after it was changed. */
export type Seal = (image: ScratchImage) => void;

export interface Structure {
  readonly kind: Kind;
  /** In words: "inode 12", "tag 3 in log block 17". */
  readonly what: string;
  /** Byte offset in the image, and length. */
  readonly at: number;
  readonly length: number;
  /** Without any the words of the structure are its fields. */
  readonly fields: readonly FieldPlace[];
  /** The inode it belongs to, or 0. */
  readonly ino: number;
  readonly seal: Seal;
}

/** The structures of an image, and numbers that mean something in it. */
export interface Located {
  readonly structures: ReadonlyMap<Kind, readonly Structure[]>;
  readonly blocks: readonly number[];
  readonly inodes: readonly number[];
}

export type Layout = Readonly<Record<string, Field | BytesField | number>>;

/** Notes a structure; its fields are those of `table`, which end before byte `limit`. */
export type AddStructure = (
  kind: Kind,
  what: string,
  at: number,
  length: number,
  ino: number,
  seal: Seal,
  table?: Layout,
  limit?: number,
) => void;

/** The fields of a structure at `at`; runs of bytes and 64-bit fields are taken as words. */
export function fieldsOf(
  table: Layout,
  at: number,
  { bigEndian = false, limit = Number.POSITIVE_INFINITY } = {},
): FieldPlace[] {
  const fields: FieldPlace[] = [];
  for (const [name, field] of Object.entries(table)) {
    if (typeof field === 'number' || field.offset + field.size > limit) continue;
    if ('get' in field && field.size <= 4) {
      fields.push({ name, at: at + field.offset, size: field.size, bigEndian });
      continue;
    }
    for (let k = 0; k + 4 <= field.size; k += 4) {
      fields.push({ name: `${name}[${k / 4}]`, at: at + field.offset + k, size: 4, bigEndian });
    }
  }
  return fields;
}

/** The field with this number; the words of a structure without named ones. */
export function fieldOf(structure: Structure, nth: number): FieldPlace {
  const { fields, at, length } = structure;
  if (fields.length > 0) return fields[nth % fields.length];
  const word = nth % Math.floor(length / 4);
  return { name: `word ${word}`, at: at + word * 4, size: 4, bigEndian: false };
}

export function readField(image: Uint8Array, { at, size, bigEndian }: FieldPlace): number {
  let value = 0;
  for (let i = 0; i < size; i++) value = value * 256 + image[bigEndian ? at + i : at + size - 1 - i];
  return value;
}

export function writeField(image: Uint8Array, { at, size, bigEndian }: FieldPlace, value: number): void {
  let rest = value;
  for (let i = 0; i < size; i++) {
    image[bigEndian ? at + size - 1 - i : at + i] = rest % 256;
    rest = Math.floor(rest / 256);
  }
}
