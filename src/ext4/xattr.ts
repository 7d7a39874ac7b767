/**
 * Extended attributes of an inode (fs/ext4/xattr.c): in the space behind its fixed fields first, in a block of their own
 * when that is full; values too large for either in inodes of their own (ea_inode).
 */
import { CorruptionError, FsError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { fromDiskAcl, toDiskAcl } from './acl.js';
import {
  chargedBlocks,
  hasEaInodes,
  readExternalValue,
  storeCredits,
  storeValue,
  ValueReferences,
} from './ea-inode.js';
import { evictAll } from './evict.js';
import { EXT4_APPEND_FL, EXT4_IMMUTABLE_FL } from './format/inode.js';
import { EXT4_XATTR_MAGIC, XATTR_IBODY_HEADER_BYTES, XATTR_PREFIXES, XATTR_SIZE_MAX } from './format/xattr.js';
import { type Ino, Inode, type WritableInode } from './inode.js';
import { allowXattrs } from './superblock-io.js';
import type { Volume } from './volume.js';
import {
  fitsBlock,
  leavesReserve,
  leaveXattrBlock,
  readBlockAttributes,
  rewriteOwnBlock,
  writeBlockAttributes,
  xattrBlockReferences,
} from './xattr-block.js';
import {
  type Area,
  type Attribute,
  decodeAttributes,
  encodeAttributes,
  encodedBytes,
  paddedBytes,
} from './xattr-entries.js';

export { readBlockAttributes as blockAttributes, xattrBlockReferences } from './xattr-block.js';

export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;
const XATTR_NAME_MAX = 255;
/** Inode, attribute block, its bitmap and descriptor, and the same for a block left behind. */
const XATTR_CREDITS = 12;
/** A block's header and end mark, and an entry with a name of three bytes. */
const LARGE_VALUE_OVERHEAD = 56;

const ACL_ACCESS = 2;
const ACL_DEFAULT = 3;
const encoder = new TextEncoder();
const NOTHING = new Uint8Array(0);
/** The part of inline data behind i_block: never shown, never moved out of the inode. */
const INLINE_DATA = { index: 7, name: encoder.encode('data') };
const PREFIXES = XATTR_PREFIXES.map((entry) => ({ ...entry, bytes: encoder.encode(entry.prefix) }));

interface SplitName {
  readonly index: number;
  readonly name: Uint8Array;
}

export function startsWith(name: Uint8Array, prefix: Uint8Array): boolean {
  if (name.length < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) if (name[i] !== prefix[i]) return false;
  return true;
}

function splitName(full: Uint8Array): SplitName {
  for (const { index, bytes, whole } of PREFIXES) {
    if (!startsWith(full, bytes)) continue;
    if (whole && full.length === bytes.length) return { index, name: new Uint8Array(0) };
    if (!whole && full.length > bytes.length) return { index, name: full.subarray(bytes.length) };
    if (!whole) throw new FsError('EINVAL', 'the name of an attribute is missing');
  }
  throw new FsError('EOPNOTSUPP', 'no such kind of attribute');
}

function sameName(attribute: SplitName, { index, name }: SplitName): boolean {
  return attribute.index === index && sameBytes(attribute.name, name);
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/** The second part of inline data, which stays in the inode. */
export function isInlineData(attribute: Attribute): boolean {
  return sameName(attribute, INLINE_DATA);
}

/** Where attributes are in the inode itself, or null where it has no room for any. */
function inodeArea(inode: Inode): Area | null {
  const from = inode.extraEnd + XATTR_IBODY_HEADER_BYTES;
  if (inode.extraIsize === 0 || inode.end - from < 8) return null;
  return { from, end: inode.end, valueBase: from };
}

/** The attributes in the inode itself. Throws CorruptionError. */
export function inodeAttributes(inode: Inode): Attribute[] {
  const area = inodeArea(inode);
  const { view, bytes } = inode.block;
  if (area === null || view.getUint32(inode.extraEnd, true) !== EXT4_XATTR_MAGIC) return [];
  return decodeAttributes(view, bytes, area, inode.vol.geometry, `inode ${inode.ino}`);
}

function writeInodeAttributes(_handle: Handle, inode: WritableInode, attributes: readonly Attribute[]): void {
  setInodeAttributes(inode, attributes);
}

/** Makes these, which fit, the attributes in the inode. */
export function setInodeAttributes(inode: WritableInode, attributes: readonly Attribute[]): void {
  const area = inodeArea(inode);
  if (area === null) return;
  // Values that overlapped when they were read take more when each has its own place.
  if (!fitsInode(inode, attributes))
    throw new CorruptionError('extended attributes', `inode ${inode.ino}`, 'they do not fit side by side');
  const { view, bytes } = inode.block;
  bytes.fill(0, inode.extraEnd, inode.end);
  if (attributes.length === 0) return;
  view.setUint32(inode.extraEnd, EXT4_XATTR_MAGIC, true);
  encodeAttributes(view, bytes, area, attributes, false);
}

function fitsInode(inode: Inode, attributes: readonly Attribute[]): boolean {
  const area = inodeArea(inode);
  return area !== null && encodedBytes(attributes) <= area.end - area.from;
}

/** Where the second part of inline data is, in the inode's block. Throws CorruptionError where there must be one. */
export function inlineDataPlace(inode: Inode): { readonly at: number; readonly size: number } {
  const found = inodeAttributes(inode).find((attribute) => sameName(attribute, INLINE_DATA));
  if (found === undefined || found.external !== null)
    throw new CorruptionError('inline data', `inode ${inode.ino}`, 'its attribute system.data is missing');
  return { at: found.valueAt ?? 0, size: found.value.length };
}

/** The largest system.data that fits beside the other attributes in the inode; below 0: there is no room for any. */
export function inlineDataRoom(inode: Inode): number {
  const area = inodeArea(inode);
  if (area === null) return -1;
  const others = inodeAttributes(inode).filter((attribute) => !sameName(attribute, INLINE_DATA));
  const room = area.end - area.from - encodedBytes([...others, { ...INLINE_DATA, value: NOTHING, external: null }]);
  return room < 0 ? -1 : room & ~3;
}

/** Sets the second part of inline data, which fits; null: there is none any more. */
export function setInlineData(inode: WritableInode, value: Uint8Array | null): void {
  const attributes = inodeAttributes(inode).filter((attribute) => !sameName(attribute, INLINE_DATA));
  if (value !== null) attributes.push({ ...INLINE_DATA, value, external: null });
  setInodeAttributes(inode, attributes);
}

function checkName(name: Uint8Array): SplitName {
  if (name.length === 0 || name.length > XATTR_NAME_MAX) throw new FsError('ERANGE', 'the name is empty or too long');
  return splitName(name);
}

/**
 * The value of an attribute by its full name, or null: most questions are for attributes that are not there. Throws
 * FsError EOPNOTSUPP, ERANGE.
 */
export function getXattr(vol: Volume, ino: Ino, name: Uint8Array): Uint8Array | null {
  const wanted = checkName(name);
  const inode = Inode.get(vol, ino);
  const found =
    inodeAttributes(inode).find((attribute) => sameName(attribute, wanted)) ??
    readBlockAttributes(inode).find((attribute) => sameName(attribute, wanted));
  if (found === undefined) return null;
  const value = found.external === null ? found.value : readExternalValue(inode, found);
  return found.index === ACL_ACCESS || found.index === ACL_DEFAULT ? fromDiskAcl(value, ino) : value;
}

/** Full names, each with a NUL behind it. */
export function listXattrs(inode: Inode): Uint8Array {
  const parts: number[] = [];
  for (const { index, name } of [...inodeAttributes(inode), ...readBlockAttributes(inode)]) {
    const prefix = PREFIXES.find((entry) => entry.index === index);
    if (prefix !== undefined) parts.push(...prefix.bytes, ...name, 0);
  }
  return Uint8Array.from(parts);
}

/** Throws FsError: EEXIST, ENODATA, ENOSPC, EDQUOT, E2BIG, EPERM, EOPNOTSUPP; CorruptionError. */
export function setXattr(vol: Volume, ino: Ino, name: Uint8Array, value: Uint8Array, flags: number): void {
  const wanted = checkName(name);
  if (value.length > XATTR_SIZE_MAX) throw new FsError('E2BIG');
  const isAcl = wanted.index === ACL_ACCESS || wanted.index === ACL_DEFAULT;
  const attribute: Attribute = {
    index: wanted.index,
    name: wanted.name.slice(),
    value: isAcl ? toDiskAcl(value) : value.slice(),
    external: null,
  };
  change(vol, ino, wanted, value.length, (exists) => {
    if (exists && (flags & XATTR_CREATE) !== 0) throw new FsError('EEXIST');
    if (!exists && (flags & XATTR_REPLACE) !== 0) throw new FsError('ENODATA');
    return attribute;
  });
}

/** Throws FsError ENODATA, EPERM, CorruptionError. */
export function removeXattr(vol: Volume, ino: Ino, name: Uint8Array): void {
  change(vol, ino, checkName(name), 0, (exists) => {
    if (!exists) throw new FsError('ENODATA');
    return null;
  });
}

/** Entries whose values are in inodes of their own. Throws CorruptionError. */
export function externalAttributes(inode: Inode): Attribute[] {
  if (!hasEaInodes(inode.vol)) return [];
  return [...inodeAttributes(inode), ...readBlockAttributes(inode)].filter(({ external }) => external !== null);
}

/** What they add to i_blocks, in blocks. Throws CorruptionError. */
export function valueBlocks(inode: Inode): number {
  return externalAttributes(inode).reduce((sum, attribute) => sum + chargedBlocks(inode, attribute), 0);
}

/** What a change may touch; with values elsewhere, those whose references change with it as well. */
export function changeCredits(vol: Volume, ino: Ino, valueLength: number): number {
  if (!hasEaInodes(vol)) return XATTR_CREDITS;
  const listed = readBlockAttributes(Inode.get(vol, ino)).filter(({ external }) => external !== null).length;
  const credits = XATTR_CREDITS + storeCredits(vol, valueLength) + listed;
  if (credits > vol.journal.maxTransactionBlocks)
    throw new FsError('ENOSPC', `the log is too small for a change of ${credits} blocks`);
  return credits;
}

function change(
  vol: Volume,
  ino: Ino,
  wanted: SplitName,
  valueLength: number,
  decide: (exists: boolean) => Attribute | null,
): void {
  const unused = vol.journal.run(changeCredits(vol, ino, valueLength), (handle) => {
    const inode = Inode.get(vol, ino);
    if ((inode.flags & (EXT4_IMMUTABLE_FL | EXT4_APPEND_FL)) !== 0)
      throw new FsError('EPERM', `inode ${ino} may not be changed`);
    const others = (attributes: Attribute[]) => attributes.filter((attribute) => !sameName(attribute, wanted));
    const inInode = inodeAttributes(inode);
    const inBlock = readBlockAttributes(inode);
    const keptInInode = others(inInode);
    const keptInBlock = others(inBlock);
    const wasInBlock = keptInBlock.length < inBlock.length;
    const replaced = [...inInode, ...inBlock].filter((attribute) => sameName(attribute, wanted));
    const added = decide(replaced.length > 0);
    let blocks = 0;
    let values = 0;
    for (const attribute of replaced) {
      blocks -= chargedBlocks(inode, attribute);
      if (attribute.external !== null) values--;
    }
    let blockChanges = wasInBlock;
    if (added !== null) {
      allowXattrs(handle, vol);
      const { place, attribute } = findPlace(handle, inode, keptInInode, keptInBlock, added);
      if (place === 'block') blockChanges = true;
      (place === 'inode' ? keptInInode : keptInBlock).push(attribute);
      if (attribute.external !== null) {
        const charged = chargedBlocks(inode, attribute);
        // Both values count for a moment.
        vol.quotas?.mustHaveRoom(inode, charged, 1);
        blocks += charged;
        values++;
      }
    }
    const references = new ValueReferences();
    references.drop(inInode);
    references.take(keptInInode);
    const writable = inode.edit(handle);
    writeInodeAttributes(handle, writable, keptInInode);
    if (blockChanges) writeBlockAttributes(handle, writable, keptInBlock, references);
    if (blocks !== 0) writable.addBlocks(blocks);
    vol.quotas?.addValues(handle, writable, values);
    writable.setCtime(vol.env.now());
    return references.settle(handle, writable);
  });
  evictAll(vol, unused);
}

/**
 * Where a new attribute goes (ext4_xattr_set_handle): in the inode, in its block, or, if the value fits neither, with the
 * value in an inode of its own. Throws FsError ENOSPC.
 */
function findPlace(
  handle: Handle,
  inode: Inode,
  inInode: readonly Attribute[],
  inBlock: readonly Attribute[],
  added: Attribute,
): { place: 'inode' | 'block'; attribute: Attribute } {
  const { vol } = inode;
  const { value, name } = added;
  const inline = hasEaInodes(vol) && isLarge(vol, value) ? null : placeOf(inode, inInode, inBlock, added);
  if (inline !== null) return { place: inline, attribute: added };
  if (hasEaInodes(vol) && value.length > 0) {
    const entry = { ...added, value: value.subarray(0, 0) };
    const place = placeOf(inode, inInode, inBlock, entry);
    if (place !== null) return { place, attribute: { ...entry, external: storeValue(handle, inode, name, value) } };
  }
  throw new FsError('ENOSPC', 'the attributes do not fit the inode and its block');
}

/** EXT4_XATTR_MIN_LARGE_EA_SIZE: no block has room for it next to a short name. */
function isLarge(vol: Volume, value: Uint8Array): boolean {
  return paddedBytes(value.length) > vol.geometry.blockSize - LARGE_VALUE_OVERHEAD;
}

function placeOf(
  inode: Inode,
  inInode: readonly Attribute[],
  inBlock: readonly Attribute[],
  added: Attribute,
): 'inode' | 'block' | null {
  const { vol } = inode;
  if (fitsInode(inode, [...inInode, added])) return 'inode';
  const block = [...inBlock, added];
  return fitsBlock(vol, block) && (added.value.length === 0 || leavesReserve(vol, block)) ? 'block' : null;
}

/**
 * An inode without links gives up its attributes (ext4_xattr_delete_inode). May restart the handle: the inode must be on
 * the orphan list, and what is left of its attributes is whole then. Returns inodes of values to be evicted after it,
 * which are on that list too. A value that cannot be found is reported, and passed over. Throws CorruptionError.
 */
export function releaseXattrs(handle: Handle, vol: Volume, ino: Ino): Ino[] {
  const unused: Ino[] = [];
  if (hasEaInodes(vol)) {
    releaseValues(handle, vol, ino, unused, inodeAttributes, writeInodeAttributes);
    const { fileAcl } = Inode.load(vol, ino);
    if (fileAcl !== 0 && xattrBlockReferences(vol, fileAcl) === 1)
      releaseValues(handle, vol, ino, unused, readBlockAttributes, rewriteOwnBlock);
  }
  handle.ensureCredits(XATTR_CREDITS);
  const inode = Inode.load(vol, ino).edit(handle);
  // Those of a block that others keep.
  giveUpCharges(handle, inode, pastCorruption(vol, () => externalAttributes(inode)) ?? []);
  leaveXattrBlock(handle, inode, null);
  return unused;
}

/** What entries add to i_blocks and to the quotas of an inode that is about to lose them (ext4_xattr_inode_free_quota). */
function giveUpCharges(handle: Handle, inode: WritableInode, attributes: readonly Attribute[]): void {
  if (attributes.length === 0) return;
  let blocks = 0;
  for (const attribute of attributes) blocks += pastCorruption(inode.vol, () => chargedBlocks(inode, attribute)) ?? 0;
  inode.addBlocks(-blocks);
  inode.vol.quotas?.addValues(handle, inode, -attributes.length);
}

/** Null for what is damaged, which is reported. */
function pastCorruption<T>(vol: Volume, part: () => T): T | null {
  try {
    return part();
  } catch (error) {
    if (!(error instanceof CorruptionError)) throw error;
    vol.reportCorruption(error);
    return null;
  }
}

/** So many references are dropped in one handle, at two blocks each. */
const RELEASE_BATCH = 16;

function releaseValues(
  handle: Handle,
  vol: Volume,
  ino: Ino,
  unused: Ino[],
  read: (inode: Inode) => Attribute[],
  write: (handle: Handle, inode: WritableInode, attributes: readonly Attribute[]) => void,
): void {
  for (;;) {
    const attributes = pastCorruption(vol, () => read(Inode.load(vol, ino))) ?? [];
    const batch = attributes.filter(({ external }) => external !== null).slice(0, RELEASE_BATCH);
    if (batch.length === 0) return;
    handle.ensureCredits(XATTR_CREDITS + 2 * RELEASE_BATCH);
    const inode = Inode.load(vol, ino).edit(handle);
    giveUpCharges(handle, inode, batch);
    for (const attribute of batch) {
      const references = new ValueReferences();
      references.drop([attribute]);
      unused.push(...(pastCorruption(vol, () => references.settle(handle, inode)) ?? []));
    }
    // With the references, so that after a restart none is dropped twice.
    write(
      handle,
      inode,
      attributes.filter((attribute) => !batch.includes(attribute)),
    );
  }
}
