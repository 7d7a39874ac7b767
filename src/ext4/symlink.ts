/** Symbolic links: up to 59 bytes in the inode, longer ones in a block that is journaled like metadata. */
import { CorruptionError, FsError } from '../errors.js';
import type { BlockKind } from '../jbd2/block-cache.js';
import type { Handle } from '../jbd2/handle.js';
import { allocateMetadataBlock, initBlockMap, mapBlock } from './block-map.js';
import { isEncrypted, shownTarget } from './encrypted-names.js';
import { EXT4_EXTENTS_FL, I_BLOCK_BYTES } from './format/inode.js';
import { inlineContent } from './inline-data.js';
import { type Ino, Inode, type WritableInode } from './inode.js';
import type { Volume } from './volume.js';

/** The target's block; it has no checksum of its own. */
const SYMLINK_KIND: BlockKind = { name: 'symlink block' };

/** A fast symlink has no blocks but perhaps that of its attributes (ext4_inode_is_fast_symlink). */
function isFast(inode: Inode): boolean {
  return !inode.usesExtents && inode.sizeBytes < I_BLOCK_BYTES;
}

/** Throws FsError EINVAL for what is no symlink, CorruptionError. */
export function readlink(vol: Volume, ino: Ino): Uint8Array {
  const inode = Inode.get(vol, ino);
  if (!inode.isSymlink) throw new FsError('EINVAL', `inode ${ino} is not a symbolic link`);
  const stored = storedTarget(inode);
  return isEncrypted(inode) ? shownTarget(inode, stored) : stored;
}

function storedTarget(inode: Inode): Uint8Array {
  const { vol, ino, sizeBytes } = inode;
  if (inode.hasInlineData) {
    const content = inlineContent(inode);
    if (content.length === 0) throw new CorruptionError('symlink', `inode ${ino}`, 'its target is empty');
    return content;
  }
  if (isFast(inode)) return inode.iBlock.slice(0, sizeBytes);
  if (sizeBytes === 0 || sizeBytes >= vol.geometry.blockSize) {
    throw new CorruptionError('symlink', `inode ${ino}`, `its size is ${sizeBytes}`);
  }
  const { pblk } = mapBlock(inode, 0);
  if (pblk === 0) throw new CorruptionError('symlink', `inode ${ino}`, 'its block is missing');
  return vol.read(pblk, SYMLINK_KIND).bytes.slice(0, sizeBytes);
}

/** Sets the target of a new link. Throws FsError ENAMETOOLONG, ENOSPC. */
export function setTarget(handle: Handle, inode: WritableInode, target: Uint8Array): void {
  const { vol } = inode;
  if (target.length >= vol.geometry.blockSize) throw new FsError('ENAMETOOLONG');
  if (target.length < I_BLOCK_BYTES) {
    inode.setFlags(inode.flags & ~EXT4_EXTENTS_FL);
    inode.block.bytes.fill(0, inode.iBlockBase, inode.iBlockBase + I_BLOCK_BYTES);
    inode.block.bytes.set(target, inode.iBlockBase);
  } else {
    initBlockMap(inode);
    const block = handle.getCreateAccess(allocateMetadataBlock(handle, inode, 0), SYMLINK_KIND);
    block.bytes.set(target);
    handle.dirtyMetadata(block);
  }
  inode.setSizeBytes(target.length);
}
