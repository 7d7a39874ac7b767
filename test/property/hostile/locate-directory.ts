/** The structures in one block of a directory: entries of a leaf, or the counts and entries of an index. */
import type { WriteView } from '../../../src/codec/view.js';
import { inlineSpans, PARENT_BYTES } from '../../../src/ext4/dir-inline.js';
import { DIR_ENTRY } from '../../../src/ext4/format/dir-entry.js';
import {
  DX_COUNTLIMIT,
  DX_ENTRY,
  DX_NODE_ENTRIES,
  DX_ROOT_ENTRIES,
  DX_ROOT_INFO,
  DX_ROOT_INFO_OFFSET,
} from '../../../src/ext4/format/htree.js';
import { EXT4_INDEX_FL, I_BLOCK_OFFSET } from '../../../src/ext4/format/inode.js';
import type { Inode } from '../../../src/ext4/inode.js';
import type { Seals } from './seals.js';
import type { AddStructure } from './structures.js';

/** Where ".." stands in a root. */
const DOT_DOT = 12;

export function locateDirectoryBlock(inode: Inode, nr: number, view: WriteView, seals: Seals, add: AddStructure): void {
  const { ino } = inode;
  const { blockSize } = inode.vol.geometry;
  const at = nr * blockSize;
  const entriesAt = indexEntriesAt(inode, view, at);
  const seal = seals.directoryBlock(nr, ino, entriesAt);
  add('directory block', `block ${nr} of inode ${ino}`, at, blockSize, ino, seal);
  if (entriesAt === 0) {
    for (let entry = at; entry < at + blockSize; entry += DIR_ENTRY.rec_len.get(view, entry)) {
      const place = `entry at byte ${entry - at} in block ${nr} of directory ${ino}`;
      add('directory entry', place, entry, DIR_ENTRY.SIZE, ino, seal, DIR_ENTRY);
      const nameLength = DIR_ENTRY.name_len.get(view, entry);
      if (nameLength >= 4)
        add('directory entry', `name of the ${place}`, entry + DIR_ENTRY.SIZE, nameLength, ino, seal);
    }
    return;
  }
  const where = `block ${nr} of directory ${ino}`;
  if (entriesAt === DX_ROOT_ENTRIES) {
    add('directory index', `root of ${where}`, at + DX_ROOT_INFO_OFFSET, DX_ROOT_INFO.SIZE, ino, seal, DX_ROOT_INFO);
    add('directory entry', `".." in ${where}`, at + DOT_DOT, DIR_ENTRY.SIZE, ino, seal, DIR_ENTRY);
  }
  const first = at + entriesAt;
  add('directory index', `limit and count in ${where}`, first, DX_ENTRY.SIZE, ino, seal, DX_COUNTLIMIT);
  for (let i = 0; i < DX_COUNTLIMIT.count.get(view, first); i++) {
    add('directory index', `entry ${i} in ${where}`, first + i * DX_ENTRY.SIZE, DX_ENTRY.SIZE, ino, seal, DX_ENTRY);
  }
}

/** The parent and the entries of a directory that lies in its inode, which is at byte `at` of the image. */
export function locateInlineEntries(inode: Inode, at: number, view: WriteView, seals: Seals, add: AddStructure): void {
  const { ino } = inode;
  const seal = seals.inode(ino);
  add('directory entry', `parent in inode ${ino}`, at + I_BLOCK_OFFSET, PARENT_BYTES, ino, seal);
  for (const { from, end } of inlineSpans(inode)) {
    const toImage = at - inode.base;
    for (let entry = from + toImage; entry < end + toImage; entry += DIR_ENTRY.rec_len.get(view, entry))
      add(
        'directory entry',
        `entry at byte ${entry - at} of inode ${ino}`,
        entry,
        DIR_ENTRY.SIZE,
        ino,
        seal,
        DIR_ENTRY,
      );
  }
}

/** Where the entries of an index block begin; 0 in a leaf. */
function indexEntriesAt(inode: Inode, view: WriteView, at: number): number {
  const { blockSize } = inode.vol.geometry;
  if (!inode.hasFlag(EXT4_INDEX_FL)) return 0;
  if (view.getUint16(at + DOT_DOT + 4, true) === blockSize - DOT_DOT) return DX_ROOT_ENTRIES;
  const isNode = view.getUint16(at + 4, true) === blockSize && view.getUint32(at, true) === 0;
  return isNode ? DX_NODE_ENTRIES : 0;
}
