/** What is done to an image: some structures changed, each in one way, with or without their checksums put right. */
import fc from 'fast-check';
import type { ErrorsPolicy } from '../../../src/ext4/filesystem.js';
import type { ScratchImage } from './scratch-image.js';
import { fieldOf, KINDS, type Kind, type Located, readField, type Structure, writeField } from './structures.js';

type How = 'value' | 'near' | 'bit' | 'place' | 'sibling' | 'swap' | 'copy' | 'foreign' | 'garbage' | 'fill';

/** The numbers are taken modulo whatever there is to choose from. */
export interface Damage {
  readonly kind: Kind;
  readonly nth: number;
  readonly how: How;
  readonly which: number;
  readonly value: number;
}

export interface Plan {
  readonly damages: readonly Damage[];
  /** Checksums are put right. */
  readonly sealed: boolean;
  /** The damage is done to the device while it is mounted, and has been looked at. */
  readonly live?: boolean;
  /** null: what the superblock says. */
  readonly errors: ErrorsPolicy | null;
  /** The image is left as after a crash, not closed. */
  readonly crash: boolean;
  /** What is done with the image afterwards follows from this. */
  readonly seed: number;
}

const UINT32 = 0xffffffff;
// biome-ignore format: a list of numbers
const EDGES = [
  0, 1, 2, 3, 4, 5, 7, 8, 12, 16, 255, 256, 1024, 32767, 32768, 65535, 65536, 0x7fffffff, 0x80000000, UINT32,
];
const NEAR = [1, -1, 2, -2, 4, -4, 8, 1024];

/** Changes of one field are the commonest: they get furthest. */
const HOW: readonly (readonly [number, How])[] = [
  [6, 'value'],
  [4, 'near'],
  [4, 'bit'],
  [5, 'place'],
  [2, 'sibling'],
  [1, 'swap'],
  [1, 'copy'],
  [1, 'foreign'],
  [1, 'garbage'],
  [1, 'fill'],
];

const MOST_DAMAGES = 24;
const NEEDED_TO_OPEN = new Set<Kind>([
  'superblock',
  'group descriptor',
  'mmp block',
  'quota file',
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
]);

const number = fc.noBias(fc.nat(0x3fffffff));

/**
 * Plans for an image with these kinds of structures. Few changes where one can keep the image from being opened;
 * elsewhere several, for what is wrong with one file does not hide what is wrong with the next.
 */
export function planArbitrary(kinds: readonly Kind[]): fc.Arbitrary<Plan> {
  const needed = kinds.filter((kind) => NEEDED_TO_OPEN.has(kind));
  const others = kinds.filter((kind) => !NEEDED_TO_OPEN.has(kind));
  const damages = fc.oneof(
    { weight: 2, arbitrary: fc.array(damageArbitrary(needed), { minLength: 1, maxLength: 2 }) },
    { weight: 3, arbitrary: fc.array(damageArbitrary(others), { minLength: 1, maxLength: MOST_DAMAGES, size: 'max' }) },
    { weight: 1, arbitrary: fc.array(damageArbitrary(kinds), { minLength: 1, maxLength: 3 }) },
  );
  return fc.record({
    damages: fc.noBias(damages),
    // One in sixteen with stale checksums is enough to see that those are looked at.
    sealed: fc.noBias(fc.nat(15)).map((n) => n > 0),
    live: fc.noBias(fc.nat(5)).map((n) => n === 0),
    errors: fc.noBias(fc.constantFrom<ErrorsPolicy | null>(null, 'continue', 'continue', 'remount-ro', 'panic')),
    crash: fc.noBias(fc.nat(3)).map((n) => n === 0),
    seed: number,
  });
}

function damageArbitrary(kinds: readonly Kind[]): fc.Arbitrary<Damage> {
  return fc.record({
    kind: fc.noBias(fc.constantFrom(...kinds)),
    nth: number,
    how: fc.noBias(fc.oneof(...HOW.map(([weight, how]) => ({ weight, arbitrary: fc.constant(how) })))),
    which: number,
    value: number,
  });
}

/** Kinds that an image has, in the order of {@link KINDS}. */
export function kindsOf(located: Located): Kind[] {
  return KINDS.filter((kind) => located.structures.has(kind));
}

/** The structures that a plan changes. */
export function targets(located: Located, plan: Plan): Structure[] {
  return plan.damages.map((damage) => pick(located, damage.kind, damage.nth));
}

function pick(located: Located, kind: Kind, nth: number): Structure {
  const list = located.structures.get(kind);
  if (list === undefined) throw new Error(`the image has no ${kind}`);
  return list[nth % list.length];
}

/** Damages the image; what was done, in words. */
export function apply(located: Located, image: ScratchImage, plan: Plan): string[] {
  const words = plan.damages.map((damage) => change(located, image, damage));
  if (plan.sealed) for (const structure of targets(located, plan)) structure.seal(image);
  return words;
}

function change(located: Located, image: ScratchImage, damage: Damage): string {
  const { kind, nth, how, which, value } = damage;
  const structure = pick(located, kind, nth);
  const name = `${kind}, ${structure.what}`;
  const { bytes } = image;
  const own = image.writable(structure.at, structure.length);
  const from = (which & 1) === 0 ? 0 : which % own.length;
  switch (how) {
    case 'swap':
    case 'copy': {
      const other = pick(located, kind, nth + 1 + (which % 5));
      const length = Math.min(own.length, other.length);
      const theirs = image.writable(other.at, length);
      const kept = own.slice(0, length);
      own.set(theirs);
      if (how === 'copy') return `${name}: becomes a copy of ${other.what}`;
      theirs.set(kept);
      return `${name}: changes places with ${other.what}`;
    }
    case 'foreign': {
      const kinds = kindsOf(located);
      const otherKind = kinds[which % kinds.length];
      const other = pick(located, otherKind, value);
      own.set(bytes.slice(other.at, other.at + Math.min(own.length, other.length)));
      return `${name}: becomes a copy of ${otherKind}, ${other.what}`;
    }
    case 'garbage':
      for (let i = from, x = value | 1; i < own.length; i++) {
        x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
        own[i] = x >>> 24;
      }
      return `${name}: garbage from byte ${from} on`;
    case 'fill': {
      const byte = [0, 0xff, 0x01, 0x80][value % 4];
      own.fill(byte, from);
      return `${name}: filled with 0x${byte.toString(16)} from byte ${from} on`;
    }
    default:
      return changeField(located, image, structure, damage);
  }
}

function changeField(located: Located, image: ScratchImage, structure: Structure, damage: Damage): string {
  const field = fieldOf(structure, damage.which);
  const max = 256 ** field.size - 1;
  const before = readField(image.bytes, field);
  let after = valueFor(located, image, structure, damage, before);
  after = after < 0 ? max : after > max ? max - ((after - max) % 3) : after;
  image.touch(field.at, field.size);
  writeField(image.bytes, field, after);
  return `${structure.kind}, ${structure.what}: ${field.name} ${before} becomes ${after}`;
}

function valueFor(located: Located, image: ScratchImage, structure: Structure, damage: Damage, before: number): number {
  const { how, which, value } = damage;
  switch (how) {
    case 'near':
      return before + [...NEAR, before, -Math.floor(before / 2)][value % (NEAR.length + 2)];
    case 'bit':
      return (before ^ (2 ** (value % (fieldOf(structure, which).size * 8)))) >>> 0;
    case 'place': {
      // Numbers of blocks and inodes that mean something; among them the structure's own, for circles.
      const own = [structure.ino, Math.floor(structure.at / 1024), Math.floor(structure.at / 4096)];
      const numbers = (value & 1) === 0 ? [...located.blocks, ...own] : [...located.inodes, ...own];
      return numbers[(value >>> 1) % numbers.length];
    }
    case 'sibling':
      return readField(image.bytes, fieldOf(pick(located, structure.kind, value), which));
    default:
      return value % 4 === 0 ? value * 4 : EDGES[(value >>> 2) % EDGES.length];
  }
}
