/** The log's records (fs/jbd2, include/linux/jbd2.h; Documentation/filesystems/ext4/journal.rst). Everything is big-endian. */
import { be16, be32, bytes, layout, u8 } from '../codec/layout.js';

export const JBD2_MAGIC = 0xc03b3998;

export const BlockType = {
  DESCRIPTOR: 1,
  COMMIT: 2,
  SUPERBLOCK_V1: 3,
  SUPERBLOCK_V2: 4,
  REVOKE: 5,
} as const;

/** journal_header_s: starts every record. */
export const JOURNAL_HEADER = layout('journal_header_s', 12, {
  h_magic: be32(0x0),
  h_blocktype: be32(0x4),
  h_sequence: be32(0x8),
});

export const JOURNAL_SUPERBLOCK = layout('journal_superblock_s', 1024, {
  h_magic: be32(0x0),
  h_blocktype: be32(0x4),
  h_sequence: be32(0x8),
  s_blocksize: be32(0xc),
  s_maxlen: be32(0x10),
  s_first: be32(0x14),
  s_sequence: be32(0x18),
  s_start: be32(0x1c),
  s_errno: be32(0x20),
  s_feature_compat: be32(0x24),
  s_feature_incompat: be32(0x28),
  s_feature_ro_compat: be32(0x2c),
  s_uuid: bytes(0x30, 16),
  s_nr_users: be32(0x40),
  s_dynsuper: be32(0x44),
  s_max_transaction: be32(0x48),
  s_max_trans_data: be32(0x4c),
  s_checksum_type: u8(0x50),
  s_padding2: bytes(0x51, 3),
  s_num_fc_blks: be32(0x54),
  s_head: be32(0x58),
  s_padding: bytes(0x5c, 160),
  s_checksum: be32(0xfc),
  s_users: bytes(0x100, 768),
});

export const JBD2_FEATURE_COMPAT_CHECKSUM = 0x1;

export const JBD2_FEATURE_INCOMPAT = {
  REVOKE: 0x1,
  '64BIT': 0x2,
  ASYNC_COMMIT: 0x4,
  CSUM_V2: 0x8,
  CSUM_V3: 0x10,
  FAST_COMMIT: 0x20,
} as const;

/** journal_block_tag_s: one logged block, without CSUM_V3. t_blocknr_high is there with 64BIT only. */
export const BLOCK_TAG = layout('journal_block_tag_s', 12, {
  t_blocknr: be32(0x0),
  t_checksum: be16(0x4),
  t_flags: be16(0x6),
  t_blocknr_high: be32(0x8),
});

/** journal_block_tag3_s: one logged block, with CSUM_V3. */
export const BLOCK_TAG3 = layout('journal_block_tag3_s', 16, {
  t_blocknr: be32(0x0),
  t_flags: be32(0x4),
  t_blocknr_high: be32(0x8),
  t_checksum: be32(0xc),
});

/** t_flags */
export const TagFlag = {
  /** The block began with the journal's magic number, which was zeroed in the log. */
  ESCAPE: 1,
  /** No uuid follows the tag. */
  SAME_UUID: 2,
  DELETED: 4,
  LAST_TAG: 8,
} as const;

/** Tail of descriptor and revoke blocks with CSUM_V2 or V3. */
export const BLOCK_TAIL = layout('jbd2_journal_block_tail', 4, { t_checksum: be32(0) });

export const COMMIT_HEADER = layout('commit_header', 60, {
  h_magic: be32(0x0),
  h_blocktype: be32(0x4),
  h_sequence: be32(0x8),
  h_chksum_type: u8(0xc),
  h_chksum_size: u8(0xd),
  h_padding: bytes(0xe, 2),
  h_chksum: bytes(0x10, 32),
  h_commit_sec: bytes(0x30, 8),
  h_commit_nsec: be32(0x38),
});

export const CHECKSUM_TYPE = { CRC32: 1, MD5: 2, SHA1: 3, CRC32C: 4 } as const;

/** jbd2_journal_revoke_header_s: block numbers follow, 4 bytes each, 8 with 64BIT; r_count counts bytes, header included. */
export const REVOKE_HEADER = layout('jbd2_journal_revoke_header_s', 16, {
  h_magic: be32(0x0),
  h_blocktype: be32(0x4),
  h_sequence: be32(0x8),
  r_count: be32(0xc),
});
