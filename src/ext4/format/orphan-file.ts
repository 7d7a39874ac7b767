/** Blocks of the orphan file (Documentation/filesystems/ext4/orphan.rst): inode numbers, and a tail at the end. */
import { layout, le32 } from '../../codec/layout.js';

export const ORPHAN_BLOCK_TAIL = layout('ext4_orphan_block_tail', 8, { ob_magic: le32(0), ob_checksum: le32(4) });
export const EXT4_ORPHAN_BLOCK_MAGIC = 0x0b10ca04;
