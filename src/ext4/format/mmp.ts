/** struct mmp_struct (fs/ext4/ext4.h; Documentation/filesystems/ext4/mmp.rst): the block that tells who uses the filesystem. */
import { bytes, layout, le16, le32, le64 } from '../../codec/layout.js';

export const MMP = layout('mmp_struct', 1024, {
  mmp_magic: le32(0),
  mmp_seq: le32(4),
  /** Seconds. */
  mmp_time: le64(8),
  mmp_nodename: bytes(16, 64),
  mmp_bdevname: bytes(80, 32),
  /** Seconds. */
  mmp_check_interval: le16(112),
  mmp_pad1: le16(114),
  mmp_pad2: bytes(116, 904),
  mmp_checksum: le32(1020),
});

export const EXT4_MMP_MAGIC = 0x004d4d50;
/** Values of mmp_seq: unmounted, being checked, and the largest of one who uses it. */
export const EXT4_MMP_SEQ_CLEAN = 0xff4d4d50;
export const EXT4_MMP_SEQ_FSCK = 0xe24d4d50;
export const EXT4_MMP_SEQ_MAX = 0xe24d4d4f;
/** Seconds. */
export const EXT4_MMP_MIN_CHECK_INTERVAL = 5;
/** The largest that the kernel and tune2fs write. */
export const EXT4_MMP_MAX_CHECK_INTERVAL = 300;
