/**
 * The block of attributes that do not fit the inode. Inodes with the same attributes share one; a shared block is never
 * changed, only joined and left (ext4_xattr_block_set).
 */
import { crc32c } from '../codec/crc.js';
import { ownView } from '../codec/view.js';
import { CorruptionError, FsError } from '../errors.js';
import type { BlockKind, CachedBlock } from '../jbd2/block-cache.js';
import type { Handle } from '../jbd2/handle.js';
import { allocateBlocks, freeBlocks } from './block-alloc.js';
import { hasEaInodes, type ValueReferences } from './ea-inode.js';
import { EXT4_XATTR_MAGIC, EXT4_XATTR_REFCOUNT_MAX, XATTR_HEADER } from './format/xattr.js';
import type { Inode, WritableInode } from './inode.js';
import { groupOfInode } from './orlov.js';
import type { Volume } from './volume.js';
import { xattrCaches } from './xattr-cache.js';
import {
  type Area,
  type Attribute,
  compareAttributes,
  decodeAttributes,
  encodeAttributes,
  encodedBytes,
  sameAttributes,
  valueBytes,
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
      if (references === 0 || references > EXT4_XATTR_REFCOUNT_MAX) throw bad(`${references} references`);
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

/**
 * Whether the values leave room for entries (EXT4_XATTR_BLOCK_RESERVE): where a value can have an inode of its own, one
 * that would take this room does.
 */
export function leavesReserve(vol: Volume, attributes: readonly Attribute[]): boolean {
  const { blockSize } = vol.geometry;
  if (!hasEaInodes(vol)) return true;
  return blockSize - valueBytes(attributes) >= Math.min(blockSize / 8, 1024);
}

function referencesOf(block: CachedBlock): number {
  return XATTR_HEADER.h_refcount.get(block.view, 0);
}

function attributesOf(vol: Volume, block: CachedBlock, place: string): Attribute[] {
  return decodeAttributes(block.view, block.bytes, areaOf(vol), vol.geometry, place);
}

/** The attributes in the inode's block; none without one. Throws CorruptionError. */
export function readBlockAttributes({ vol, ino, fileAcl: nr }: Inode): Attribute[] {
  if (nr === 0) return [];
  const block = vol.read(nr, xattrBlockKind(vol));
  const attributes = attributesOf(vol, block, `inode ${ino}`);
  const hash = XATTR_HEADER.h_hash.get(block.view, 0);
  if (hash !== 0) xattrCaches(vol)?.blocks.note(nr, hash);
  return attributes;
}

/** How many inodes an attribute block says it belongs to. Throws CorruptionError. */
export function xattrBlockReferences(vol: Volume, nr: number): number {
  return referencesOf(vol.read(nr, xattrBlockKind(vol)));
}

/**
 * Makes the inode's block hold exactly these, or one that holds the same already its own; without any it has none. What
 * that means for values elsewhere is added to `references`. Throws FsError ENOSPC, EDQUOT, CorruptionError.
 */
export function writeBlockAttributes(
  handle: Handle,
  inode: WritableInode,
  attributes: readonly Attribute[],
  references: ValueReferences,
): void {
  const { vol } = inode;
  if (attributes.length === 0) {
    leaveXattrBlock(handle, inode, references);
    return;
  }
  if (!fitsBlock(vol, attributes)) throw new FsError('ENOSPC', 'the attributes do not fit a block');
  const sorted = [...attributes].sort(compareAttributes);
  const { content, hash } = encodeBlock(vol, sorted);
  const twin = findTwin(vol, inode.fileAcl, sorted, hash);
  if (twin !== null) {
    leaveXattrBlock(handle, inode, references);
    joinXattrBlock(handle, inode, twin);
    return;
  }
  const old = inode.fileAcl === 0 ? null : vol.read(inode.fileAcl, xattrBlockKind(vol));
  const isOwn = old !== null && referencesOf(old) === 1;
  if (isOwn) dropValues(vol, old, references);
  else leaveXattrBlock(handle, inode, references);
  references.take(sorted);
  const block = isOwn
    ? handle.getWriteAccess(old)
    : handle.getCreateAccess(allocate(handle, inode), xattrBlockKind(vol));
  block.bytes.set(content);
  handle.dirtyMetadata(block);
  const blocks = xattrCaches(vol)?.blocks;
  if (hash === 0) blocks?.forget(block.nr);
  else blocks?.note(block.nr, hash, handle);
}

/** The content of a block that belongs to one inode, and its h_hash. */
function encodeBlock(vol: Volume, sorted: readonly Attribute[]): { content: Uint8Array; hash: number } {
  const content = new Uint8Array(vol.geometry.blockSize);
  const view = ownView(content);
  const hash = encodeAttributes(view, content, areaOf(vol), sorted, true);
  XATTR_HEADER.h_magic.set(view, 0, EXT4_XATTR_MAGIC);
  XATTR_HEADER.h_refcount.set(view, 0, 1);
  XATTR_HEADER.h_blocks.set(view, 0, 1);
  XATTR_HEADER.h_hash.set(view, 0, hash);
  return { content, hash };
}

/** The block of an inode that is its alone, and about to be freed, lists only these from now on. */
export function rewriteOwnBlock(handle: Handle, { vol, fileAcl }: WritableInode, sorted: readonly Attribute[]): void {
  xattrCaches(vol)?.blocks.forget(fileAcl);
  const block = handle.getWriteAccess(vol.read(fileAcl, xattrBlockKind(vol)));
  block.bytes.set(encodeBlock(vol, sorted).content);
  handle.dirtyMetadata(block);
}

/** Another block with the same attributes and room for one more inode (ext4_xattr_block_cache_find). */
function findTwin(vol: Volume, ownNr: number, sorted: readonly Attribute[], hash: number): CachedBlock | null {
  if (hash === 0) return null;
  const blocks = xattrCaches(vol)?.blocks;
  for (const nr of blocks?.with(hash) ?? []) {
    if (nr === ownNr) continue;
    const block = vol.read(nr, xattrBlockKind(vol));
    if (referencesOf(block) >= EXT4_XATTR_REFCOUNT_MAX) continue;
    if (sameAttributes(sorted, attributesOf(vol, block, `block ${nr}`))) return block;
  }
  return null;
}

function joinXattrBlock(handle: Handle, inode: WritableInode, block: CachedBlock): void {
  inode.vol.quotas?.roomFor(inode, 1);
  const writable = handle.getWriteAccess(block);
  XATTR_HEADER.h_refcount.set(writable.view, 0, referencesOf(block) + 1);
  handle.dirtyMetadata(writable);
  inode.setFileAcl(block.nr);
  inode.addBlocks(inode.vol.geometry.clusterRatio);
}

function allocate(handle: Handle, inode: WritableInode): number {
  const { vol, ino } = inode;
  vol.quotas?.roomFor(inode, 1);
  const goal = vol.geometry.groupFirstBlock(groupOfInode(vol, ino));
  const { start, count } = allocateBlocks(handle, vol, { goal, count: 1, ino, metadata: true });
  inode.setFileAcl(start);
  inode.addBlocks(count);
  return start;
}

function dropValues(vol: Volume, block: CachedBlock, references: ValueReferences | null): void {
  // What lists no values elsewhere need not be sound to be given up.
  if (references !== null && hasEaInodes(vol)) references.drop(attributesOf(vol, block, `block ${block.nr}`));
}

/**
 * The inode leaves its attribute block; the last one to leave frees it, and its values lose their references
 * (ext4_xattr_release_block): null if they have lost them already. Throws CorruptionError.
 */
export function leaveXattrBlock(handle: Handle, inode: WritableInode, references: ValueReferences | null): void {
  const { vol } = inode;
  const nr = inode.fileAcl;
  if (nr === 0) return;
  const block = vol.read(nr, xattrBlockKind(vol));
  if (referencesOf(block) > 1) {
    const writable = handle.getWriteAccess(block);
    XATTR_HEADER.h_refcount.set(writable.view, 0, referencesOf(block) - 1);
    handle.dirtyMetadata(writable);
  } else {
    dropValues(vol, block, references);
    xattrCaches(vol)?.blocks.forget(nr);
    freeBlocks(handle, vol, nr, 1, { metadata: true });
  }
  inode.setFileAcl(0);
  inode.addBlocks(-vol.geometry.clusterRatio);
}
