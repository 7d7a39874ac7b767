/**
 * One open filesystem (kernel: ext4_sb_info): its geometry, which never changes while it is open, and what every part
 * of the engine needs: cache, journal, group descriptors, clock and randomness.
 */
import type { BlockDevice } from '../block/device.js';
import { crc32c } from '../codec/crc.js';
import type { ReadBytes, ReadView } from '../codec/view.js';
import { CorruptionError } from '../errors.js';
import type { BlockCache, BlockKind, CachedBlock } from '../jbd2/block-cache.js';
import { BlockRuns } from '../jbd2/block-runs.js';
import type { Journal } from '../jbd2/journal.js';
import { type Tid, tidGeq } from '../jbd2/tid.js';
import type { FastCommitTracker } from './fast-commit-tracker.js';
import { COMPAT, INCOMPAT, RO_COMPAT } from './features.js';
import { EXT2_MIN_DESC_SIZE } from './format/group-desc.js';
import { GOOD_OLD_INODE_SIZE } from './format/inode.js';
import {
  EXT2_FLAGS_UNSIGNED_HASH,
  EXT4_ENC_STRICT_MODE_FL,
  EXT4_SUPER_MAGIC,
  SUPERBLOCK,
} from './format/superblock.js';
import { type MountPolicy, policyOf } from './mount-policy.js';
import type { MultiMountProtection } from './multi-mount.js';
import type { QuotaType } from './quota/quota-file.js';
import type { Quotas } from './quota/quotas.js';

/** Wall-clock time split as inodes store it. */
export interface Timestamp {
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** What a deterministic run replaces. */
export interface Environment {
  now(): Timestamp;
  /** Monotonic milliseconds. */
  monotonicMs(): number;
  /** A random unsigned 32-bit number. */
  random32(): number;
  /** Blocks the thread. */
  sleep(delayMs: number): void;
  /** Runs `action` after `delayMs`; returns what cancels it. */
  schedule(delayMs: number, action: () => void): () => void;
}

/** EXT2_MAX_CLUSTER_LOG_SIZE: clusters of 512 MiB, as a power of two times 1 KiB. */
const MAX_LOG_CLUSTER_SIZE = 19;
/** The fields that kernels have had as long as inodes are larger than 128 bytes. */
const LEAST_EXTRA_ISIZE = 32;

/** Checked facts from the superblock that stay fixed while the filesystem is open. */
export class Geometry {
  readonly blockSize: number;
  readonly blockBits: number;
  readonly blocksCount: number;
  readonly firstDataBlock: number;
  readonly blocksPerGroup: number;
  /** Blocks that a bit of a block bitmap stands for: more than one with bigalloc. A power of two. */
  readonly clusterRatio: number;
  readonly clusterBits: number;
  readonly clustersPerGroup: number;
  readonly groupCount: number;
  readonly inodesPerGroup: number;
  readonly inodesCount: number;
  readonly inodeSize: number;
  readonly inodesPerBlock: number;
  readonly inodeTableBlocks: number;
  readonly descSize: number;
  readonly descsPerBlock: number;
  readonly firstInode: number;
  readonly reservedGdtBlocks: number;
  /** Blocks in a flex group's pooled metadata are groups 2^n apart; 1 without flex_bg. */
  readonly groupsPerFlex: number;
  readonly compat: number;
  readonly incompat: number;
  readonly roCompat: number;
  readonly metadataCsum: boolean;
  /** uninit_bg without metadata_csum: group descriptors carry a crc16. */
  readonly gdtCsum: boolean;
  readonly csumSeed: number;
  readonly uuid: Uint8Array;
  readonly hashSeed: Uint8Array;
  readonly hashVersion: number;
  readonly hashUnsigned: boolean;
  /** What i_extra_isize of new inodes is, and of old ones should become; at least s_min_extra_isize of it. Multiples of 4. */
  readonly wantExtraIsize: number;
  readonly minExtraIsize: number;
  /** casefold: names that are not valid UTF-8 are refused in folding directories. */
  readonly strictEncoding: boolean;
  /** s_encoding of folded names. */
  readonly encoding: number;
  readonly orphanFileInum: number;
  /** mmp: where its block is, and how often it changes at least. */
  readonly mmpBlock: number;
  readonly mmpUpdateSeconds: number;
  /** The hidden files of the quota feature. */
  readonly quotaInums: ReadonlyMap<QuotaType, number>;
  /** sparse_super2: the groups with copies besides the first. */
  private readonly backupGroups: readonly number[];
  /** meta_bg: from this block of descriptors on each lies in the groups that it describes. */
  readonly firstMetaBg: number;
  readonly hasJournal: boolean;
  /** 0: none, or an external one. */
  readonly journalInum: number;
  /** Of an external journal. */
  readonly journalUuid: Uint8Array;
  /** What the superblock asks of mounts; see mount-policy.ts. */
  readonly defaultMountOpts: number;
  readonly defaultResuid: number;
  readonly defaultResgid: number;
  /** s_state when the superblock was read. */
  readonly stateBefore: number;
  /** What the device should hold in the place of a torn superblock; null if it was whole. */
  readonly mendedSuperblock: Uint8Array | null;

  /**
   * Reads and checks everything but the checksum. `bytes` are the 1024 of the superblock; `deviceBytes` limits what
   * they may claim. Throws CorruptionError. Feature bits are not judged here.
   */
  constructor(view: ReadView, bytes: ReadBytes, deviceBytes: number, mended: Uint8Array | null = null) {
    this.mendedSuperblock = mended;
    const get = (field: { get(v: ReadView, b: number): number }) => field.get(view, 0);
    const bad = (finding: string) => new CorruptionError('superblock', 'byte 1024', finding);
    if (get(SUPERBLOCK.s_magic) !== EXT4_SUPER_MAGIC) throw bad('not an ext4 filesystem: the magic number is missing');
    this.compat = get(SUPERBLOCK.s_feature_compat);
    this.incompat = get(SUPERBLOCK.s_feature_incompat);
    this.roCompat = get(SUPERBLOCK.s_feature_ro_compat);
    const logBlockSize = get(SUPERBLOCK.s_log_block_size);
    if (logBlockSize > 6) throw bad(`s_log_block_size is ${logBlockSize}`);
    this.blockBits = 10 + logBlockSize;
    this.blockSize = 1 << this.blockBits;
    const bigalloc = (this.roCompat & RO_COMPAT.bigalloc) !== 0;
    const logClusterSize = get(SUPERBLOCK.s_log_cluster_size);
    if (
      logClusterSize < logBlockSize ||
      (logClusterSize > logBlockSize && !bigalloc) ||
      logClusterSize > MAX_LOG_CLUSTER_SIZE
    ) {
      throw bad(`s_log_cluster_size is ${logClusterSize}`);
    }
    this.clusterBits = logClusterSize - logBlockSize;
    this.clusterRatio = 1 << this.clusterBits;
    if (bigalloc && (this.incompat & INCOMPAT.extent) === 0) throw bad('bigalloc needs the extent feature');
    const has64bit = (this.incompat & INCOMPAT['64bit']) !== 0;
    this.blocksCount =
      get(SUPERBLOCK.s_blocks_count_lo) + (has64bit ? get(SUPERBLOCK.s_blocks_count_hi) * 0x1_0000_0000 : 0);
    this.firstDataBlock = get(SUPERBLOCK.s_first_data_block);
    // Clusters are counted from block 0.
    if (this.firstDataBlock !== (this.blockSize === 1024 && this.clusterRatio === 1 ? 1 : 0)) {
      throw bad(`s_first_data_block is ${this.firstDataBlock}`);
    }
    if (this.blocksCount <= this.firstDataBlock + 8) throw bad(`s_blocks_count is ${this.blocksCount}`);
    if (this.blocksCount * this.blockSize > deviceBytes) {
      throw bad(
        `the filesystem has ${this.blocksCount} blocks of ${this.blockSize} bytes, the device only ${deviceBytes} bytes: it is truncated`,
      );
    }
    this.blocksPerGroup = get(SUPERBLOCK.s_blocks_per_group);
    this.clustersPerGroup = this.blocksPerGroup / this.clusterRatio;
    if (this.clustersPerGroup < 8 || this.clustersPerGroup > this.blockSize * 8 || this.clustersPerGroup % 8 !== 0) {
      throw bad(`s_blocks_per_group is ${this.blocksPerGroup}`);
    }
    if (bigalloc && get(SUPERBLOCK.s_clusters_per_group) !== this.clustersPerGroup) {
      throw bad(`s_clusters_per_group is ${get(SUPERBLOCK.s_clusters_per_group)}`);
    }
    this.inodesPerGroup = get(SUPERBLOCK.s_inodes_per_group);
    if (this.inodesPerGroup === 0 || this.inodesPerGroup > this.blockSize * 8) {
      throw bad(`s_inodes_per_group is ${this.inodesPerGroup}`);
    }
    const dynamicRev = get(SUPERBLOCK.s_rev_level) >= 1;
    this.inodeSize = dynamicRev ? get(SUPERBLOCK.s_inode_size) : 128;
    if (this.inodeSize < 128 || this.inodeSize > this.blockSize || (this.inodeSize & (this.inodeSize - 1)) !== 0) {
      throw bad(`s_inode_size is ${this.inodeSize}`);
    }
    this.firstInode = dynamicRev ? get(SUPERBLOCK.s_first_ino) : 11;
    if (this.firstInode < 11) throw bad(`s_first_ino is ${this.firstInode}`);
    this.inodesPerBlock = this.blockSize / this.inodeSize;
    this.inodeTableBlocks = Math.ceil(this.inodesPerGroup / this.inodesPerBlock);
    this.groupCount = Math.ceil((this.blocksCount - this.firstDataBlock) / this.blocksPerGroup);
    this.inodesCount = get(SUPERBLOCK.s_inodes_count);
    if (this.inodesCount !== this.groupCount * this.inodesPerGroup) {
      throw bad(`s_inodes_count is ${this.inodesCount}, the groups hold ${this.groupCount * this.inodesPerGroup}`);
    }
    const descSize = has64bit ? get(SUPERBLOCK.s_desc_size) : EXT2_MIN_DESC_SIZE;
    if (descSize < (has64bit ? 64 : 32) || descSize > this.blockSize || (descSize & (descSize - 1)) !== 0) {
      throw bad(`s_desc_size is ${descSize}`);
    }
    this.descSize = descSize;
    this.descsPerBlock = this.blockSize / descSize;
    this.reservedGdtBlocks = get(SUPERBLOCK.s_reserved_gdt_blocks);
    const logFlex = get(SUPERBLOCK.s_log_groups_per_flex);
    if (logFlex > 31) throw bad(`s_log_groups_per_flex is ${logFlex}`);
    this.groupsPerFlex = (this.incompat & INCOMPAT.flex_bg) !== 0 ? 2 ** logFlex : 1;
    this.metadataCsum = (this.roCompat & RO_COMPAT.metadata_csum) !== 0;
    this.gdtCsum = !this.metadataCsum && (this.roCompat & RO_COMPAT.uninit_bg) !== 0;
    this.uuid = SUPERBLOCK.s_uuid.of(bytes, 0).slice();
    this.csumSeed =
      (this.incompat & INCOMPAT.metadata_csum_seed) !== 0
        ? get(SUPERBLOCK.s_checksum_seed)
        : crc32c(0xffffffff, this.uuid);
    if (this.metadataCsum) {
      const type = get(SUPERBLOCK.s_checksum_type);
      if (type !== 1) throw bad(`s_checksum_type is ${type}, only crc32c (1) exists`);
    }
    this.hashSeed = SUPERBLOCK.s_hash_seed.of(bytes, 0).slice();
    this.hashVersion = get(SUPERBLOCK.s_def_hash_version);
    this.hashUnsigned = (get(SUPERBLOCK.s_flags) & EXT2_FLAGS_UNSIGNED_HASH) !== 0;
    const extraIsizes = this.extraIsizes(get(SUPERBLOCK.s_want_extra_isize), get(SUPERBLOCK.s_min_extra_isize));
    this.wantExtraIsize = extraIsizes.want;
    this.minExtraIsize = extraIsizes.min;
    this.encoding = get(SUPERBLOCK.s_encoding);
    this.strictEncoding = (get(SUPERBLOCK.s_encoding_flags) & EXT4_ENC_STRICT_MODE_FL) !== 0;
    this.orphanFileInum = (this.compat & COMPAT.orphan_file) !== 0 ? get(SUPERBLOCK.s_orphan_file_inum) : 0;
    this.quotaInums = quotaInums(this, get);
    this.backupGroups = [SUPERBLOCK.s_backup_bg0, SUPERBLOCK.s_backup_bg1].map(get).filter((group) => group > 0);
    this.firstMetaBg = get(SUPERBLOCK.s_first_meta_bg);
    const gdtBlocks = Math.ceil(this.groupCount / this.descsPerBlock);
    if ((this.incompat & INCOMPAT.meta_bg) !== 0 && this.firstMetaBg > gdtBlocks) {
      throw bad(`s_first_meta_bg is ${this.firstMetaBg}, there are ${gdtBlocks} blocks of group descriptors`);
    }
    this.mmpBlock = get(SUPERBLOCK.s_mmp_block);
    this.mmpUpdateSeconds = get(SUPERBLOCK.s_mmp_update_interval);
    this.hasJournal = (this.compat & COMPAT.has_journal) !== 0;
    this.journalUuid = SUPERBLOCK.s_journal_uuid.of(bytes, 0).slice();
    this.defaultMountOpts = get(SUPERBLOCK.s_default_mount_opts);
    this.defaultResuid = get(SUPERBLOCK.s_def_resuid);
    this.defaultResgid = get(SUPERBLOCK.s_def_resgid);
    this.stateBefore = get(SUPERBLOCK.s_state);
    this.journalInum = (this.compat & COMPAT.has_journal) !== 0 ? get(SUPERBLOCK.s_journal_inum) : 0;
  }

  /** Reserved, the log, the orphan file or a quota file: nothing that a name or an orphan list may lead to, but for the root. */
  isOwnInode(ino: number): boolean {
    if (ino < this.firstInode || ino === this.journalInum || ino === this.orphanFileInum) return true;
    for (const quotaInum of this.quotaInums.values()) if (ino === quotaInum) return true;
    return false;
  }

  groupOf(block: number): number {
    return Math.floor((block - this.firstDataBlock) / this.blocksPerGroup);
  }

  groupFirstBlock(group: number): number {
    return this.firstDataBlock + group * this.blocksPerGroup;
  }

  /** Blocks in this group: fewer in the last one. */
  groupBlocks(group: number): number {
    return Math.min(this.blocksPerGroup, this.blocksCount - this.groupFirstBlock(group));
  }

  /** Clusters in this group: bits of its bitmap that mean something. Blocks behind the last whole cluster count as one. */
  groupClusters(group: number): number {
    return Math.ceil(this.groupBlocks(group) / this.clusterRatio);
  }

  /** The bit for this block in the bitmap of its group. */
  bitOf(block: number): number {
    return ((block - this.firstDataBlock) % this.blocksPerGroup) >>> this.clusterBits;
  }

  /** The first block of the cluster that this bit stands for. */
  blockOfBit(group: number, bit: number): number {
    return this.groupFirstBlock(group) + bit * this.clusterRatio;
  }

  /** ext4_inode_info_init: what the superblock asks for, if inodes are large enough for it. */
  private extraIsizes(wanted: number, least: number): { want: number; min: number } {
    const room = this.inodeSize - GOOD_OLD_INODE_SIZE;
    if (room <= 0) return { want: 0, min: 0 };
    if ((this.roCompat & RO_COMPAT.extra_isize) === 0) return { want: LEAST_EXTRA_ISIZE, min: 0 };
    const want = Math.max(LEAST_EXTRA_ISIZE, wanted & ~3, least & ~3);
    return want > room ? { want: LEAST_EXTRA_ISIZE, min: 0 } : { want, min: least & ~3 };
  }

  /** Clusters that it takes to hold so many blocks. */
  clustersFor(blocks: number): number {
    return Math.ceil(blocks / this.clusterRatio);
  }

  /** First block of the cluster that holds `block`, a number in the filesystem or in a file: the two keep step. */
  clusterStart(block: number): number {
    return block - (block % this.clusterRatio);
  }

  /** ext4_bg_has_super: groups that carry a superblock and descriptor copy. */
  groupHasSuper(group: number): boolean {
    if (group === 0) return true;
    if ((this.compat & COMPAT.sparse_super2) !== 0) return this.backupGroups.includes(group);
    if (group === 1) return true;
    if ((this.roCompat & RO_COMPAT.sparse_super) === 0) return true;
    if (group % 2 === 0) return false;
    for (const base of [3, 5, 7]) {
      let power = base;
      while (power < group) power *= base;
      if (power === group) return true;
    }
    return false;
  }

  /** Blocks of group descriptors in each copy that lies behind a superblock; with meta_bg those of the first groups only. */
  get gdtBlocks(): number {
    const all = Math.ceil(this.groupCount / this.descsPerBlock);
    return (this.incompat & INCOMPAT.meta_bg) !== 0 ? Math.min(all, this.firstMetaBg) : all;
  }

  /** Block number that holds the primary superblock; with clusters of 1k blocks it is not the first of group 0. */
  get superblockBlock(): number {
    return this.blockSize === 1024 ? 1 : 0;
  }

  /** Byte offset of the superblock inside that block. */
  get superblockOffset(): number {
    return this.blockSize === 1024 ? 0 : 1024;
  }
}

function quotaInums(
  { roCompat }: Geometry,
  get: (field: { get(v: ReadView, b: number): number }) => number,
): Map<QuotaType, number> {
  const inums = new Map<QuotaType, number>();
  if ((roCompat & RO_COMPAT.quota) === 0) return inums;
  inums.set('user', get(SUPERBLOCK.s_usr_quota_inum));
  inums.set('group', get(SUPERBLOCK.s_grp_quota_inum));
  if ((roCompat & RO_COMPAT.project) !== 0) inums.set('project', get(SUPERBLOCK.s_prj_quota_inum));
  for (const [type, ino] of inums) if (ino === 0) inums.delete(type);
  return inums;
}

const superblockKinds = new WeakMap<Geometry, BlockKind>();

/** The superblock's checksum is sealed at commit like any other block's. */
export function superblockKind(geometry: Geometry): BlockKind {
  let kind = superblockKinds.get(geometry);
  if (kind === undefined) {
    kind = {
      name: 'superblock',
      inFastCommits: true,
      beforeCommit(block) {
        if (!geometry.metadataCsum) return;
        const at = geometry.superblockOffset;
        SUPERBLOCK.s_checksum.set(block.view, at, crc32c(0xffffffff, block.bytes.subarray(at, at + 0x3fc)));
      },
    };
    superblockKinds.set(geometry, kind);
  }
  return kind;
}

export class Volume {
  readonly device: BlockDevice;
  readonly geometry: Geometry;
  readonly cache: BlockCache;
  readonly journal: Journal;
  readonly env: Environment;
  /** errors=remount-ro or an aborted journal end all writing. */
  private cannotWrite: boolean;
  readonly policy: MountPolicy;
  /** Tells other machines that this one uses the filesystem; null where nobody asks. */
  readonly multiMount: MultiMountProtection | null;
  /** The blocks of the log, where no file may have any. */
  readonly log: BlockRuns;
  /** Where the quota feature counts; null without it, and where nothing is written. */
  quotas: Quotas | null = null;
  /** What fast commits have to say; null where none are written. */
  fastCommits: FastCommitTracker | null = null;
  /** Inodes that were changed and whose i_extra_isize is smaller than it should be; see extra-isize.ts. */
  readonly narrowInodes = new Set<number>();
  /** The last transaction that changed an inode: what an fsync of it waits for (i_sync_tid). */
  private readonly changedIn = new Map<number, Tid>();
  private readonly onError: (error: CorruptionError) => void;

  constructor(parts: {
    device: BlockDevice;
    geometry: Geometry;
    cache: BlockCache;
    journal: Journal;
    env: Environment;
    readOnly: boolean;
    policy?: MountPolicy;
    multiMount?: MultiMountProtection | null;
    log?: BlockRuns;
    /** errors= policy: called for every corruption met, before it is thrown on. */
    onError: (error: CorruptionError) => void;
  }) {
    this.device = parts.device;
    this.geometry = parts.geometry;
    this.cache = parts.cache;
    this.journal = parts.journal;
    this.env = parts.env;
    this.cannotWrite = parts.readOnly;
    this.policy = parts.policy ?? policyOf(parts.geometry);
    this.multiMount = parts.multiMount ?? null;
    this.log = parts.log ?? new BlockRuns([]);
    this.onError = parts.onError;
  }

  /** A metadata block, verified. Throws CorruptionError for a number outside the filesystem. */
  read(nr: number, kind: BlockKind, owner = 0): CachedBlock {
    if (nr < this.geometry.firstDataBlock || nr >= this.geometry.blocksCount) {
      throw new CorruptionError(
        kind.name,
        `block ${nr}`,
        `outside the filesystem of ${this.geometry.blocksCount} blocks`,
      );
    }
    return this.cache.read(nr, kind, owner);
  }

  /** These blocks will be read soon ({@link BlockDevice.willRead}). The same once more, as the last time, is not told again. */
  willRead(first: number, count: number): void {
    if (first === this.toldFirst || first < 0 || first + count > this.geometry.blocksCount) return;
    this.toldFirst = first;
    const { blockSize } = this.geometry;
    this.device.willRead?.(first * blockSize, count * blockSize);
  }

  private toldFirst = -1;

  get readOnly(): boolean {
    return this.cannotWrite;
  }

  /** Nothing is written any more. */
  turnReadOnly(): void {
    this.cannotWrite = true;
    this.beforeDataMoves(null);
  }

  /** Called before an inode, or a mapping of its blocks, changes; null: of any. */
  beforeDataMoves: (ino: number | null) => void = () => {};

  noteChanged(ino: number, tid: Tid): void {
    this.changedIn.set(ino, tid);
    this.fastCommits?.noteInode(ino, tid);
    this.beforeDataMoves(ino);
  }

  /** The mapping of these blocks of an inode has changed, or their state, wherever in its tree that is written. */
  noteRange(ino: number, tid: Tid, lblk: number, count: number): void {
    this.changedIn.set(ino, tid);
    this.fastCommits?.noteRange(ino, tid, lblk, count);
  }

  /** The transaction an fsync of this inode has to wait for; undefined if nothing of it is uncommitted. */
  lastChange(ino: number): Tid | undefined {
    return this.changedIn.get(ino);
  }

  /** Forgets what transactions up to `tid`, now durable, have changed. */
  forgetChangesUpTo(tid: Tid): void {
    for (const [ino, changed] of this.changedIn) if (tidGeq(tid, changed)) this.changedIn.delete(ino);
  }

  /** The block that holds the superblock; the structure starts at `geometry.superblockOffset`. */
  superblock(): CachedBlock {
    return this.read(this.geometry.superblockBlock, superblockKind(this.geometry));
  }

  /** Tells the errors= policy about a corruption. */
  reportCorruption(error: CorruptionError): void {
    this.onError(error);
  }
}
