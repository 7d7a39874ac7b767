/**
 * Old inodes get the room that newer fields need (ext4_try_to_expand_extra_isize): an inode that is changed and whose
 * i_extra_isize is smaller than the superblock or the mount asks for grows, in a handle of its own after the operation.
 * Attributes that are in the way move to the inode's block. Where nothing helps it stays as it is, and is as good as before.
 */
import { CorruptionError, FsError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { ValueReferences } from './ea-inode.js';
import { EXT4_EA_INODE_FL, EXT4_ROOT_INO, GOOD_OLD_INODE_SIZE } from './format/inode.js';
import { XATTR_IBODY_HEADER_BYTES } from './format/xattr.js';
import { type Ino, Inode } from './inode.js';
import type { Volume } from './volume.js';
import { changeCredits, inodeAttributes, isInlineData, setInodeAttributes } from './xattr.js';
import { fitsBlock, readBlockAttributes, writeBlockAttributes } from './xattr-block.js';
import { type Attribute, encodedBytes } from './xattr-entries.js';

/** Inodes that could not grow, and are not tried again before so many others were met. */
const REMEMBERED = 4096;

const hopeless = new WeakMap<Volume, Set<Ino>>();

/** Call between operations. Throws nothing that an inode or a full disk can be the reason of. */
export function growInodes(vol: Volume): void {
  const { narrowInodes, journal } = vol;
  if (narrowInodes.size === 0) return;
  // With the next change of these inodes there is another chance.
  if (vol.readOnly || journal.aborted !== null || narrowInodes.size > REMEMBERED) narrowInodes.clear();
  if (journal.congested) return;
  for (const ino of [...narrowInodes]) {
    if (!hopelessOf(vol).has(ino) && !tryToGrow(vol, ino)) giveUp(vol, ino);
    narrowInodes.delete(ino);
  }
}

function hopelessOf(vol: Volume): Set<Ino> {
  let set = hopeless.get(vol);
  if (set === undefined) {
    set = new Set();
    hopeless.set(vol, set);
  }
  return set;
}

function giveUp(vol: Volume, ino: Ino): void {
  const set = hopelessOf(vol);
  if (set.size >= REMEMBERED) set.clear();
  set.add(ino);
}

/** False if the inode cannot become as large as it should. */
function tryToGrow(vol: Volume, ino: Ino): boolean {
  try {
    return vol.journal.run(changeCredits(vol, ino, 0), (handle) => grow(handle, Inode.load(vol, ino)));
  } catch (error) {
    if (error instanceof CorruptionError) vol.reportCorruption(error);
    else if (!(error instanceof FsError)) throw error;
    return false;
  }
}

/** To what is wanted, or, if there is no room for that, to the least that the superblock asks for. */
function grow(handle: Handle, inode: Inode): boolean {
  const { vol, ino } = inode;
  // Free, about to be, or nobody's file: the number may also be given to another inode.
  if (inode.mode === 0 || inode.linksCount === 0 || inode.hasFlag(EXT4_EA_INODE_FL)) return true;
  if (ino !== EXT4_ROOT_INO && vol.geometry.isOwnInode(ino)) return true;
  const { wantExtraIsize } = vol.policy;
  if (inode.extraIsize >= wantExtraIsize) return true;
  return growTo(handle, inode, wantExtraIsize) || growTo(handle, inode, vol.geometry.minExtraIsize);
}

function growTo(handle: Handle, inode: Inode, extraIsize: number): boolean {
  const { vol, base, extraIsize: before } = inode;
  if (before >= extraIsize) return false;
  const inInode = inodeAttributes(inode);
  const inBlock = readBlockAttributes(inode);
  const moving = attributesInTheWay(inode, extraIsize, inInode, inBlock);
  if (moving === null) return false;
  const kept = inInode.filter((attribute) => !moving.includes(attribute));
  const references = new ValueReferences();
  references.drop(inInode);
  references.take(kept);
  const writable = inode.edit(handle);
  writable.block.bytes.fill(0, base + GOOD_OLD_INODE_SIZE + before, inode.end);
  writable.set('i_extra_isize', extraIsize);
  setInodeAttributes(writable, kept);
  if (moving.length > 0) writeBlockAttributes(handle, writable, [...inBlock, ...moving], references);
  references.settle(handle, writable);
  return vol.policy.wantExtraIsize <= extraIsize;
}

/** What has to leave the inode for so much extra space; null if that is more than its block can take. */
function attributesInTheWay(
  inode: Inode,
  extraIsize: number,
  inInode: readonly Attribute[],
  inBlock: readonly Attribute[],
): Attribute[] | null {
  const room = inode.vol.geometry.inodeSize - GOOD_OLD_INODE_SIZE - extraIsize - XATTR_IBODY_HEADER_BYTES;
  const moving: Attribute[] = [];
  let kept = [...inInode];
  while (kept.length > 0 && encodedBytes(kept) > room) {
    const next = nextToMove(inode.vol, kept, [...inBlock, ...moving], encodedBytes(kept) - room);
    if (next === null) return null;
    moving.push(next);
    kept = kept.filter((attribute) => attribute !== next);
  }
  return moving;
}

/** ext4_xattr_make_inode_space: the smallest that is enough, otherwise the largest; of those that the block has room for. */
function nextToMove(vol: Volume, kept: readonly Attribute[], inBlock: Attribute[], needed: number): Attribute | null {
  const gain = (attribute: Attribute) => encodedBytes([attribute]) - encodedBytes([]);
  const movable = kept
    .filter((attribute) => !isInlineData(attribute) && fitsBlock(vol, [...inBlock, attribute]))
    .sort((a, b) => gain(a) - gain(b));
  return movable.find((attribute) => gain(attribute) >= needed) ?? movable.at(-1) ?? null;
}
