/** Names as one directory hashes and compares them: byte for byte, or in a casefolded one whatever their case. */
import { FsError } from '../errors.js';
import { casefold } from './casefold.js';
import { hashName } from './dir-hash.js';
import { INCOMPAT } from './features.js';
import { EXT4_CASEFOLD_FL } from './format/inode.js';
import type { Inode } from './inode.js';

export function foldsCase(dir: Inode): boolean {
  return dir.hasFlag(EXT4_CASEFOLD_FL) && (dir.vol.geometry.incompat & INCOMPAT.casefold) !== 0;
}

/**
 * The folded form by which entries of `dir` are compared with `name`; null: its bytes are compared. Throws FsError EINVAL
 * for what is no text where the filesystem is strict about that (ext4_fname_setup_ci_filename).
 */
export function foldedIn(dir: Inode, name: Uint8Array): Uint8Array | null {
  if (!foldsCase(dir)) return null;
  const folded = casefold(name);
  if (folded === null && dir.vol.geometry.strictEncoding) throw new FsError('EINVAL', 'the name is not valid UTF-8');
  return folded;
}

/** Hashes a name as the index of `dir` has it, into `nameHash` (ext4fs_dirhash). */
export function hashNameIn(dir: Inode, version: number, name: Uint8Array): void {
  hashName(dir.vol.geometry, version, (foldsCase(dir) ? casefold(name) : null) ?? name);
}
