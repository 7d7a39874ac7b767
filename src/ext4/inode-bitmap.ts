/** Inode bitmaps: read and verified when needed, made where mke2fs left them uninitialised. */
import { crc32c } from '../codec/crc.js';
import { CorruptionError } from '../errors.js';
import type { BlockKind, CachedBlock, WritableBlock } from '../jbd2/block-cache.js';
import type { Handle } from '../jbd2/handle.js';
import { EXT4_BG_INODE_UNINIT } from './format/group-desc.js';
import type { GroupDescriptor } from './group.js';
import type { Volume } from './volume.js';

const kinds = new WeakMap<Volume, BlockKind>();

/** The checksum is kept in the group descriptor, which is sealed with the bitmap; it is compared by {@link readInodeBitmap}. */
export function inodeBitmapKind(vol: Volume): BlockKind {
  let kind = kinds.get(vol);
  if (kind === undefined) {
    kind = { name: 'inode bitmap', inFastCommits: true };
    kinds.set(vol, kind);
  }
  return kind;
}

export function hasUninitInodes(vol: Volume, desc: GroupDescriptor): boolean {
  return (vol.geometry.metadataCsum || vol.geometry.gdtCsum) && (desc.flags & EXT4_BG_INODE_UNINIT) !== 0;
}

/** The bitmap of a group that has one. Throws CorruptionError. */
export function readInodeBitmap(vol: Volume, desc: GroupDescriptor): CachedBlock {
  const known = vol.cache.peek(desc.inodeBitmap);
  if (known !== undefined && known.kind === inodeBitmapKind(vol)) return known;
  const block = vol.read(desc.inodeBitmap, inodeBitmapKind(vol));
  if (vol.geometry.metadataCsum) {
    const sum = crc32c(vol.geometry.csumSeed, block.bytes.subarray(0, vol.geometry.inodesPerGroup / 8));
    if ((sum & desc.bitmapCsumMask) >>> 0 !== desc.inodeBitmapCsum) {
      vol.cache.drop(block);
      throw new CorruptionError('inode bitmap', `group ${desc.group}`, 'its checksum does not match', 'EBADMSG');
    }
  }
  return block;
}

/** The bitmap with write access, made first if the group never had one (ext4_init_inode_bitmap). */
export function inodeBitmapForUse(handle: Handle, vol: Volume, desc: GroupDescriptor): WritableBlock {
  const { inodesPerGroup, blockSize } = vol.geometry;
  let block: WritableBlock;
  if (hasUninitInodes(vol, desc)) {
    block = handle.getCreateAccess(desc.inodeBitmap, inodeBitmapKind(vol));
    block.bytes.fill(0xff, inodesPerGroup / 8, blockSize);
    desc.edit(handle).setFlags(desc.flags & ~EXT4_BG_INODE_UNINIT);
  } else {
    block = handle.getWriteAccess(readInodeBitmap(vol, desc));
  }
  handle.dirtyMetadata(block);
  return block;
}
