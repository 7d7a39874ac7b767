/** One block of directory entries: its kinds and checksums, and search, insertion and deletion inside it. */
import { crc32c } from '../codec/crc.js';
import type { ReadView } from '../codec/view.js';
import { CorruptionError } from '../errors.js';
import type { BlockKind, CachedBlock, WritableBlock } from '../jbd2/block-cache.js';
import { casefold } from './casefold.js';
import { INCOMPAT } from './features.js';
import { DIR_ENTRY, DIR_ENTRY_TAIL, EXT4_FT_DIR_CSUM, entryBytes } from './format/dir-entry.js';
import { DX_COUNTLIMIT, DX_ENTRY, DX_NODE_ENTRIES, DX_ROOT_ENTRIES, DX_TAIL } from './format/htree.js';
import type { Ino } from './inode.js';
import type { Volume } from './volume.js';

/** rec_len as bytes: 0 and 65535 stand for a whole 64k block (ext4_rec_len_from_disk). */
export function recLen(view: ReadView, at: number, blockSize: number): number {
  const value = DIR_ENTRY.rec_len.get(view, at);
  if (blockSize < 65536) return value;
  return value === 0 || value === 0xffff ? blockSize : (value & 0xfffc) | ((value & 3) << 16);
}

export function setRecLen(block: WritableBlock, at: number, length: number, blockSize: number): void {
  const value = blockSize < 65536 ? length : length === 65536 ? 0xffff : (length & 0xfffc) | ((length >>> 16) & 3);
  DIR_ENTRY.rec_len.set(block.view, at, value);
}

/** Bytes of a leaf that entries may use. */
export function entrySpace(vol: Volume): number {
  return vol.geometry.blockSize - (vol.geometry.metadataCsum ? DIR_ENTRY_TAIL.SIZE : 0);
}

/** Where the index entries of this block begin, or 0 if it is not an index block. */
function indexEntriesAt(view: ReadView, blockSize: number): number {
  if (recLen(view, 0, blockSize) === blockSize && DIR_ENTRY.inode.get(view, 0) === 0) return DX_NODE_ENTRIES;
  if (recLen(view, 0, blockSize) !== 12 || recLen(view, 12, blockSize) !== blockSize - 12) return 0;
  return view.getUint32(24, true) === 0 && view.getUint8(29) === 8 ? DX_ROOT_ENTRIES : 0;
}

/** ext4_dx_csum: the block up to the last used entry, then the tail with its checksum as zero. */
function indexChecksum(block: CachedBlock, entriesAt: number): { stored: number; at: number; sum: number } | null {
  const limit = DX_COUNTLIMIT.limit.get(block.view, entriesAt);
  const count = DX_COUNTLIMIT.count.get(block.view, entriesAt);
  const tail = entriesAt + limit * DX_ENTRY.SIZE;
  if (count > limit || tail + DX_TAIL.SIZE > block.bytes.length) return null;
  let sum = crc32c(block.owner, block.bytes.subarray(0, entriesAt + count * DX_ENTRY.SIZE));
  sum = crc32c(sum, block.bytes.subarray(tail, tail + DX_TAIL.dt_checksum.offset));
  sum = crc32c(sum, new Uint8Array(4));
  return { stored: DX_TAIL.dt_checksum.get(block.view, tail), at: tail, sum };
}

const kinds = new WeakMap<Volume, BlockKind>();

/**
 * Directory blocks, leaves and index blocks alike: the first block of a directory turns from one into the other while it
 * is in memory. Which it is decides which checksum it has.
 */
export function directoryKind(vol: Volume): BlockKind {
  let kind = kinds.get(vol);
  if (kind !== undefined) return kind;
  const { blockSize, metadataCsum } = vol.geometry;
  const bad = (block: CachedBlock, finding: string, code: 'EUCLEAN' | 'EBADMSG' = 'EUCLEAN') =>
    new CorruptionError('directory block', `block ${block.nr}`, finding, code);
  const checkSum = (block: CachedBlock) => {
    if (!metadataCsum) return;
    const entriesAt = indexEntriesAt(block.view, blockSize);
    if (entriesAt !== 0) {
      const found = indexChecksum(block, entriesAt);
      if (found === null) throw bad(block, 'its index count exceeds the block');
      if (found.stored !== found.sum) throw bad(block, 'its checksum does not match', 'EBADMSG');
      return;
    }
    const tail = blockSize - DIR_ENTRY_TAIL.SIZE;
    if (DIR_ENTRY_TAIL.det_reserved_ft.get(block.view, tail) !== EXT4_FT_DIR_CSUM) {
      throw bad(block, 'it has no room for its checksum: e2fsck -D rebuilds the directory');
    }
    const sum = crc32c(block.owner, block.bytes.subarray(0, tail));
    if (DIR_ENTRY_TAIL.det_checksum.get(block.view, tail) !== sum)
      throw bad(block, 'its checksum does not match', 'EBADMSG');
  };
  kind = {
    name: 'directory block',
    inFastCommits: true,
    verify(block) {
      checkSum(block);
      checkEntries(vol, block);
    },
    beforeCommit(block) {
      if (!metadataCsum) return;
      const entriesAt = indexEntriesAt(block.view, blockSize);
      if (entriesAt !== 0) {
        const found = indexChecksum(block, entriesAt);
        if (found !== null) DX_TAIL.dt_checksum.set(block.view, found.at, found.sum);
        return;
      }
      const tail = blockSize - DIR_ENTRY_TAIL.SIZE;
      DIR_ENTRY_TAIL.det_checksum.set(block.view, tail, crc32c(block.owner, block.bytes.subarray(0, tail)));
    },
  };
  kinds.set(vol, kind);
  return kind;
}

/** An empty leaf: one unused entry over all of it, and the checksum's place. */
export function formatLeaf(vol: Volume, block: WritableBlock): void {
  const { blockSize } = vol.geometry;
  block.bytes.fill(0);
  setRecLen(block, 0, entrySpace(vol), blockSize);
  formatTail(vol, block);
}

export function formatTail(vol: Volume, block: WritableBlock): void {
  if (!vol.geometry.metadataCsum) return;
  const tail = vol.geometry.blockSize - DIR_ENTRY_TAIL.SIZE;
  block.bytes.fill(0, tail, vol.geometry.blockSize);
  DIR_ENTRY_TAIL.det_rec_len.set(block.view, tail, DIR_ENTRY_TAIL.SIZE);
  DIR_ENTRY_TAIL.det_reserved_ft.set(block.view, tail, EXT4_FT_DIR_CSUM);
}

/**
 * Checks the chain of entries (ext4_check_dir_entry), once, when the block is read: whoever walks it afterwards may rely
 * on it. An index block is one entry, or two, over all of the block; entries of a leaf end where its checksum begins.
 */
function checkEntries(vol: Volume, block: CachedBlock): void {
  const { blockSize } = vol.geometry;
  const end = indexEntriesAt(block.view, blockSize) !== 0 ? blockSize : entrySpace(vol);
  checkChain(vol, block, 0, end);
}

/** The same for the chain that begins at `from` and must end at `end`. */
export function checkChain(vol: Volume, block: CachedBlock, from: number, end: number): void {
  const { blockSize, inodesCount } = vol.geometry;
  for (let at = from; at < end; ) {
    if (at + DIR_ENTRY.SIZE > end)
      throw new CorruptionError('directory entry', `block ${block.nr} byte ${at}`, 'it runs over the end');
    const length = recLen(block.view, at, blockSize);
    const nameLength = DIR_ENTRY.name_len.get(block.view, at);
    const ino = DIR_ENTRY.inode.get(block.view, at);
    let finding = '';
    if (length < 8 || length % 4 !== 0) finding = `rec_len ${length}`;
    else if (at + length > end) finding = `rec_len ${length} runs over the end of the block`;
    else if (at + length < end && at + length + entryBytes(1) > end)
      finding = `rec_len ${length} leaves too little behind`;
    else if (length < entryBytes(nameLength)) finding = `a name of ${nameLength} bytes in an entry of ${length}`;
    else if (ino > inodesCount) finding = `inode ${ino}`;
    if (finding !== '') throw new CorruptionError('directory entry', `block ${block.nr} byte ${at}`, finding);
    at += length;
  }
}

/** Byte offset of the entry with this name, or -1. With `folded` case does not matter. */
export function findInBlock(
  vol: Volume,
  block: CachedBlock,
  name: Uint8Array,
  folded: Uint8Array | null = null,
  from = 0,
  end = entrySpace(vol),
): number {
  if (folded !== null) return findFolded(vol, block, folded, from, end);
  const { blockSize } = vol.geometry;
  const { bytes, view } = block;
  const length = name.length;
  const first = name[0];
  for (let at = from; at < end; at += recLen(view, at, blockSize)) {
    if (bytes[at + 6] !== length || bytes[at + 8] !== first || DIR_ENTRY.inode.get(view, at) === 0) continue;
    let i = 1;
    while (i < length && bytes[at + 8 + i] === name[i]) i++;
    if (i >= length) return at;
  }
  return -1;
}

/** An entry that is not valid UTF-8 is nobody's other spelling. */
function findFolded(vol: Volume, block: CachedBlock, folded: Uint8Array, from: number, end: number): number {
  for (let at = from; at < end; at += recLen(block.view, at, vol.geometry.blockSize)) {
    if (DIR_ENTRY.inode.get(block.view, at) === 0) continue;
    const length = DIR_ENTRY.name_len.get(block.view, at);
    const entry = casefold(block.bytes.subarray(at + DIR_ENTRY.SIZE, at + DIR_ENTRY.SIZE + length) as Uint8Array);
    if (entry?.length === folded.length && entry.every((byte, i) => byte === folded[i])) return at;
  }
  return -1;
}

/** Offset of an entry with room for a name of this length, or -1 (ext4_find_dest_de). */
export function findRoom(vol: Volume, block: CachedBlock, nameLength: number, from = 0, end = entrySpace(vol)): number {
  const wanted = entryBytes(nameLength);
  for (let at = from; at < end; ) {
    const length = recLen(block.view, at, vol.geometry.blockSize);
    const used = DIR_ENTRY.inode.get(block.view, at) === 0 ? 0 : entryBytes(DIR_ENTRY.name_len.get(block.view, at));
    if (length - used >= wanted) return at;
    at += length;
  }
  return -1;
}

/** Puts an entry into the room found at `at` (ext4_insert_dentry). */
export function insertAt(
  vol: Volume,
  block: WritableBlock,
  at: number,
  entry: { name: Uint8Array; ino: Ino; fileType: number },
): void {
  const { blockSize } = vol.geometry;
  let place = at;
  let length = recLen(block.view, at, blockSize);
  if (DIR_ENTRY.inode.get(block.view, at) !== 0) {
    const used = entryBytes(DIR_ENTRY.name_len.get(block.view, at));
    setRecLen(block, at, used, blockSize);
    place += used;
    length -= used;
  }
  DIR_ENTRY.inode.set(block.view, place, entry.ino);
  setRecLen(block, place, length, blockSize);
  DIR_ENTRY.name_len.set(block.view, place, entry.name.length);
  const typed = (vol.geometry.incompat & INCOMPAT.filetype) !== 0;
  DIR_ENTRY.file_type.set(block.view, place, typed ? entry.fileType : 0);
  block.bytes.set(entry.name, place + DIR_ENTRY.SIZE);
}

/** Removes the entry at `at`: its space goes to the entry before it (ext4_generic_delete_entry). */
export function deleteAt(vol: Volume, block: WritableBlock, at: number, from = 0): void {
  const { blockSize } = vol.geometry;
  let previous = -1;
  for (let here = from; here < at; here += recLen(block.view, here, blockSize)) previous = here;
  const length = recLen(block.view, at, blockSize);
  if (previous >= 0) {
    setRecLen(block, previous, recLen(block.view, previous, blockSize) + length, blockSize);
    block.bytes.fill(0, at, at + length);
  } else {
    DIR_ENTRY.inode.set(block.view, at, 0);
    block.bytes.fill(0, at + DIR_ENTRY.SIZE - 2, at + length);
  }
}
