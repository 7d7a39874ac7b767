/**
 * Inodes, in place: an {@link Inode} is a look at one record of an inode-table block. Nothing is copied, so what a
 * transaction rolls back or commits is the inode itself. Do not keep one across operations; ask for it again.
 */
import { crc32c, crc32cLe32 } from '../codec/crc.js';
import type { Field } from '../codec/layout.js';
import type { ReadView } from '../codec/view.js';
import { CorruptionError, FsError } from '../errors.js';
import type { BlockKind, CachedBlock, WritableBlock } from '../jbd2/block-cache.js';
import type { Handle } from '../jbd2/handle.js';
import { RO_COMPAT } from './features.js';
import { EXT_MAX_BLOCKS } from './format/extent.js';
import {
  EXT4_EA_INODE_FL,
  EXT4_EXTENTS_FL,
  EXT4_HUGE_FILE_FL,
  EXT4_INLINE_DATA_FL,
  EXT4_JOURNAL_DATA_FL,
  EXT4_ROOT_INO,
  GOOD_OLD_INODE_SIZE,
  I_BLOCK_BYTES,
  I_BLOCK_OFFSET,
  INODE,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from './format/inode.js';
import { inodeTableBlock } from './group.js';
import type { Timestamp, Volume } from './volume.js';

export type Ino = number;

/** Bits in CachedBlock.slots of an inode-table block. */
const SLOT_VERIFIED = 1;
const SLOT_CHANGED = 2;

const kinds = new WeakMap<Volume, BlockKind>();

/** Inode-table blocks: each inode is verified when first looked at, changed ones are sealed at commit. */
export function inodeTableKind(vol: Volume): BlockKind {
  let kind = kinds.get(vol);
  if (kind === undefined) {
    kind = {
      name: 'inode table block',
      inFastCommits: true,
      beforeRead: (nr, owner) => readAhead(vol, nr, owner),
      beforeCommit(block: WritableBlock) {
        if (!vol.geometry.metadataCsum || block.slots === null) return;
        for (let slot = 0; slot < block.slots.length; slot++) {
          if ((block.slots[slot] & SLOT_CHANGED) === 0) continue;
          // The owner of an inode-table block is the number of its first inode.
          stampChecksum(vol, block, slot * vol.geometry.inodeSize, block.owner + slot);
          block.slots[slot] = SLOT_VERIFIED;
        }
      },
    };
    kinds.set(vol, kind);
  }
  return kind;
}

/** The last seed worked out: a directory asks for its own with every block. */
const lastSeed = { csumSeed: -1, ino: 0, generation: 0, seed: 0 };

/** Seed for everything that belongs to an inode: its number and generation (EXT4_I(inode)->i_csum_seed). */
export function inodeSeed(vol: Volume, ino: Ino, generation: number): number {
  const { csumSeed } = vol.geometry;
  if (lastSeed.ino !== ino || lastSeed.generation !== generation || lastSeed.csumSeed !== csumSeed) {
    lastSeed.csumSeed = csumSeed;
    lastSeed.ino = ino;
    lastSeed.generation = generation;
    lastSeed.seed = crc32cLe32(crc32cLe32(csumSeed, ino), generation);
  }
  return lastSeed.seed;
}

let record = new Uint8Array(0);

/** ext4_inode_csum: the whole inode with the checksum fields taken as zero. */
function inodeChecksum(vol: Volume, block: CachedBlock, base: number, ino: Ino): number {
  const { inodeSize } = vol.geometry;
  if (record.length !== inodeSize) record = new Uint8Array(inodeSize);
  record.set(block.bytes.subarray(base, base + inodeSize));
  const { i_checksum_lo: lo, i_checksum_hi: hi } = INODE;
  record[lo.offset] = record[lo.offset + 1] = 0;
  if (hasHighChecksum(vol, block.view, base)) record[hi.offset] = record[hi.offset + 1] = 0;
  return crc32c(inodeSeed(vol, ino, INODE.i_generation.get(block.view, base)), record);
}

function hasHighChecksum(vol: Volume, view: ReadView, base: number): boolean {
  return (
    vol.geometry.inodeSize > GOOD_OLD_INODE_SIZE &&
    INODE.i_extra_isize.get(view, base) + GOOD_OLD_INODE_SIZE >= INODE.i_checksum_hi.offset + 2
  );
}

function stampChecksum(vol: Volume, block: WritableBlock, base: number, ino: Ino): void {
  const crc = inodeChecksum(vol, block, base, ino);
  INODE.i_checksum_lo.set(block.view, base, crc & 0xffff);
  if (hasHighChecksum(vol, block.view, base)) INODE.i_checksum_hi.set(block.view, base, crc >>> 16);
}

function verifyInode(vol: Volume, block: CachedBlock, base: number, ino: Ino): void {
  const { view } = block;
  if (vol.geometry.inodeSize > GOOD_OLD_INODE_SIZE) {
    const extra = INODE.i_extra_isize.get(view, base);
    if (extra % 4 !== 0 || extra + GOOD_OLD_INODE_SIZE > vol.geometry.inodeSize) {
      throw new CorruptionError('inode', `inode ${ino}`, `i_extra_isize is ${extra}`);
    }
  }
  if (INODE.i_mode.get(view, base) !== 0) {
    const size = INODE.i_size_lo.get(view, base) + INODE.i_size_high.get(view, base) * 0x1_0000_0000;
    // Nothing can be mapped behind that: whoever went looking for the end block by block would never get there.
    if (size > EXT_MAX_BLOCKS * vol.geometry.blockSize) {
      throw new CorruptionError('inode', `inode ${ino}`, `i_size is ${size}`);
    }
  }
  if (!vol.geometry.metadataCsum) return;
  // A free inode may carry no checksum, or any: one never used since mke2fs is all zeroes (ext4_iget).
  if (INODE.i_mode.get(view, base) === 0 && INODE.i_links_count.get(view, base) === 0) return;
  const crc = inodeChecksum(vol, block, base, ino);
  const lo = INODE.i_checksum_lo.get(view, base);
  const good = hasHighChecksum(vol, view, base)
    ? crc === ((INODE.i_checksum_hi.get(view, base) << 16) | lo) >>> 0
    : (crc & 0xffff) === lo;
  if (!good) throw new CorruptionError('inode', `inode ${ino}`, 'its checksum does not match', 'EBADMSG');
}

interface Located {
  block: CachedBlock;
  base: number;
}

/** Neighbours of a block of the inode table that are read with it (s_inode_readahead_blks). */
const READAHEAD_BLOCKS = 32;

/** Before block `nr`, whose first inode is `owner`, is read. */
function readAhead(vol: Volume, nr: number, owner: Ino): void {
  const { inodesPerGroup, inodesPerBlock } = vol.geometry;
  const inTable = Math.floor(((owner - 1) % inodesPerGroup) / inodesPerBlock);
  const before = inTable % READAHEAD_BLOCKS;
  const blocks = Math.ceil(inodesPerGroup / inodesPerBlock);
  vol.willRead(nr - before, Math.min(READAHEAD_BLOCKS, blocks - inTable + before));
}

function locate(vol: Volume, ino: Ino): Located {
  const { inodesPerGroup, inodesPerBlock, inodeSize, inodesCount } = vol.geometry;
  if (ino < 1 || ino > inodesCount) {
    throw new CorruptionError('inode number', `inode ${ino}`, `the filesystem has ${inodesCount} inodes`);
  }
  const group = Math.floor((ino - 1) / inodesPerGroup);
  const index = (ino - 1) % inodesPerGroup;
  const slot = index % inodesPerBlock;
  const nr = inodeTableBlock(vol, group) + Math.floor(index / inodesPerBlock);
  const block = vol.read(nr, inodeTableKind(vol), ino - slot);
  if (block.slots === null) block.slots = new Uint8Array(inodesPerBlock);
  const base = slot * inodeSize;
  if (block.slots[slot] === 0) {
    verifyInode(vol, block, base, ino);
    block.slots[slot] = SLOT_VERIFIED;
  }
  return { block, base };
}

/** fs_overflowuid */
const OVERFLOW_ID16 = 65_534;

export class Inode {
  readonly vol: Volume;
  readonly ino: Ino;
  readonly block: CachedBlock;
  /** Byte offset of this inode in {@link block}. */
  readonly base: number;

  constructor(vol: Volume, ino: Ino, block: CachedBlock, base: number) {
    this.vol = vol;
    this.ino = ino;
    this.block = block;
    this.base = base;
  }

  /** Any inode, free ones too. Throws CorruptionError. */
  static load(vol: Volume, ino: Ino): Inode {
    const { block, base } = locate(vol, ino);
    return new Inode(vol, ino, block, base);
  }

  /** An inode in use, of whatever kind. Throws FsError ESTALE, CorruptionError. */
  static inUse(vol: Volume, ino: Ino): Inode {
    const inode = Inode.load(vol, ino);
    if (inode.mode === 0) throw new FsError('ESTALE', `inode ${ino} is free`);
    return inode;
  }

  /**
   * An inode that a name or a caller's handle refers to. Throws FsError ESTALE for a free one; CorruptionError for the
   * filesystem's own, since a name for the log would let anyone write to it (is_special_ino), and for one that holds an
   * attribute's value.
   */
  static get(vol: Volume, ino: Ino): Inode {
    if (ino !== EXT4_ROOT_INO && vol.geometry.isOwnInode(ino)) {
      throw new CorruptionError(
        'inode number',
        `inode ${ino}`,
        'something refers to an inode of the filesystem itself',
      );
    }
    const inode = Inode.inUse(vol, ino);
    if (inode.hasFlag(EXT4_EA_INODE_FL))
      throw new CorruptionError('inode', `inode ${ino}`, 'it holds the value of an attribute, and is used as a file');
    return inode;
  }

  get mode(): number {
    return INODE.i_mode.get(this.block.view, this.base);
  }
  get type(): number {
    return this.mode & S_IFMT;
  }
  get isDirectory(): boolean {
    return this.type === S_IFDIR;
  }
  get isRegular(): boolean {
    return this.type === S_IFREG;
  }
  get isSymlink(): boolean {
    return this.type === S_IFLNK;
  }
  get uid(): number {
    const { view } = this.block;
    const low = INODE.i_uid.get(view, this.base);
    return this.vol.policy.ids16 ? low : low + INODE.i_uid_high.get(view, this.base) * 0x10000;
  }
  get gid(): number {
    const { view } = this.block;
    const low = INODE.i_gid.get(view, this.base);
    return this.vol.policy.ids16 ? low : low + INODE.i_gid_high.get(view, this.base) * 0x10000;
  }
  get sizeBytes(): number {
    const { view } = this.block;
    return INODE.i_size_lo.get(view, this.base) + INODE.i_size_high.get(view, this.base) * 0x1_0000_0000;
  }
  get linksCount(): number {
    return INODE.i_links_count.get(this.block.view, this.base);
  }
  get flags(): number {
    return INODE.i_flags.get(this.block.view, this.base);
  }
  hasFlag(flag: number): boolean {
    return (this.flags & flag) !== 0;
  }
  get generation(): number {
    return INODE.i_generation.get(this.block.view, this.base);
  }
  get dtime(): number {
    return INODE.i_dtime.get(this.block.view, this.base);
  }
  /** Seed of the checksums of this inode's blocks. */
  get seed(): number {
    return inodeSeed(this.vol, this.ino, this.generation);
  }
  /** Space used in 512-byte units, as stat shows it. */
  get sectors(): number {
    const { view } = this.block;
    const lo = INODE.i_blocks_lo.get(view, this.base);
    if ((this.vol.geometry.roCompat & RO_COMPAT.huge_file) === 0) return lo;
    const count = lo + INODE.i_blocks_high.get(view, this.base) * 0x1_0000_0000;
    return this.hasFlag(EXT4_HUGE_FILE_FL) ? count * (this.vol.geometry.blockSize / 512) : count;
  }
  /** Block of extended attributes, or 0. */
  get fileAcl(): number {
    const { view } = this.block;
    return INODE.i_file_acl_lo.get(view, this.base) + INODE.i_file_acl_high.get(view, this.base) * 0x1_0000_0000;
  }
  get extraIsize(): number {
    if (this.vol.geometry.inodeSize <= GOOD_OLD_INODE_SIZE) return 0;
    return INODE.i_extra_isize.get(this.block.view, this.base);
  }
  /** i_projid; 0 where the inode has no room for it. */
  get projectId(): number {
    return this.fits(INODE.i_projid) ? INODE.i_projid.get(this.block.view, this.base) : 0;
  }
  /** ext4_should_journal_data: the content of its blocks goes through the log, as that of anything but a file does. */
  get journalsData(): boolean {
    return !this.isRegular || this.vol.policy.journalsData || this.hasFlag(EXT4_JOURNAL_DATA_FL | EXT4_EA_INODE_FL);
  }
  get usesExtents(): boolean {
    return this.hasFlag(EXT4_EXTENTS_FL);
  }
  /** The content is in i_block and the attribute system.data: there are no blocks. */
  get hasInlineData(): boolean {
    return this.hasFlag(EXT4_INLINE_DATA_FL);
  }
  /** Byte offset of i_block in {@link block}; it is 60 bytes. */
  get iBlockBase(): number {
    return this.base + I_BLOCK_OFFSET;
  }
  get iBlock() {
    return this.block.bytes.subarray(this.iBlockBase, this.iBlockBase + I_BLOCK_BYTES);
  }
  /** First byte after the fixed part, where in-inode attributes begin. */
  get extraEnd(): number {
    return this.base + GOOD_OLD_INODE_SIZE + this.extraIsize;
  }
  /** First byte after this inode. */
  get end(): number {
    return this.base + this.vol.geometry.inodeSize;
  }

  get atime(): Timestamp {
    return this.time(INODE.i_atime, INODE.i_atime_extra);
  }
  get mtime(): Timestamp {
    return this.time(INODE.i_mtime, INODE.i_mtime_extra);
  }
  get ctime(): Timestamp {
    return this.time(INODE.i_ctime, INODE.i_ctime_extra);
  }
  /** Birth time; null where the inode has no room for it. */
  get crtime(): Timestamp | null {
    return this.fits(INODE.i_crtime) ? this.time(INODE.i_crtime, INODE.i_crtime_extra) : null;
  }
  get nextOrphan(): Ino {
    return this.dtime;
  }

  /** True if the field lies inside this inode's fixed and extra space (EXT4_FITS_IN_INODE). */
  fits({ offset, size }: Field): boolean {
    return offset + size <= GOOD_OLD_INODE_SIZE + this.extraIsize;
  }

  /** Joins the inode's block to the handle's transaction and grants the setters. */
  edit(handle: Handle): WritableInode {
    const writable = handle.getWriteAccess(this.block);
    handle.dirtyMetadata(writable);
    if (writable.slots === null) writable.slots = new Uint8Array(this.vol.geometry.inodesPerBlock);
    writable.slots[(this.base / this.vol.geometry.inodeSize) | 0] |= SLOT_VERIFIED | SLOT_CHANGED;
    this.vol.noteChanged(this.ino, handle.transaction.tid);
    if (this.extraIsize < this.vol.policy.wantExtraIsize) this.vol.narrowInodes.add(this.ino);
    return new WritableInode(this.vol, this.ino, writable, this.base, handle);
  }

  private time(field: Field, extraField: Field): Timestamp {
    const { view } = this.block;
    const seconds = field.get(view, this.base) | 0;
    if (!this.fits(extraField)) return { seconds, nanoseconds: 0 };
    const extra = extraField.get(view, this.base);
    // Two epoch bits extend the signed 32-bit seconds to the year 2446 (ext4_decode_extra_time).
    return { seconds: seconds + (extra & 3) * 0x1_0000_0000, nanoseconds: extra >>> 2 };
  }
}

export class WritableInode extends Inode {
  declare readonly block: WritableBlock;
  private readonly handle: Handle;

  constructor(vol: Volume, ino: Ino, block: WritableBlock, base: number, handle: Handle) {
    super(vol, ino, block, base);
    this.handle = handle;
  }

  set(
    field: keyof typeof INODE &
      ('i_links_count' | 'i_flags' | 'i_dtime' | 'i_generation' | 'i_extra_isize' | 'i_projid'),
    value: number,
  ): void {
    INODE[field].set(this.block.view, this.base, value);
  }
  /** A field that holds something else than its name says. */
  setRaw32(
    field: keyof typeof INODE & `i_${'atime' | 'ctime' | 'version'}${'' | '_extra' | '_hi'}`,
    value: number,
  ): void {
    INODE[field].set(this.block.view, this.base, value >>> 0);
  }
  setMode(mode: number): void {
    INODE.i_mode.set(this.block.view, this.base, mode);
  }
  setUid(uid: number): void {
    const id = this.storedId(uid);
    INODE.i_uid.set(this.block.view, this.base, id & 0xffff);
    INODE.i_uid_high.set(this.block.view, this.base, id >>> 16);
  }
  setGid(gid: number): void {
    const id = this.storedId(gid);
    INODE.i_gid.set(this.block.view, this.base, id & 0xffff);
    INODE.i_gid_high.set(this.block.view, this.base, id >>> 16);
  }
  /** nouid32: what does not fit is nobody (fs_high2lowuid). */
  private storedId(id: number): number {
    return this.vol.policy.ids16 && id > 0xffff ? OVERFLOW_ID16 : id;
  }
  setSizeBytes(size: number): void {
    INODE.i_size_lo.set(this.block.view, this.base, size >>> 0);
    INODE.i_size_high.set(this.block.view, this.base, Math.floor(size / 0x1_0000_0000));
  }
  setLinksCount(count: number): void {
    INODE.i_links_count.set(this.block.view, this.base, count);
  }
  setFlags(flags: number): void {
    INODE.i_flags.set(this.block.view, this.base, flags >>> 0);
  }
  setFileAcl(block: number): void {
    INODE.i_file_acl_lo.set(this.block.view, this.base, block >>> 0);
    INODE.i_file_acl_high.set(this.block.view, this.base, Math.floor(block / 0x1_0000_0000));
  }
  setDtime(value: number): void {
    INODE.i_dtime.set(this.block.view, this.base, value >>> 0);
  }
  /** ext4_inode_blocks_set: 32 bits, then 48, then 48 in filesystem blocks (huge_file). Throws FsError EFBIG. */
  setSectors(sectors: number): void {
    const { view } = this.block;
    const huge = (this.vol.geometry.roCompat & RO_COMPAT.huge_file) !== 0;
    if (sectors <= 0xffffffff) {
      INODE.i_blocks_lo.set(view, this.base, sectors);
      if (huge) INODE.i_blocks_high.set(view, this.base, 0);
      this.setFlags(this.flags & ~EXT4_HUGE_FILE_FL);
      return;
    }
    if (!huge) throw new FsError('EFBIG', 'the filesystem lacks the huge_file feature');
    let units = sectors;
    if (sectors >= 2 ** 48) {
      this.setFlags(this.flags | EXT4_HUGE_FILE_FL);
      units = sectors / (this.vol.geometry.blockSize / 512);
    } else {
      this.setFlags(this.flags & ~EXT4_HUGE_FILE_FL);
    }
    INODE.i_blocks_lo.set(view, this.base, units >>> 0);
    INODE.i_blocks_high.set(view, this.base, Math.floor(units / 0x1_0000_0000));
  }
  /** Counts blocks added to or taken from this inode, for its owners too (dquot_alloc_block_nofail, dquot_free_block). */
  addBlocks(blocks: number): void {
    this.correctSectors(Math.max(0, this.sectors + blocks * (this.vol.geometry.blockSize / 512)));
  }
  /** i_blocks becomes this, for its owners too. */
  correctSectors(sectors: number): void {
    const before = this.sectors;
    this.setSectors(sectors);
    this.vol.quotas?.addSpace(this.handle, this, (this.sectors - before) * 512);
  }
  setAtime(time: Timestamp): void {
    this.setTime(INODE.i_atime, INODE.i_atime_extra, time);
  }
  setMtime(time: Timestamp): void {
    this.setTime(INODE.i_mtime, INODE.i_mtime_extra, time);
  }
  setCtime(time: Timestamp): void {
    this.setTime(INODE.i_ctime, INODE.i_ctime_extra, time);
  }
  setCrtime(time: Timestamp): void {
    if (this.fits(INODE.i_crtime)) this.setTime(INODE.i_crtime, INODE.i_crtime_extra, time);
  }

  private setTime(field: Field, extraField: Field, { seconds, nanoseconds }: Timestamp): void {
    const { view } = this.block;
    if (!this.fits(extraField)) {
      field.set(view, this.base, Math.max(-0x8000_0000, Math.min(0x7fff_ffff, seconds)));
      return;
    }
    const clamped = Math.max(-0x8000_0000, Math.min(0x3_7fff_ffff, seconds));
    field.set(view, this.base, clamped | 0);
    const epoch = ((clamped - (clamped | 0)) / 0x1_0000_0000) & 3;
    extraField.set(view, this.base, ((nanoseconds << 2) | epoch) >>> 0);
  }
}
