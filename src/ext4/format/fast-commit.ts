/** Fast commits (fs/ext4/fast_commit.h): records of a tag, a length and a value, little-endian, none across blocks. */
import { bytes, layout, le16, le32 } from '../../codec/layout.js';

export const FC_TL = layout('ext4_fc_tl', 4, { fc_tag: le16(0x0), fc_len: le16(0x2) });

export const EXT4_FC_TAG = {
  ADD_RANGE: 1,
  DEL_RANGE: 2,
  CREAT: 3,
  LINK: 4,
  UNLINK: 5,
  INODE: 6,
  PAD: 7,
  TAIL: 8,
  HEAD: 9,
} as const;

export const FC_HEAD = layout('ext4_fc_head', 8, { fc_features: le32(0x0), fc_tid: le32(0x4) });

/** fc_ex is an ext4_extent. */
export const FC_ADD_RANGE = layout('ext4_fc_add_range', 16, { fc_ino: le32(0x0), fc_ex: bytes(0x4, 12) });

export const FC_DEL_RANGE = layout('ext4_fc_del_range', 12, {
  fc_ino: le32(0x0),
  fc_lblk: le32(0x4),
  fc_len: le32(0x8),
});

/** Then the name, to the end of the value. */
export const FC_DENTRY_INFO = layout('ext4_fc_dentry_info', 8, { fc_parent_ino: le32(0x0), fc_ino: le32(0x4) });

/** Then the inode as it was, without what lies behind i_extra_isize. */
export const FC_INODE = layout('ext4_fc_inode', 4, { fc_ino: le32(0x0) });

/** Then the rest of the block. */
export const FC_TAIL = layout('ext4_fc_tail', 8, { fc_tid: le32(0x0), fc_crc: le32(0x4) });
