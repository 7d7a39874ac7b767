/** struct ext4_group_desc (Documentation/filesystems/ext4/group_descr.rst): 32 bytes, or 64 with the 64bit feature. */
import { layout, le16, le32 } from '../../codec/layout.js';

export const GROUP_DESC = layout('ext4_group_desc', 64, {
  bg_block_bitmap_lo: le32(0x00),
  bg_inode_bitmap_lo: le32(0x04),
  bg_inode_table_lo: le32(0x08),
  bg_free_blocks_count_lo: le16(0x0c),
  bg_free_inodes_count_lo: le16(0x0e),
  bg_used_dirs_count_lo: le16(0x10),
  bg_flags: le16(0x12),
  bg_exclude_bitmap_lo: le32(0x14),
  bg_block_bitmap_csum_lo: le16(0x18),
  bg_inode_bitmap_csum_lo: le16(0x1a),
  bg_itable_unused_lo: le16(0x1c),
  bg_checksum: le16(0x1e),
  bg_block_bitmap_hi: le32(0x20),
  bg_inode_bitmap_hi: le32(0x24),
  bg_inode_table_hi: le32(0x28),
  bg_free_blocks_count_hi: le16(0x2c),
  bg_free_inodes_count_hi: le16(0x2e),
  bg_used_dirs_count_hi: le16(0x30),
  bg_itable_unused_hi: le16(0x32),
  bg_exclude_bitmap_hi: le32(0x34),
  bg_block_bitmap_csum_hi: le16(0x38),
  bg_inode_bitmap_csum_hi: le16(0x3a),
  bg_reserved: le32(0x3c),
});

export const EXT2_MIN_DESC_SIZE = 32;
export const EXT2_MIN_DESC_SIZE_64BIT = 64;

/** bg_flags */
export const EXT4_BG_INODE_UNINIT = 0x1;
export const EXT4_BG_BLOCK_UNINIT = 0x2;
export const EXT4_BG_INODE_ZEROED = 0x4;
