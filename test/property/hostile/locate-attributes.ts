/** The extended attributes of an inode: headers, entries, values, in the inode and in its block. */
import type { WriteView } from '../../../src/codec/view.js';
import { GOOD_OLD_INODE_SIZE } from '../../../src/ext4/format/inode.js';
import {
  EXT4_XATTR_MAGIC,
  XATTR_ENTRY,
  XATTR_HEADER,
  XATTR_IBODY_HEADER_BYTES,
} from '../../../src/ext4/format/xattr.js';
import type { Inode } from '../../../src/ext4/inode.js';
import type { Seals } from './seals.js';
import type { AddStructure, Seal } from './structures.js';

/** Returns the block that holds attributes, if there is one. */
export function locateAttributes(inode: Inode, view: WriteView, seals: Seals, add: AddStructure): number[] {
  const { ino } = inode;
  const { blockSize, inodeSize } = inode.vol.geometry;
  const at = seals.inodeAt(ino);
  const area = at + GOOD_OLD_INODE_SIZE + inode.extraIsize;
  const end = at + inodeSize;
  if (area + XATTR_IBODY_HEADER_BYTES <= end && view.getUint32(area, true) === EXT4_XATTR_MAGIC) {
    const seal = seals.inode(ino);
    const first = area + XATTR_IBODY_HEADER_BYTES;
    add('attribute in inode', `header in inode ${ino}`, area, XATTR_IBODY_HEADER_BYTES, ino, seal);
    entries('attribute in inode', view, first, end, first, ino, seal, add);
  }
  const nr = inode.fileAcl;
  if (nr === 0) return [];
  const start = nr * blockSize;
  const seal = seals.attributeBlock(nr);
  add('attribute block', `header in block ${nr}`, start, XATTR_HEADER.SIZE, ino, seal, XATTR_HEADER);
  add('attribute block', `block ${nr} of inode ${ino}`, start, blockSize, ino, seal);
  entries('attribute block', view, start + XATTR_HEADER.SIZE, start + blockSize, start, ino, seal, add);
  return [nr];
}

function entries(
  kind: 'attribute in inode' | 'attribute block',
  view: WriteView,
  from: number,
  end: number,
  valueBase: number,
  ino: number,
  seal: Seal,
  add: AddStructure,
): void {
  for (let at = from; at + 4 <= end && view.getUint32(at, true) !== 0; ) {
    add(kind, `attribute of inode ${ino}`, at, XATTR_ENTRY.SIZE, ino, seal, XATTR_ENTRY);
    const size = XATTR_ENTRY.e_value_size.get(view, at);
    const valueAt = valueBase + XATTR_ENTRY.e_value_offs.get(view, at);
    if (size >= 4) add('attribute value', `value in inode ${ino}`, valueAt, size, ino, seal);
    at += (XATTR_ENTRY.SIZE + XATTR_ENTRY.e_name_len.get(view, at) + 3) & ~3;
  }
}
