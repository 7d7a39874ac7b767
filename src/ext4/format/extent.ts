/** Extent trees (Documentation/filesystems/ext4/ifork.rst): a header, then 12-byte entries; i_block holds the root. */
import { layout, le16, le32 } from '../../codec/layout.js';

export const EXTENT_HEADER = layout('ext4_extent_header', 12, {
  eh_magic: le16(0x0),
  eh_entries: le16(0x2),
  eh_max: le16(0x4),
  eh_depth: le16(0x6),
  eh_generation: le32(0x8),
});

export const EXTENT = layout('ext4_extent', 12, {
  ee_block: le32(0x0),
  ee_len: le16(0x4),
  ee_start_hi: le16(0x6),
  ee_start_lo: le32(0x8),
});

export const EXTENT_IDX = layout('ext4_extent_idx', 12, {
  ei_block: le32(0x0),
  ei_leaf_lo: le32(0x4),
  ei_leaf_hi: le16(0x8),
  ei_unused: le16(0xa),
});

/** After the last possible entry of a block; the root in the inode has none, the inode's checksum covers it. */
export const EXTENT_TAIL = layout('ext4_extent_tail', 4, { et_checksum: le32(0x0) });

export const EXT4_EXT_MAGIC = 0xf30a;
export const EXT4_MAX_EXTENT_DEPTH = 5;
/** ee_len up to here is the length of a written extent; above it, of an unwritten one, plus this. */
export const EXT_INIT_MAX_LEN = 32768;
export const EXT_UNWRITTEN_MAX_LEN = EXT_INIT_MAX_LEN - 1;
/** Logical block numbers are 32 bits, and the last one is never used (ext4_max_size). */
export const EXT_MAX_BLOCKS = 0xffffffff;

/** Entries that fit into `bytes` of header and entries. */
export function extentCapacity(bytes: number): number {
  return Math.floor((bytes - EXTENT_HEADER.SIZE) / EXTENT.SIZE);
}
