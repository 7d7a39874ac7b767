/**
 * Quota files of version 2, revision 1 (fs/quota/quota_v2.c, quota_tree.c; "vfsv1"): blocks of 1024 bytes, whatever the
 * filesystem's are. Block 0 is the header, block 1 the root of a tree of block numbers, four levels deep, indexed by the
 * bytes of the id from the highest on. Its leaves name data blocks: a header, and entries in no order.
 */
import { layout, le16, le32, le64 } from '../../codec/layout.js';

export const QUOTA_BLOCK_BYTES = 1024;
export const QT_TREEOFF = 1;
export const QT_TREEDEPTH = 4;
/** References in a block of the tree. */
export const QT_REFERENCES = QUOTA_BLOCK_BYTES / 4;

/** v2_disk_dqheader and the v2_disk_dqinfo behind it. Grace times are in seconds. */
export const QUOTA_HEADER = layout('v2_disk_dqheader, v2_disk_dqinfo', 32, {
  dqh_magic: le32(0),
  dqh_version: le32(4),
  dqi_bgrace: le32(8),
  dqi_igrace: le32(12),
  dqi_flags: le32(16),
  dqi_blocks: le32(20),
  dqi_free_blk: le32(24),
  dqi_free_entry: le32(28),
});

export const QUOTA_VERSION = 1;
/** By type: user, group, project. */
export const QUOTA_MAGICS = [0xd9c01f11, 0xd9c01927, 0xd9c03f14] as const;

/** Begins a data block. dqdh_next_free also chains blocks that are not in use. */
export const QUOTA_DATA_HEADER = layout('qt_disk_dqdbheader', 16, {
  dqdh_next_free: le32(0),
  dqdh_prev_free: le32(4),
  dqdh_entries: le16(8),
  dqdh_pad1: le16(10),
  dqdh_pad2: le32(12),
});

/**
 * One id. Limits of space are in units of 1024 bytes, dqb_curspace is in bytes, times are seconds since 1970: when the
 * grace for a soft limit ends. An entry of zeroes is not in use; one that would be all zeroes has dqb_itime 1.
 */
export const QUOTA_ENTRY = layout('v2r1_disk_dqblk', 72, {
  dqb_id: le32(0),
  dqb_pad: le32(4),
  dqb_ihardlimit: le64(8),
  dqb_isoftlimit: le64(16),
  dqb_curinodes: le64(24),
  dqb_bhardlimit: le64(32),
  dqb_bsoftlimit: le64(40),
  dqb_curspace: le64(48),
  dqb_btime: le64(56),
  dqb_itime: le64(64),
});

export const QUOTA_LIMIT_UNIT_BYTES = 1024;
export const QUOTA_ENTRIES_PER_BLOCK = Math.floor((QUOTA_BLOCK_BYTES - QUOTA_DATA_HEADER.SIZE) / QUOTA_ENTRY.SIZE);
/** What e2fsck takes for a whole quota file. */
export const QUOTA_FILE_MAX_BYTES = 2 ** 31;
