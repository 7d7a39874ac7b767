/** The block of attributes that do not fit the inode. It may be shared: then it is never changed, only left. */
import { crc32c } from '../codec/crc.js';
import { CorruptionError, FsError } from '../errors.js';
import type { BlockKind, CachedBlock, WritableBlock } from '../jbd2/block-cache.js';
import type { Handle } from '../jbd2/handle.js';
import { allocateBlocks, freeBlocks } from './block-alloc.js';
import { EXT4_XATTR_MAGIC, XATTR_HEADER } from './format/xattr.js';
import type { Inode, WritableInode } from './inode.js';
import { groupOfInode } from './orlov.js';
import type { Volume } from './volume.js';
import {
  type Area,
  type Attribute,
  compareAttributes,
  decodeAttributes,
  encodeAttributes,
  encodedBytes,
} from './xattr-entries.js';

const kinds = new WeakMap<Volume, BlockKind>();

/** ext4_xattr_block_csum: the block's number, then the block with its checksum as zero. */
function checksum(vol: Volume, block: CachedBlock): number {
  const number = new Uint8Array(8);
  const view = new DataView(number.buffer);
  view.setUint32(0, block.nr >>> 0, true);
  view.setUint32(4, Math.floor(block.nr / 0x1_0000_0000), true);
  const at = XATTR_HEADER.h_checksum.offset;
  let crc = crc32c(vol.geometry.csumSeed, number);
  crc = crc32c(crc, block.bytes.subarray(0, at));
  crc = crc32c(crc, new Uint8Array(4));
  return crc32c(crc, block.bytes.subarray(at + 4));
}

function xattrBlockKind(vol: Volume): BlockKind {
  let kind = kinds.get(vol);
  if (kind !== undefined) return kind;
  kind = {
    name: 'attribute block',
    verify(block) {
      const bad = (finding: string, code: 'EUCLEAN' | 'EBADMSG' = 'EUCLEAN') =>
        new CorruptionError('attribute block', `block ${block.nr}`, finding, code);
      if (XATTR_HEADER.h_magic.get(block.view, 0) !== EXT4_XATTR_MAGIC) throw bad('the magic number is missing');
      if (XATTR_HEADER.h_blocks.get(block.view, 0) !== 1) throw bad('h_blocks is not 1');
      const references = XATTR_HEADER.h_refcount.get(block.view, 0);
      if (references === 0 || references > 1024) throw bad(`${references} references`);
      if (vol.geometry.metadataCsum && XATTR_HEADER.h_checksum.get(block.view, 0) !== checksum(vol, block)) {
        throw bad('its checksum does not match', 'EBADMSG');
      }
    },
    beforeCommit(block) {
      if (vol.geometry.metadataCsum) XATTR_HEADER.h_checksum.set(block.view, 0, checksum(vol, block));
    },
  };
  kinds.set(vol, kind);
  return kind;
}

function areaOf(vol: Volume): Area {
  return { from: XATTR_HEADER.SIZE, end: vol.geometry.blockSize, valueBase: 0 };
}

/** Whether these attributes fit one block. */
export function fitsBlock(vol: Volume, attributes: readonly Attribute[]): boolean {
  const { from, end } = areaOf(vol);
  return encodedBytes(attributes) <= end - from;
}

/** The attributes in the inode's block; none without one. Throws CorruptionError. */
export function readBlockAttributes(vol: Volume, inode: Inode): Attribute[] {
  const nr = inode.fileAcl;
  if (nr === 0) return [];
  const block = vol.read(nr, xattrBlockKind(vol));
  return decodeAttributes(block.view, block.bytes, areaOf(vol), `inode ${inode.ino}`);
}

/** How many inodes an attribute block says it belongs to. Throws CorruptionError. */
export function xattrBlockReferences(vol: Volume, nr: number): number {
  return XATTR_HEADER.h_refcount.get(vol.read(nr, xattrBlockKind(vol)).view, 0);
}

/** Makes the inode's block hold exactly these; without any it has none. Throws FsError ENOSPC, EDQUOT. */
export function writeBlockAttributes(
  handle: Handle,
  vol: Volume,
  inode: WritableInode,
  attributes: readonly Attribute[],
): void {
  if (attributes.length === 0) {
    freeXattrBlock(handle, inode);
    return;
  }
  if (!fitsBlock(vol, attributes)) throw new FsError('ENOSPC', 'the attributes do not fit a block');
  const block = ownBlock(handle, vol, inode);
  const references = 1;
  block.bytes.fill(0);
  const sorted = [...attributes].sort(compareAttributes);
  const hash = encodeAttributes(block.view, block.bytes, areaOf(vol), sorted, true);
  XATTR_HEADER.h_magic.set(block.view, 0, EXT4_XATTR_MAGIC);
  XATTR_HEADER.h_refcount.set(block.view, 0, references);
  XATTR_HEADER.h_blocks.set(block.view, 0, 1);
  XATTR_HEADER.h_hash.set(block.view, 0, hash);
  handle.dirtyMetadata(block);
}

/** The inode's block if it is its alone, otherwise a new one. */
function ownBlock(handle: Handle, vol: Volume, inode: WritableInode): WritableBlock {
  const nr = inode.fileAcl;
  if (nr !== 0) {
    const block = vol.read(nr, xattrBlockKind(vol));
    if (XATTR_HEADER.h_refcount.get(block.view, 0) === 1) return handle.getWriteAccess(block);
    freeXattrBlock(handle, inode);
  }
  vol.quotas?.roomFor(inode, 1);
  const goal = vol.geometry.groupFirstBlock(groupOfInode(vol, inode.ino));
  const { start } = allocateBlocks(handle, vol, { goal, count: 1, ino: inode.ino, metadata: true });
  inode.setFileAcl(start);
  inode.addBlocks(1);
  return handle.getCreateAccess(start, xattrBlockKind(vol));
}

/** The inode leaves its attribute block; the last one to leave frees it (ext4_xattr_release_block). */
export function freeXattrBlock(handle: Handle, inode: WritableInode): void {
  const { vol } = inode;
  const nr = inode.fileAcl;
  if (nr === 0) return;
  const block = vol.read(nr, xattrBlockKind(vol));
  const references = XATTR_HEADER.h_refcount.get(block.view, 0);
  if (references > 1) {
    const writable = handle.getWriteAccess(block);
    XATTR_HEADER.h_refcount.set(writable.view, 0, references - 1);
    handle.dirtyMetadata(writable);
  } else {
    freeBlocks(handle, vol, nr, 1, { metadata: true });
  }
  inode.setFileAcl(0);
  inode.addBlocks(-1);
}
