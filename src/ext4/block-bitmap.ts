/**
 * Block bitmaps, one block for each group, one bit for each cluster: read lazily, verified, or made up for groups that
 * never had one written.
 */
import { crc32c } from '../codec/crc.js';
import { ownView, type ReadView, type WriteView } from '../codec/view.js';
import { CorruptionError } from '../errors.js';
import type { BlockKind, CachedBlock } from '../jbd2/block-cache.js';
import type { Handle } from '../jbd2/handle.js';
import { countClear, fillBits, testBit } from './bitmap.js';
import { baseMetaBlocks } from './block-validity.js';
import { INCOMPAT } from './features.js';
import { EXT4_BG_BLOCK_UNINIT } from './format/group-desc.js';
import { GroupDescriptor } from './group.js';
import type { Volume } from './volume.js';

const kinds = new WeakMap<Volume, BlockKind>();

/** A block bitmap; its `owner` is the group. Its checksum lives in the descriptor, stamped there at commit. */
export function blockBitmapKind(vol: Volume): BlockKind {
  let kind = kinds.get(vol);
  if (kind === undefined) {
    kind = { name: 'block bitmap', inFastCommits: true, verify: (block) => verify(vol, block) };
    kinds.set(vol, kind);
  }
  return kind;
}

function verify(vol: Volume, block: CachedBlock): void {
  const { geometry } = vol;
  const group = block.owner;
  const desc = GroupDescriptor.get(vol, group);
  const place = `group ${group}`;
  if (geometry.metadataCsum) {
    const crc = crc32c(geometry.csumSeed, block.bytes.subarray(0, geometry.clustersPerGroup / 8));
    if ((crc & desc.bitmapCsumMask) >>> 0 !== desc.blockBitmapCsum) {
      throw new CorruptionError('block bitmap', place, 'its checksum does not match', 'EBADMSG');
    }
  }
  // ext4_valid_block_bitmap: what holds the group together is in use, if it lies in the group.
  const first = geometry.groupFirstBlock(group);
  const blocks = geometry.groupBlocks(group);
  for (const nr of [desc.blockBitmap, desc.inodeBitmap, desc.inodeTable]) {
    if (nr >= first && nr < first + blocks && !testBit(block.view, geometry.bitOf(nr))) {
      throw new CorruptionError(
        'block bitmap',
        place,
        `block ${nr} holds the group's own metadata, but is marked free`,
      );
    }
  }
  const clear = countClear(block.view, geometry.groupClusters(group));
  if (clear !== desc.freeClusters) {
    throw new CorruptionError(
      'block bitmap',
      place,
      `${clear} clusters are free, the descriptor says ${desc.freeClusters}`,
    );
  }
}

/** The group's bitmap as it is on disk; not for groups with BLOCK_UNINIT. Throws CorruptionError. */
export function readBlockBitmap(vol: Volume, desc: GroupDescriptor): CachedBlock {
  return vol.read(desc.blockBitmap, blockBitmapKind(vol), desc.group);
}

export function isBlockUninit(vol: Volume, desc: GroupDescriptor): boolean {
  const { metadataCsum, gdtCsum } = vol.geometry;
  return (metadataCsum || gdtCsum) && (desc.flags & EXT4_BG_BLOCK_UNINIT) !== 0;
}

/** The group's bitmap to look at: one that was never written is made up, and stays unwritten. Throws CorruptionError. */
export function peekBlockBitmap(vol: Volume, desc: GroupDescriptor): { view: ReadView } {
  if (!isBlockUninit(vol, desc)) return readBlockBitmap(vol, desc);
  const view = ownView(new Uint8Array(vol.geometry.blockSize));
  initBlockBitmap(vol, desc, view);
  return { view };
}

/** The group's bitmap, made now if the group never had one (ext4_read_block_bitmap_nowait). Throws CorruptionError. */
export function blockBitmapForUse(handle: Handle, vol: Volume, desc: GroupDescriptor): CachedBlock {
  if (!isBlockUninit(vol, desc)) return readBlockBitmap(vol, desc);
  const block = handle.getCreateAccess(desc.blockBitmap, blockBitmapKind(vol), desc.group);
  initBlockBitmap(vol, desc, block.view);
  const clear = countClear(block.view, vol.geometry.groupClusters(desc.group));
  if (clear !== desc.freeClusters) {
    throw new CorruptionError(
      'group descriptor',
      `group ${desc.group}`,
      `no block was ever used (BLOCK_UNINIT), but ${desc.freeClusters} of ${clear} are free`,
    );
  }
  handle.dirtyMetadata(block);
  desc.edit(handle).setFlags(desc.flags & ~EXT4_BG_BLOCK_UNINIT);
  return block;
}

/**
 * ext4_init_block_bitmap: only the group's own metadata can lie in it, since a group that holds that of others was
 * written by mke2fs.
 */
function initBlockBitmap(vol: Volume, desc: GroupDescriptor, view: WriteView): void {
  const { geometry } = vol;
  const { group } = desc;
  const first = geometry.groupFirstBlock(group);
  const blocks = geometry.groupBlocks(group);
  const mark = (start: number, count: number) => {
    const from = Math.max(start, first);
    const to = Math.min(start + count, first + blocks);
    if (to > from) fillBits(view, geometry.bitOf(from), geometry.bitOf(to - 1) - geometry.bitOf(from) + 1, true);
  };
  mark(first, baseMetaBlocks(vol, group));
  const inGroup = (nr: number) => nr >= first && nr < first + blocks;
  const flexBg = (geometry.incompat & INCOMPAT.flex_bg) !== 0;
  if (!flexBg || inGroup(desc.blockBitmap)) mark(desc.blockBitmap, 1);
  if (!flexBg || inGroup(desc.inodeBitmap)) mark(desc.inodeBitmap, 1);
  mark(desc.inodeTable, geometry.inodeTableBlocks);
  // What the block could hold beyond the group reads as in use (ext4_mark_bitmap_end).
  const clusters = geometry.groupClusters(group);
  fillBits(view, clusters, geometry.blockSize * 8 - clusters, true);
}
