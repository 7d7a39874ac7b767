/** struct fsverity_descriptor (fs/verity/fsverity_private.h; Documentation/filesystems/fsverity.rst). */
import { bytes, layout, le32, le64, u8 } from '../../codec/layout.js';

export const FSVERITY_DESCRIPTOR = layout('fsverity_descriptor', 256, {
  version: u8(0),
  hash_algorithm: u8(1),
  log_blocksize: u8(2),
  salt_size: u8(3),
  sig_size: le32(4),
  data_size: le64(8),
  root_hash: bytes(16, 64),
  salt: bytes(80, 32),
  __reserved: bytes(112, 144),
});

/** By number: the name as node:crypto has it, and the sizes in bytes of a digest and of an input block. */
export const FSVERITY_HASHES: ReadonlyMap<number, { name: string; digestBytes: number; inputBytes: number }> = new Map([
  [1, { name: 'sha256', digestBytes: 32, inputBytes: 64 }],
  [2, { name: 'sha512', digestBytes: 64, inputBytes: 128 }],
]);
