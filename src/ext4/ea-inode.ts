/**
 * Inodes that hold one attribute value each (ea_inode): no name, no attributes, content that goes through the log. Equal
 * values share one; i_ctime and i_version count the entries that refer to it, i_atime is the hash of the value. Lustre's
 * older kind has one owner, named by i_mtime and i_generation, and neither count nor hash.
 */
import { crc32c } from '../codec/crc.js';
import { ownView } from '../codec/view.js';
import { CorruptionError, FsError } from '../errors.js';
import type { BlockKind } from '../jbd2/block-cache.js';
import type { Handle } from '../jbd2/handle.js';
import { allocateMapped, mapBlock } from './block-map.js';
import { INCOMPAT } from './features.js';
import { readData } from './file-data.js';
import { EXT4_EA_INODE_FL, EXT4_EXTENTS_FL, INODE, S_IFREG } from './format/inode.js';
import { EXT4_XATTR_MAGIC, XATTR_SIZE_MAX } from './format/xattr.js';
import { type Ino, Inode, type WritableInode } from './inode.js';
import { allocateInode } from './inode-alloc.js';
import { addOrphan } from './orphan.js';
import type { Volume } from './volume.js';
import { xattrCaches } from './xattr-cache.js';
import { type Attribute, type ExternalValue, entryHash } from './xattr-entries.js';

/** Blocks of a value; the hash covers them. */
const valueKind: BlockKind = { name: 'attribute value' };

/** Inode, its bitmap and descriptor, the orphan list, a block of its map with bitmap and descriptor, twice. */
const CREATE_CREDITS = 12;

/** What {@link storeValue} may change. */
export function storeCredits(vol: Volume, valueLength: number): number {
  const blocks = Math.ceil(valueLength / vol.geometry.blockSize);
  // In the worst case each block is in another group.
  return CREATE_CREDITS + blocks + 2 * Math.min(blocks, vol.geometry.groupCount);
}

export function hasEaInodes({ geometry }: Volume): boolean {
  return (geometry.incompat & INCOMPAT.ea_inode) !== 0;
}

function corrupt(ino: Ino, finding: string): CorruptionError {
  return new CorruptionError('attribute value', `inode ${ino}`, finding);
}

/** The inode of a value (ext4_xattr_inode_iget). Throws CorruptionError for what cannot be one. */
export function valueInode(vol: Volume, ino: Ino): Inode {
  const inode = Inode.load(vol, ino);
  if (inode.mode === 0 || inode.linksCount === 0) throw corrupt(ino, 'an attribute is kept in it, and it is free');
  if (!inode.hasFlag(EXT4_EA_INODE_FL) || !inode.isRegular)
    throw corrupt(ino, 'an attribute is kept in it, and it is not of that kind');
  const { extraEnd, end, block } = inode;
  const hasRoom = inode.extraIsize !== 0 && end - extraEnd >= 4;
  if (inode.fileAcl !== 0 || (hasRoom && block.view.getUint32(extraEnd, true) === EXT4_XATTR_MAGIC))
    throw corrupt(ino, 'an attribute is kept in it, and it has attributes itself');
  return inode;
}

/** Like {@link valueInode}, of an entry that `owner` has. */
function valueInodeOf(owner: Inode, { ino }: ExternalValue): Inode {
  if (ino === owner.ino) throw corrupt(ino, 'it keeps its own attribute');
  return valueInode(owner.vol, ino);
}

/** ext4_xattr_inode_hash */
function valueHash(vol: Volume, value: Uint8Array): number {
  return crc32c(vol.geometry.csumSeed, value);
}

function storedHash({ block, base }: Inode): number {
  return INODE.i_atime.get(block.view, base);
}

/** e_hash of an entry for a value with this hash. */
function externalHash(name: Uint8Array, hash: number, signed = false): number {
  const word = new Uint8Array(4);
  ownView(word).setUint32(0, hash, true);
  return entryHash(name, word, signed);
}

/** Lustre's kind: it belongs to this owner, and has no hash. */
function isLustreStyle(inode: Inode, owner: Inode, external: ExternalValue): boolean {
  return (
    external.hash !== storedHash(inode) &&
    INODE.i_mtime.get(inode.block.view, inode.base) === owner.ino &&
    inode.generation === owner.generation
  );
}

/** Entries that refer to it (ext4_xattr_inode_get_ref). */
function storedReferences({ block, base }: Inode): number {
  return INODE.i_ctime.get(block.view, base) * 0x1_0000_0000 + INODE.i_version.get(block.view, base);
}

/**
 * What an entry adds to i_blocks of its owner, in blocks, however many share the value (ext4_xattr_inode_alloc_quota).
 * Throws CorruptionError.
 */
export function chargedBlocks(owner: Inode, { external }: Attribute): number {
  if (external === null || isLustreStyle(valueInodeOf(owner, external), owner, external)) return 0;
  const { blockSize, clusterRatio } = owner.vol.geometry;
  return Math.ceil(external.sizeBytes / (blockSize * clusterRatio)) * clusterRatio;
}

/** How many entries the inode says refer to it, and whether its hash and size fit the entry. For `ext4d check`. */
export function describeValue(owner: Inode, external: ExternalValue): { references: number; links: number } {
  const inode = valueInodeOf(owner, external);
  return {
    references: isLustreStyle(inode, owner, external) ? 1 : storedReferences(inode),
    links: inode.linksCount,
  };
}

/** A value of `owner` (ext4_xattr_inode_get). Throws CorruptionError, FsError E2BIG for one longer than calls allow. */
export function readExternalValue(owner: Inode, { name, external }: Attribute): Uint8Array {
  if (external === null) throw new Error('the value is in its entry');
  const { vol } = owner;
  const inode = valueInodeOf(owner, external);
  const { ino } = inode;
  const value = readContent(inode, external.sizeBytes);
  if (isLustreStyle(inode, owner, external)) return value;
  const hash = valueHash(vol, value);
  if (hash !== storedHash(inode)) throw corrupt(ino, 'its content does not have its hash');
  if (externalHash(name, hash) !== external.hash && externalHash(name, hash, true) !== external.hash)
    throw corrupt(ino, `the entry in inode ${owner.ino} is for a value with another hash`);
  xattrCaches(vol)?.values.note(ino, hash);
  return value;
}

function readContent(inode: Inode, sizeBytes: number): Uint8Array {
  const { blockSize } = inode.vol.geometry;
  if (inode.sizeBytes !== sizeBytes) throw corrupt(inode.ino, `${inode.sizeBytes} bytes, its entry says ${sizeBytes}`);
  if (sizeBytes > XATTR_SIZE_MAX) throw new FsError('E2BIG', `a value of ${sizeBytes} bytes`);
  for (let lblk = 0; lblk * blockSize < sizeBytes; ) {
    const { pblk, count, unwritten } = mapBlock(inode, lblk);
    if (pblk === 0 || unwritten) throw corrupt(inode.ino, `block ${lblk} is missing`);
    lblk += count;
  }
  const value = new Uint8Array(sizeBytes);
  readData(inode, 0, value);
  return value;
}

/**
 * An inode that holds `value`, for an entry of this name: one that is there already, or a new one. Nothing refers to it
 * yet: {@link ValueReferences} must take one in the same handle. Throws FsError ENOSPC.
 */
export function storeValue(handle: Handle, owner: Inode, name: Uint8Array, value: Uint8Array): ExternalValue {
  const { vol } = owner;
  const hash = valueHash(vol, value);
  const ino = findEqual(vol, owner.ino, value, hash) ?? createValueInode(handle, owner, value, hash);
  return { ino, sizeBytes: value.length, hash: externalHash(name, hash) };
}

function findEqual(vol: Volume, ownerIno: Ino, value: Uint8Array, hash: number): Ino | null {
  const values = xattrCaches(vol)?.values;
  for (const ino of values?.with(hash) ?? []) {
    if (ino !== ownerIno && holds(vol, ino, value, hash)) return ino;
    values?.forget(ino);
  }
  return null;
}

/** Whatever is wrong with it: then it is not to be shared. */
function holds(vol: Volume, ino: Ino, value: Uint8Array, hash: number): boolean {
  try {
    const inode = valueInode(vol, ino);
    if (inode.sizeBytes !== value.length || storedHash(inode) !== hash || storedReferences(inode) === 0) return false;
    return Buffer.compare(readContent(inode, value.length), value) === 0;
  } catch (error) {
    if (!(error instanceof CorruptionError)) throw error;
    return false;
  }
}

/** ext4_xattr_inode_create, ext4_xattr_inode_write */
function createValueInode(handle: Handle, owner: Inode, value: Uint8Array, hash: number): Ino {
  const { vol } = owner;
  const inode = allocateInode(handle, vol, owner, S_IFREG | 0o600, owner, EXT4_EA_INODE_FL);
  inode.setFlags((inode.flags & EXT4_EXTENTS_FL) | EXT4_EA_INODE_FL);
  inode.setRaw32('i_atime', hash);
  if (inode.fits(INODE.i_atime_extra)) inode.setRaw32('i_atime_extra', hash > 0x7fff_ffff ? 1 : 0);
  setReferences(inode, 0);
  const { blockSize } = vol.geometry;
  const blocks = Math.ceil(value.length / blockSize);
  for (let lblk = 0; lblk < blocks; ) {
    const { start, count } = allocateMapped(handle, inode, lblk, blocks - lblk, true);
    for (let i = 0; i < count; i++) {
      const block = handle.getCreateAccess(start + i, valueKind);
      block.bytes.set(value.subarray((lblk + i) * blockSize, (lblk + i + 1) * blockSize));
      handle.dirtyMetadata(block);
    }
    lblk += count;
  }
  inode.setSizeBytes(value.length);
  xattrCaches(vol)?.values.note(inode.ino, hash, handle);
  return inode.ino;
}

/** ext4_xattr_inode_set_ref */
function setReferences(inode: WritableInode, count: number): void {
  inode.setRaw32('i_ctime', Math.floor(count / 0x1_0000_0000));
  if (inode.fits(INODE.i_ctime_extra)) inode.setRaw32('i_ctime_extra', 0);
  inode.setRaw32('i_version', count >>> 0);
  if (inode.fits(INODE.i_version_hi)) inode.setRaw32('i_version_hi', 0);
}

/**
 * What one change of attributes takes and drops of references to values, netted: what is dropped here and taken there
 * touches nothing. Each entry of an inode, and each of a block however many share it, is one reference.
 */
export class ValueReferences {
  private readonly changes = new Map<Ino, { readonly external: ExternalValue; change: number }>();

  take(attributes: readonly Attribute[]): void {
    this.add(attributes, 1);
  }

  drop(attributes: readonly Attribute[]): void {
    this.add(attributes, -1);
  }

  /**
   * Counts them, in the handle that changes the entries. Returns the inodes that nothing refers to any more: they are
   * on the orphan list, to be evicted when the handle is done. Throws CorruptionError.
   */
  settle(handle: Handle, owner: Inode): Ino[] {
    const unused: Ino[] = [];
    for (const { external, change } of this.changes.values()) {
      if (change === 0) continue;
      const inode = valueInodeOf(owner, external);
      const before = isLustreStyle(inode, owner, external) ? 1 : storedReferences(inode);
      const count = before + change;
      if (count < 0 || count > Number.MAX_SAFE_INTEGER)
        throw corrupt(inode.ino, `it says that ${before} entries refer to it, and there are more`);
      const writable = inode.edit(handle);
      setReferences(writable, count);
      if (count > 0) continue;
      writable.setLinksCount(0);
      addOrphan(handle, writable);
      xattrCaches(owner.vol)?.values.forget(inode.ino);
      unused.push(inode.ino);
    }
    return unused;
  }

  private add(attributes: readonly Attribute[], change: number): void {
    for (const { external } of attributes) {
      if (external === null) continue;
      const known = this.changes.get(external.ino);
      if (known === undefined) this.changes.set(external.ino, { external, change });
      else known.change += change;
    }
  }
}
