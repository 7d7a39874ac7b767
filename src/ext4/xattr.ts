/**
 * Extended attributes of an inode (fs/ext4/xattr.c): in the space behind its fixed fields first, in a block of their own
 * when that is full.
 */
import { FsError } from '../errors.js';
import { fromDiskAcl, toDiskAcl } from './acl.js';
import { EXT4_APPEND_FL, EXT4_IMMUTABLE_FL } from './format/inode.js';
import { EXT4_XATTR_MAGIC, XATTR_IBODY_HEADER_BYTES, XATTR_PREFIXES } from './format/xattr.js';
import { type Ino, Inode, type WritableInode } from './inode.js';
import type { Volume } from './volume.js';
import { fitsBlock, readBlockAttributes, writeBlockAttributes } from './xattr-block.js';
import { type Area, type Attribute, decodeAttributes, encodeAttributes, encodedBytes } from './xattr-entries.js';

export { freeXattrBlock, xattrBlockReferences } from './xattr-block.js';

export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;
const XATTR_NAME_MAX = 255;
const XATTR_SIZE_MAX = 65536;
/** Inode, attribute block, its bitmap and descriptor, and the same for a block left behind. */
const XATTR_CREDITS = 12;

const ACL_ACCESS = 2;
const ACL_DEFAULT = 3;
const encoder = new TextEncoder();
const PREFIXES = XATTR_PREFIXES.map((entry) => ({ ...entry, bytes: encoder.encode(entry.prefix) }));

interface SplitName {
  readonly index: number;
  readonly name: Uint8Array;
}

function startsWith(name: Uint8Array, prefix: Uint8Array): boolean {
  if (name.length < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) if (name[i] !== prefix[i]) return false;
  return true;
}

function splitName(full: Uint8Array): SplitName {
  for (const { index, bytes, whole } of PREFIXES) {
    if (!startsWith(full, bytes)) continue;
    if (whole && full.length === bytes.length) return { index, name: new Uint8Array(0) };
    if (!whole && full.length > bytes.length) return { index, name: full.subarray(bytes.length) };
  }
  throw new FsError('EOPNOTSUPP', 'no such kind of attribute');
}

function sameName(attribute: Attribute, { index, name }: SplitName): boolean {
  return (
    attribute.index === index &&
    attribute.name.length === name.length &&
    attribute.name.every((byte, i) => byte === name[i])
  );
}

/** Where attributes are in the inode itself, or null where it has no room for any. */
function inodeArea(inode: Inode): Area | null {
  const from = inode.extraEnd + XATTR_IBODY_HEADER_BYTES;
  if (inode.extraIsize === 0 || inode.end - from < 8) return null;
  return { from, end: inode.end, valueBase: from };
}

function readInodeAttributes(inode: Inode): Attribute[] {
  const area = inodeArea(inode);
  const { view, bytes } = inode.block;
  if (area === null || view.getUint32(inode.extraEnd, true) !== EXT4_XATTR_MAGIC) return [];
  return decodeAttributes(view, bytes, area, `inode ${inode.ino}`);
}

function writeInodeAttributes(inode: WritableInode, attributes: readonly Attribute[]): void {
  const area = inodeArea(inode);
  if (area === null) return;
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
    readInodeAttributes(inode).find((attribute) => sameName(attribute, wanted)) ??
    readBlockAttributes(vol, inode).find((attribute) => sameName(attribute, wanted));
  if (found === undefined) return null;
  if (found.valueInum !== 0) throw new FsError('EOPNOTSUPP', 'the value is in an inode of its own (ea_inode)');
  return found.index === ACL_ACCESS || found.index === ACL_DEFAULT ? fromDiskAcl(found.value, ino) : found.value;
}

/** Full names, each with a NUL behind it. */
export function listXattrs(inode: Inode): Uint8Array {
  const parts: number[] = [];
  for (const { index, name } of [...readInodeAttributes(inode), ...readBlockAttributes(inode.vol, inode)]) {
    const prefix = PREFIXES.find((entry) => entry.index === index);
    if (prefix !== undefined) parts.push(...prefix.bytes, ...name, 0);
  }
  return Uint8Array.from(parts);
}

/** Throws FsError: EEXIST, ENODATA, ENOSPC, E2BIG, EPERM, EOPNOTSUPP. */
export function setXattr(vol: Volume, ino: Ino, name: Uint8Array, value: Uint8Array, flags: number): void {
  const wanted = checkName(name);
  if (value.length > XATTR_SIZE_MAX) throw new FsError('E2BIG');
  const isAcl = wanted.index === ACL_ACCESS || wanted.index === ACL_DEFAULT;
  const attribute: Attribute = {
    index: wanted.index,
    name: wanted.name.slice(),
    value: isAcl ? toDiskAcl(value) : value.slice(),
    valueInum: 0,
  };
  change(vol, ino, wanted, (exists) => {
    if (exists && (flags & XATTR_CREATE) !== 0) throw new FsError('EEXIST');
    if (!exists && (flags & XATTR_REPLACE) !== 0) throw new FsError('ENODATA');
    return attribute;
  });
}

/** Throws FsError ENODATA. */
export function removeXattr(vol: Volume, ino: Ino, name: Uint8Array): void {
  change(vol, ino, checkName(name), (exists) => {
    if (!exists) throw new FsError('ENODATA');
    return null;
  });
}

function change(vol: Volume, ino: Ino, wanted: SplitName, decide: (exists: boolean) => Attribute | null): void {
  vol.journal.run(XATTR_CREDITS, (handle) => {
    const inode = Inode.get(vol, ino);
    if ((inode.flags & (EXT4_IMMUTABLE_FL | EXT4_APPEND_FL)) !== 0)
      throw new FsError('EPERM', `inode ${ino} may not be changed`);
    const others = (attributes: Attribute[]) => attributes.filter((attribute) => !sameName(attribute, wanted));
    const inInode = readInodeAttributes(inode);
    const inBlock = readBlockAttributes(vol, inode);
    const keptInInode = others(inInode);
    const keptInBlock = others(inBlock);
    const wasInBlock = keptInBlock.length < inBlock.length;
    const added = decide(wasInBlock || keptInInode.length < inInode.length);
    if ([...inInode, ...inBlock].some((attribute) => attribute.valueInum !== 0)) {
      throw new FsError('EOPNOTSUPP', 'values in inodes of their own (ea_inode) cannot be changed');
    }
    let blockChanges = wasInBlock;
    if (added !== null) {
      if (fitsInode(inode, [...keptInInode, added])) keptInInode.push(added);
      else {
        keptInBlock.push(added);
        blockChanges = true;
        if (!fitsBlock(vol, keptInBlock))
          throw new FsError('ENOSPC', 'the attributes do not fit the inode and its block');
      }
    }
    const writable = inode.edit(handle);
    writeInodeAttributes(writable, keptInInode);
    if (blockChanges) writeBlockAttributes(handle, vol, writable, keptInBlock);
    writable.setCtime(vol.env.now());
  });
}
