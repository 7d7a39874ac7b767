/** Extended attributes (Documentation/filesystems/ext4/attributes.rst). */
import { bytes, layout, le16, le32, u8 } from '../../codec/layout.js';

export const EXT4_XATTR_MAGIC = 0xea020000;
/** Inodes that may share an attribute block. */
export const EXT4_XATTR_REFCOUNT_MAX = 1024;
/** What e_value_size may be at most; system calls allow XATTR_SIZE_MAX. */
export const EXT4_XATTR_SIZE_MAX = 1 << 24;
export const XATTR_SIZE_MAX = 65536;

/** struct ext4_xattr_header: starts an attribute block. In an inode only the magic number stands there. */
export const XATTR_HEADER = layout('ext4_xattr_header', 32, {
  h_magic: le32(0x0),
  h_refcount: le32(0x4),
  h_blocks: le32(0x8),
  h_hash: le32(0xc),
  h_checksum: le32(0x10),
  h_reserved: bytes(0x14, 12),
});
export const XATTR_IBODY_HEADER_BYTES = 4;

/** struct ext4_xattr_entry: the name follows, padded to 4. */
export const XATTR_ENTRY = layout('ext4_xattr_entry', 16, {
  e_name_len: u8(0x0),
  e_name_index: u8(0x1),
  e_value_offs: le16(0x2),
  e_value_inum: le32(0x4),
  e_value_size: le32(0x8),
  e_hash: le32(0xc),
});

/** Name prefixes by e_name_index. 7, of other system.* names, is the kernel's own: it holds inline data. */
export const XATTR_PREFIXES: readonly { readonly index: number; readonly prefix: string; readonly whole: boolean }[] = [
  { index: 1, prefix: 'user.', whole: false },
  { index: 2, prefix: 'system.posix_acl_access', whole: true },
  { index: 3, prefix: 'system.posix_acl_default', whole: true },
  { index: 4, prefix: 'trusted.', whole: false },
  { index: 6, prefix: 'security.', whole: false },
];
