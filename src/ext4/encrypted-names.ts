/**
 * Names and targets of an encrypted directory as the kernel shows them to those without the key (fs/crypto/fname.c): the
 * ciphertext, or its beginning and a digest, with the hash by which it is indexed, in base64url.
 */
import { createHash } from 'node:crypto';
import { CorruptionError } from '../errors.js';
import { nameHash } from './dir-hash.js';
import { hashNameIn } from './dir-name.js';
import { COMPAT, INCOMPAT } from './features.js';
import { EXT4_ENCRYPT_FL, EXT4_INDEX_FL } from './format/inode.js';
import type { Inode } from './inode.js';

/** fscrypt_nokey_name.bytes: what of the ciphertext is shown as it is. */
const SHOWN_BYTES = 149;
/** FSCRYPT_FNAME_MIN_MSG_LEN */
const MIN_CIPHERTEXT_BYTES = 16;

export function isEncrypted(inode: Inode): boolean {
  return inode.hasFlag(EXT4_ENCRYPT_FL) && (inode.vol.geometry.incompat & INCOMPAT.encrypt) !== 0;
}

const isDot = (name: Uint8Array) => name.length <= 2 && name.every((byte) => byte === 0x2e);

function encode(hash: number, minor: number, ciphertext: Uint8Array): Uint8Array {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(hash, 0);
  head.writeUInt32LE(minor, 4);
  const rest = ciphertext.subarray(SHOWN_BYTES);
  const parts = [head, ciphertext.subarray(0, SHOWN_BYTES)];
  if (rest.length > 0) parts.push(createHash('sha256').update(rest).digest());
  return new Uint8Array(Buffer.from(Buffer.concat(parts).toString('base64url')));
}

/** The name shown for an entry of the encrypted directory `dir`. Throws CorruptionError. */
export function shownName(dir: Inode, stored: Uint8Array): Uint8Array {
  if (isDot(stored)) return stored;
  if (stored.length < MIN_CIPHERTEXT_BYTES)
    throw new CorruptionError('encrypted name', `inode ${dir.ino}`, `${stored.length} bytes of ciphertext`);
  const { geometry } = dir.vol;
  // is_dx_dir: those of one block are listed by hash as well.
  const hashed =
    (geometry.compat & COMPAT.dir_index) !== 0 && (dir.hasFlag(EXT4_INDEX_FL) || dir.sizeBytes === geometry.blockSize);
  if (!hashed) return encode(0, 0, stored);
  hashNameIn(dir, geometry.hashVersion, stored);
  return encode(nameHash.hash, nameHash.minor, stored);
}

/** The target shown for a symbolic link: `stored` is a length and that much ciphertext. Throws CorruptionError. */
export function shownTarget(link: Inode, stored: Uint8Array): Uint8Array {
  const length = stored.length < 2 ? 0 : stored[0] + stored[1] * 256;
  if (length < MIN_CIPHERTEXT_BYTES || length + 2 > stored.length)
    throw new CorruptionError('encrypted symlink', `inode ${link.ino}`, `${length} bytes of ciphertext`);
  return encode(0, 0, stored.subarray(2, 2 + length));
}
