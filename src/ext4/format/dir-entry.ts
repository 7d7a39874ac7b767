/** struct ext4_dir_entry_2 (Documentation/filesystems/ext4/directory.rst): 8 bytes, then the name, padded to 4. */
import { layout, le16, le32, u8 } from '../../codec/layout.js';

export const DIR_ENTRY = layout('ext4_dir_entry_2', 8, {
  inode: le32(0x0),
  rec_len: le16(0x4),
  name_len: u8(0x6),
  file_type: u8(0x7),
});

/** struct ext4_dir_entry_tail: looks like an unused entry, holds the block's checksum. */
export const DIR_ENTRY_TAIL = layout('ext4_dir_entry_tail', 12, {
  det_reserved_zero1: le32(0x0),
  det_rec_len: le16(0x4),
  det_reserved_zero2: u8(0x6),
  det_reserved_ft: u8(0x7),
  det_checksum: le32(0x8),
});

export const EXT4_FT_DIR_CSUM = 0xde;
export const EXT4_NAME_LEN = 255;

/** file_type by the type bits of a mode (fs_umode_to_ftype). */
export const FILE_TYPE: Readonly<Record<number, number>> = {
  16807: 1,
  9604: 2,
  4802: 3,
  14406: 4,
  2401: 5,
  26411: 6,
  21609: 7,
};

/** Bytes an entry with a name of this length takes (ext4_dir_rec_len). */
export const entryBytes = (nameLength: number): number => (DIR_ENTRY.SIZE + nameLength + 3) & ~3;
