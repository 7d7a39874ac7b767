/** struct ext4_dir_entry_2 (Documentation/filesystems/ext4/directory.rst): 8 bytes, then the name, padded to 4. */
import { layout, le16, le32, u8 } from '../../codec/layout.js';
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK } from './inode.js';

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
  [S_IFREG]: 1,
  [S_IFDIR]: 2,
  [S_IFCHR]: 3,
  [S_IFBLK]: 4,
  [S_IFIFO]: 5,
  [S_IFSOCK]: 6,
  [S_IFLNK]: 7,
};

/** Bytes an entry with a name of this length takes (ext4_dir_rec_len). */
export const entryBytes = (nameLength: number): number => (DIR_ENTRY.SIZE + nameLength + 3) & ~3;
