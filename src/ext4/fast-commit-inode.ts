/**
 * Inodes as fast commits hold them (ext4_fc_replay_inode): the record as it was, of which everything counts but where
 * the blocks are and how many. What came by other records stays: the map of a file, the links, the size and, if it lies in
 * the inode, the content of a directory.
 */
import { ownView, type ReadView } from '../codec/view.js';
import { CorruptionError, UnsupportedError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { initBlockMap, removeBlocks } from './block-map.js';
import { initExtentRoot } from './extent-insert.js';
import type { FastCommitBlocks } from './fast-commit-blocks.js';
import { INCOMPAT } from './features.js';
import { EXT_MAX_BLOCKS } from './format/extent.js';
import {
  EXT4_EA_INODE_FL,
  EXT4_EXTENTS_FL,
  EXT4_INDEX_FL,
  EXT4_INLINE_DATA_FL,
  GOOD_OLD_INODE_SIZE,
  I_BLOCK_BYTES,
  I_BLOCK_OFFSET,
  INODE,
  S_IFDIR,
  S_IFMT,
} from './format/inode.js';
import { EXT4_XATTR_MAGIC, XATTR_IBODY_HEADER_BYTES } from './format/xattr.js';
import { leaveInode } from './inline-data.js';
import { type Ino, Inode, type WritableInode } from './inode.js';
import { freeInode, isInodeTaken, takeInode } from './inode-alloc.js';
import { hasBlockMap } from './inode-blocks.js';
import { addOrphan, removeOrphan } from './orphan.js';
import { allowFileSize } from './superblock-io.js';
import type { Timestamp, Volume } from './volume.js';
import { isInlineData, releaseXattrs, setInlineData, setInodeAttributes } from './xattr.js';
import { type Attribute, decodeAttributes } from './xattr-entries.js';

/** Bitmaps, descriptors, table block, orphan record, attributes. */
const INODE_CREDITS = 36;

/** What a record says, before it is taken over. */
export interface RecordedInode {
  readonly mode: number;
  readonly generation: number;
  readonly links: number;
  readonly sizeBytes: number;
  readonly isInline: boolean;
  readonly ctime: Timestamp;
}

export function readRecorded(raw: Uint8Array): RecordedInode {
  const view = ownView(raw);
  const hasExtra = raw.length >= INODE.i_ctime_extra.offset + INODE.i_ctime_extra.size;
  const extra = hasExtra ? INODE.i_ctime_extra.get(view, 0) : 0;
  return {
    mode: INODE.i_mode.get(view, 0),
    generation: INODE.i_generation.get(view, 0),
    links: INODE.i_links_count.get(view, 0),
    sizeBytes: INODE.i_size_lo.get(view, 0) + INODE.i_size_high.get(view, 0) * 0x1_0000_0000,
    isInline: (INODE.i_flags.get(view, 0) & EXT4_INLINE_DATA_FL) !== 0,
    ctime: {
      seconds: (INODE.i_ctime.get(view, 0) | 0) + (extra & 3) * 0x1_0000_0000,
      nanoseconds: extra >>> 2,
    },
  };
}

/** True if the inode on disk is the one recorded, and not one that had its number before. */
export function isSameInode(vol: Volume, ino: Ino, recorded: RecordedInode): boolean {
  if (!isInodeTaken(vol, ino)) return false;
  const inode = Inode.load(vol, ino);
  return inode.type === (recorded.mode & S_IFMT) && inode.generation === recorded.generation;
}

/** Takes the record over. Throws CorruptionError for what no kernel writes. */
export function replayInode(vol: Volume, blocks: FastCommitBlocks, ino: Ino, raw: Uint8Array): void {
  const recorded = readRecorded(raw);
  const view = ownView(raw);
  check(vol, ino, raw, view);
  const isOld = isSameInode(vol, ino, recorded);
  if (!isOld) discardInode(vol, blocks, ino);
  else if (recorded.isInline) leaveBlocks(vol, blocks, ino);
  vol.journal.run(INODE_CREDITS, (handle) => {
    if (!isOld && !isInodeTaken(vol, ino)) takeInode(handle, vol, ino, (recorded.mode & S_IFMT) === S_IFDIR);
    const inode = Inode.load(vol, ino).edit(handle);
    const wasDeleted = isOld && inode.linksCount === 0;
    if (isOld) update(handle, inode, raw, view);
    else fill(handle, inode, raw, view);
    if (inode.isRegular) {
      allowFileSize(handle, vol, inode.sizeBytes);
      blocks.noteChanged(ino);
    }
    if (inode.linksCount === 0) addOrphan(handle, inode);
    else if (wasDeleted) removeOrphan(handle, inode);
  });
}

function corrupt(ino: Ino, finding: string): CorruptionError {
  return new CorruptionError('fast commit', `inode ${ino}`, finding);
}

function check(vol: Volume, ino: Ino, raw: Uint8Array, view: ReadView): void {
  const { inodeSize } = vol.geometry;
  const mode = INODE.i_mode.get(view, 0);
  if (mode === 0) throw corrupt(ino, 'its mode is 0');
  const flags = INODE.i_flags.get(view, 0);
  if ((flags & EXT4_EA_INODE_FL) !== 0) throw corrupt(ino, 'it holds the value of an attribute');
  if ((flags & EXT4_INLINE_DATA_FL) !== 0 && ((flags & EXT4_EXTENTS_FL) !== 0 || !hasInlineFeature(vol)))
    throw corrupt(ino, 'it has inline data, and cannot have any');
  if (raw.length <= GOOD_OLD_INODE_SIZE) return;
  const extra = raw.length < GOOD_OLD_INODE_SIZE + 2 ? 0 : INODE.i_extra_isize.get(view, 0);
  if (extra % 4 !== 0 || extra + GOOD_OLD_INODE_SIZE > inodeSize || extra + GOOD_OLD_INODE_SIZE > raw.length)
    throw corrupt(ino, `i_extra_isize is ${extra}`);
}

/** Bytes of the record that are fixed fields. */
function fixedBytes(raw: Uint8Array, view: ReadView): number {
  return raw.length <= GOOD_OLD_INODE_SIZE ? raw.length : GOOD_OLD_INODE_SIZE + INODE.i_extra_isize.get(view, 0);
}

function hasInlineFeature({ geometry }: Volume): boolean {
  return (geometry.incompat & INCOMPAT.inline_data) !== 0;
}

/** Blocks of a file whose content is in the inode from here on. */
function leaveBlocks(vol: Volume, blocks: FastCommitBlocks, ino: Ino): void {
  const inode = Inode.load(vol, ino);
  if (!inode.isDirectory && hasBlockMap(inode))
    vol.journal.run(INODE_CREDITS, (handle) => releaseAll(handle, blocks, inode));
}

/** An inode that is new, or has got a new owner: nothing of what was there counts. */
function fill(handle: Handle, inode: WritableInode, raw: Uint8Array, view: ReadView): void {
  if (INODE.i_file_acl_lo.get(view, 0) !== 0 || INODE.i_file_acl_high.get(view, 0) !== 0)
    throw corrupt(inode.ino, 'it is new and has an attribute block');
  const { bytes } = inode.block;
  bytes.fill(0, inode.base, inode.end);
  bytes.set(raw.subarray(0, fixedBytes(raw, view)), inode.base);
  inode.setDtime(0);
  inode.setSectors(0);
  const { isDirectory, isRegular, hasInlineData } = inode;
  if (hasInlineData) {
    const { attributes, content } = recordedContent(inode, raw, view);
    setInodeAttributes(inode, attributes);
    if (!isDirectory) setInlineData(inode, content);
  }
  if (isDirectory) {
    // Its names follow one by one.
    inode.setFlags(inode.flags & ~(EXT4_INDEX_FL | EXT4_INLINE_DATA_FL));
    inode.setSizeBytes(0);
    if (hasInlineData) initBlockMap(inode);
  }
  if (inode.usesExtents) initExtentRoot(inode);
  else if (!inode.hasInlineData && (isRegular || isDirectory))
    bytes.fill(0, inode.iBlockBase, inode.iBlockBase + I_BLOCK_BYTES);
  inode.vol.quotas?.addInode(handle, inode);
}

/** The inode that is there, changed. */
function update(handle: Handle, inode: WritableInode, raw: Uint8Array, view: ReadView): void {
  const { ino, base, block, isDirectory } = inode;
  const isInline = !isDirectory && (INODE.i_flags.get(view, 0) & EXT4_INLINE_DATA_FL) !== 0;
  const content = isInline ? recordedContent(inode, raw, view).content : null;
  if (isInline) inode.setFlags(inode.flags & ~EXT4_EXTENTS_FL);
  else if (!isDirectory && inode.hasInlineData) leaveInode(inode);
  if (!isDirectory && ((INODE.i_flags.get(view, 0) ^ inode.flags) & EXT4_EXTENTS_FL) !== 0)
    throw corrupt(ino, 'it maps its blocks in another way');
  const acl = INODE.i_file_acl_lo.get(view, 0) + INODE.i_file_acl_high.get(view, 0) * 0x1_0000_0000;
  if (acl !== inode.fileAcl) throw corrupt(ino, `its attribute block is ${acl}, and was ${inode.fileAcl}`);
  transfer(handle, inode, raw, view);
  const kept = {
    links: inode.linksCount,
    size: inode.sizeBytes,
    flags: inode.flags,
    dtime: inode.dtime,
    sectors: inode.sectors,
    extra: inode.extraIsize,
  };
  const hasAttributes =
    inode.extraEnd + 4 <= inode.end && block.view.getUint32(inode.extraEnd, true) === EXT4_XATTR_MAGIC;
  const fixed = fixedBytes(raw, view);
  block.bytes.set(raw.subarray(0, I_BLOCK_OFFSET), base);
  const after = I_BLOCK_OFFSET + I_BLOCK_BYTES;
  block.bytes.set(raw.subarray(after, fixed), base + after);
  if (inode.extraIsize !== kept.extra && hasAttributes) throw corrupt(ino, 'its fixed part grows over its attributes');
  // i_dtime chains orphans: the list is the one on disk, not the one in memory then.
  inode.setDtime(kept.dtime);
  inode.setSectors(kept.sectors);
  if (content !== null) {
    block.bytes.set(raw.subarray(I_BLOCK_OFFSET, after), inode.iBlockBase);
    setInlineData(inode, content);
  }
  if (!isDirectory) return;
  inode.setLinksCount(kept.links);
  inode.setSizeBytes(kept.size);
  const shape = EXT4_INDEX_FL | EXT4_EXTENTS_FL | EXT4_INLINE_DATA_FL;
  inode.setFlags((inode.flags & ~shape) | (kept.flags & shape));
}

/** Whom the record names as owner is who it counts for. */
function transfer(handle: Handle, inode: WritableInode, raw: Uint8Array, view: ReadView): void {
  const { i_projid } = INODE;
  const projectEnd = i_projid.offset + i_projid.size;
  inode.vol.quotas?.transfer(handle, inode, {
    user: INODE.i_uid.get(view, 0) + INODE.i_uid_high.get(view, 0) * 0x10000,
    group: INODE.i_gid.get(view, 0) + INODE.i_gid_high.get(view, 0) * 0x10000,
    project: fixedBytes(raw, view) >= projectEnd ? i_projid.get(view, 0) : undefined,
  });
}

/**
 * What a record with inline data has behind its fixed part: the second part of the content, of a file as long as its size
 * says, and the other attributes. Kernels before 5.17 did not record it: throws UnsupportedError for more than i_block
 * holds, CorruptionError.
 */
function recordedContent(
  inode: Inode,
  raw: Uint8Array,
  view: ReadView,
): { readonly content: Uint8Array; readonly attributes: readonly Attribute[] } {
  const { ino, vol } = inode;
  const { sizeBytes } = readRecorded(raw);
  const length = Math.max(0, sizeBytes - I_BLOCK_BYTES);
  const headerAt = fixedBytes(raw, view);
  const from = headerAt + XATTR_IBODY_HEADER_BYTES;
  const hasAttributes = from + 4 <= raw.length && view.getUint32(headerAt, true) === EXT4_XATTR_MAGIC;
  const area = { from, end: raw.length, valueBase: from };
  const all = hasAttributes ? decodeAttributes(view, raw, area, vol.geometry, `inode ${ino}`) : [];
  const content = all.find(isInlineData)?.value ?? new Uint8Array(0);
  if (!inode.isDirectory && content.length < length) {
    if (raw.length < vol.geometry.inodeSize)
      throw new UnsupportedError('the fast commits hold only part of inline data: run e2fsck', ['inline_data']);
    throw corrupt(ino, `its size is ${sizeBytes}, its inline data has ${content.length} + ${I_BLOCK_BYTES} bytes`);
  }
  const attributes = all.filter((attribute) => !isInlineData(attribute));
  if (attributes.some(({ external }) => external !== null))
    throw corrupt(ino, 'it is new and has an attribute in another inode');
  return { content: content.slice(0, length), attributes };
}

/** The number goes to another inode, or nobody needs it: blocks, attributes and the inode become free. Does nothing for a free one. */
export function discardInode(vol: Volume, blocks: FastCommitBlocks, ino: Ino): void {
  if (!isInodeTaken(vol, ino)) return;
  const inode = Inode.load(vol, ino);
  if (inode.mode === 0) return;
  vol.journal.run(INODE_CREDITS, (handle) => {
    if (hasBlockMap(inode)) releaseAll(handle, blocks, inode);
    // Values of its own that nobody else has are orphans from here on.
    releaseXattrs(handle, vol, ino);
    handle.ensureCredits(INODE_CREDITS);
    const last = Inode.load(vol, ino).edit(handle);
    removeOrphan(handle, last);
    freeInode(handle, vol, last);
  });
  blocks.forget(ino);
}

function releaseAll(handle: Handle, blocks: FastCommitBlocks, inode: Inode): void {
  if (inode.isRegular) blocks.unmap(handle, inode, 0, EXT_MAX_BLOCKS);
  else removeBlocks(handle, inode, 0, EXT_MAX_BLOCKS);
}
