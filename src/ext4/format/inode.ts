/** struct ext4_inode (Documentation/filesystems/ext4/inodes.rst): 128 bytes, then i_extra_isize more and in-inode xattrs. */
import { bytes, layout, le16, le32 } from '../../codec/layout.js';

export const INODE = layout('ext4_inode', 160, {
  i_mode: le16(0x00),
  i_uid: le16(0x02),
  i_size_lo: le32(0x04),
  i_atime: le32(0x08),
  i_ctime: le32(0x0c),
  i_mtime: le32(0x10),
  i_dtime: le32(0x14),
  i_gid: le16(0x18),
  i_links_count: le16(0x1a),
  i_blocks_lo: le32(0x1c),
  i_flags: le32(0x20),
  i_version: le32(0x24),
  i_block: bytes(0x28, 60),
  i_generation: le32(0x64),
  i_file_acl_lo: le32(0x68),
  i_size_high: le32(0x6c),
  i_obso_faddr: le32(0x70),
  i_blocks_high: le16(0x74),
  i_file_acl_high: le16(0x76),
  i_uid_high: le16(0x78),
  i_gid_high: le16(0x7a),
  i_checksum_lo: le16(0x7c),
  i_reserved: le16(0x7e),
  i_extra_isize: le16(0x80),
  i_checksum_hi: le16(0x82),
  i_ctime_extra: le32(0x84),
  i_mtime_extra: le32(0x88),
  i_atime_extra: le32(0x8c),
  i_crtime: le32(0x90),
  i_crtime_extra: le32(0x94),
  i_version_hi: le32(0x98),
  i_projid: le32(0x9c),
});

export const GOOD_OLD_INODE_SIZE = 128;
/** i_block: 60 bytes of extent root, block map, or fast symlink target. */
export const I_BLOCK_OFFSET = 0x28;
export const I_BLOCK_BYTES = 60;

export const S_IFMT = 0o170000;
export const S_IFSOCK = 0o140000;
export const S_IFLNK = 0o120000;
export const S_IFREG = 0o100000;
export const S_IFBLK = 0o060000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
export const S_IFIFO = 0o010000;
export const S_ISUID = 0o4000;
export const S_ISGID = 0o2000;
export const S_ISVTX = 0o1000;

/** i_flags */
export const EXT4_SYNC_FL = 0x8;
export const EXT4_IMMUTABLE_FL = 0x10;
export const EXT4_APPEND_FL = 0x20;
export const EXT4_NODUMP_FL = 0x40;
export const EXT4_NOATIME_FL = 0x80;
export const EXT4_ENCRYPT_FL = 0x800;
export const EXT4_INDEX_FL = 0x1000;
export const EXT4_JOURNAL_DATA_FL = 0x4000;
export const EXT4_TOPDIR_FL = 0x20000;
export const EXT4_HUGE_FILE_FL = 0x40000;
export const EXT4_EXTENTS_FL = 0x80000;
export const EXT4_VERITY_FL = 0x100000;
export const EXT4_EA_INODE_FL = 0x200000;
export const EXT4_INLINE_DATA_FL = 0x10000000;
export const EXT4_PROJINHERIT_FL = 0x20000000;
export const EXT4_CASEFOLD_FL = 0x40000000;
/** Flags that a new inode takes from its directory (EXT4_FL_INHERITED, less those for features refused here). */
export const EXT4_FL_INHERITED =
  0x00000001 | 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x400 | 0x4000 | 0x8000 | 0x10000 | 0x20000000 | 0x40000000;

/** Reserved inodes */
export const EXT4_ROOT_INO = 2;
export const EXT4_JOURNAL_INO = 8;

export const EXT4_LINK_MAX = 65000;
