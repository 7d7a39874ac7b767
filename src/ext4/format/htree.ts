/** Indexed directories (Documentation/filesystems/ext4/directory.rst, "Hash Tree Directories"). */
import { layout, le16, le32, u8 } from '../../codec/layout.js';

/** dx_root_info, behind the entries of "." and "..". */
export const DX_ROOT_INFO_OFFSET = 24;
export const DX_ROOT_INFO = layout('dx_root_info', 8, {
  reserved_zero: le32(0),
  hash_version: u8(4),
  info_length: u8(5),
  indirect_levels: u8(6),
  unused_flags: u8(7),
});
/** Where entries begin: in the root, and in the nodes below it (behind a fake unused entry). */
export const DX_ROOT_ENTRIES = 32;
export const DX_NODE_ENTRIES = 8;

export const DX_ENTRY = layout('dx_entry', 8, { hash: le32(0), block: le32(4) });
/** In the place of the first entry's hash. */
export const DX_COUNTLIMIT = layout('dx_countlimit', 4, { limit: le16(0), count: le16(2) });
/** Behind the last possible entry, with metadata_csum. */
export const DX_TAIL = layout('dx_tail', 8, { dt_reserved: le32(0), dt_checksum: le32(4) });
