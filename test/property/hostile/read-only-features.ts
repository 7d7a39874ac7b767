/** What the engine only reads, made from what it writes: encrypted names, and files with a hash tree. */
import { createHash } from 'node:crypto';
import type { Filesystem } from '../../../src/ext4/filesystem.js';
import { EXT4_ENCRYPT_FL, EXT4_VERITY_FL } from '../../../src/ext4/format/inode.js';
import { locate } from './locate.js';
import { ScratchImage } from './scratch-image.js';
import type { SoundImage } from './sound-image.js';
import { type Kind, readField, type Structure, writeField } from './structures.js';

const CRED = { uid: 0, gid: 0 };
const ROOT = 2;
const BLOCK = 1024;
/** What lies behind the data of a verity file begins at a multiple of this. */
const ALIGNMENT = 65_536;
const DATA_BYTES = 5 * BLOCK - 100;
const encode = (text: string) => new TextEncoder().encode(text);

type Write = (fs: Filesystem, ino: number, posBytes: number, bytes: Uint8Array) => void;

/** A directory whose names are as long as ciphertext is, and a link whose target looks like it. */
export function populateSecret(fs: Filesystem): void {
  const secret = fs.mkdir(ROOT, encode('secret'), 0o40755, CRED);
  for (const length of [16, 32, 160, 255]) fs.create(secret, encode('c'.repeat(length)), 0o100644, CRED);
  const target = new Uint8Array(2 + 32).fill(0x79);
  target.set([32, 0]);
  fs.symlink(secret, encode('l'.repeat(16)), target, CRED);
  fs.mkdir(secret, encode('d'.repeat(48)), 0o40755, CRED);
}

/** A file with its tree of one level, and the descriptor, behind the end that it will have. */
export function populateVerified(fs: Filesystem, write: Write): void {
  const ino = fs.create(ROOT, encode('verified'), 0o100444, CRED);
  const data = new Uint8Array(DATA_BYTES).map((_, i) => i * 7);
  const digest = (bytes: Uint8Array, from: number) => {
    const block = Buffer.alloc(BLOCK);
    block.set(bytes.subarray(from, from + BLOCK));
    return createHash('sha256').update(block).digest();
  };
  const tree = Buffer.alloc(BLOCK);
  for (let at = 0; at < DATA_BYTES; at += BLOCK) tree.set(digest(data, at), (at / BLOCK) * 32);
  const last = Buffer.alloc(BLOCK);
  last.set([1, 1, Math.log2(BLOCK), 0]);
  last.writeUInt32LE(DATA_BYTES, 8);
  last.set(digest(tree, 0), 16);
  last.writeUInt32LE(256, BLOCK - 4);
  write(fs, ino, 0, data);
  write(fs, ino, ALIGNMENT, tree);
  write(fs, ino, ALIGNMENT + BLOCK, last);
}

/** The features are set, and the inodes marked. */
export function withReadOnlyFeatures(sound: SoundImage, secret: readonly number[], verified: number): Uint8Array {
  const image = new ScratchImage(sound);
  const { structures } = locate(sound);
  const set = (structure: Structure, name: string, change: (value: number) => number) => {
    const field = structure.fields.find((each) => each.name === name);
    if (field === undefined) throw new Error(`${structure.what} has no ${name}`);
    image.touch(field.at, field.size);
    writeField(image.bytes, field, change(readField(image.bytes, field)));
    structure.seal(image);
  };
  const all = (kind: Kind) => structures.get(kind) ?? [];
  const inode = (ino: number) => all('inode').find((each) => each.ino === ino) as Structure;
  const [superblock] = all('superblock');
  set(superblock, 's_feature_incompat', (bits) => bits | 0x10000);
  set(superblock, 's_feature_ro_compat', (bits) => bits | 0x8000);
  for (const ino of secret) set(inode(ino), 'i_flags', (flags) => flags | EXT4_ENCRYPT_FL);
  set(inode(verified), 'i_flags', (flags) => flags | EXT4_VERITY_FL);
  set(inode(verified), 'i_size_lo', () => DATA_BYTES);
  return image.bytes;
}
