/**
 * Metadata blocks in memory. Reading is free for everyone and yields read-only views; write access comes only from a
 * {@link Handle}. Blocks that a transaction or a pending checkpoint holds are pinned; the rest is an LRU that is
 * trimmed between operations, never inside one, so that a block found twice in one operation is the same object.
 */
import { LRUCache } from 'lru-cache';
import type { BlockDevice } from '../block/device.js';
import { type ReadBytes, type ReadView, readView, type WriteView } from '../codec/view.js';
import { CorruptionError } from '../errors.js';
import type { Undo } from './handle.js';
import type { Transaction } from './transaction.js';

/** What a block holds: how it is verified when read and sealed (checksums) when its transaction commits. */
export interface BlockKind {
  readonly name: string;
  /** What changes in such blocks follows from the records of fast commits: their replay makes it anew. */
  readonly inFastCommits?: boolean;
  /** Runs before the block is read from the device: others that will be wanted can be told to it ({@link BlockDevice.willRead}). */
  beforeRead?(nr: number, owner: number): void;
  /** Runs once after the block is read from the device. Throws CorruptionError. */
  verify?(block: CachedBlock): void;
  /**
   * Runs when the transaction that changed the block is sealed: the place for checksums, computed once per block and
   * transaction (jbd2's buffer triggers). Must touch no other block.
   */
  beforeCommit?(block: WritableBlock): void;
}

export class CachedBlock {
  readonly nr: number;
  readonly bytes: ReadBytes;
  readonly view: ReadView;
  kind: BlockKind;
  /** What the checksum is seeded with beyond the filesystem: the owning inode's seed, or 0. */
  owner: number;
  /** One byte for each record of the block, private to its kind (inode table: verified, changed). */
  slots: Uint8Array | null = null;

  /** The running transaction, if it has changed or freed this block. */
  transaction: Transaction | null = null;
  /** The last sealed transaction whose change of this block is not yet at its home location. */
  checkpoint: Transaction | null = null;
  /** What {@link checkpoint} sealed, kept while the running transaction changes a block that is not home yet. */
  committedCopy: Uint8Array | null = null;
  /** Changed in {@link transaction}, and not sealed yet. */
  dirty = false;
  /** How it was before the handle under way changed it. */
  undo: Undo | null = null;

  constructor(nr: number, bytes: Uint8Array, kind: BlockKind, owner: number) {
    this.nr = nr;
    this.bytes = bytes;
    this.view = readView(bytes);
    this.kind = kind;
    this.owner = owner;
  }

  get pinned(): boolean {
    return this.transaction !== null || this.checkpoint !== null;
  }
}

declare const writeAccess: unique symbol;

/** A block that a handle has joined to its transaction. Only `Handle` makes these. */
export interface WritableBlock extends CachedBlock {
  readonly bytes: Uint8Array;
  readonly view: WriteView;
  readonly [writeAccess]: true;
}

/** Enough for one operation on blocks that no transaction holds. */
const MIN_BLOCKS = 32;
/** The part of the cache that is kept when memory is short. */
const SHORT_SHARE = 16;

export class BlockCache {
  readonly device: BlockDevice;
  readonly blockSize: number;
  /** Unpinned blocks kept between operations, and how many of them when memory is short. */
  private readonly limitBlocks: number;
  private readonly shortBlocks: number;
  private memoryIsShort = false;
  private readonly clean: LRUCache<number, CachedBlock>;
  private readonly pinned = new Map<number, CachedBlock>();

  constructor(device: BlockDevice, blockSize: number, limitBytes = 32 << 20) {
    this.device = device;
    this.blockSize = blockSize;
    this.limitBlocks = Math.max(MIN_BLOCKS, Math.floor(limitBytes / blockSize));
    this.shortBlocks = Math.max(MIN_BLOCKS, Math.floor(this.limitBlocks / SHORT_SHARE));
    this.clean = new LRUCache({ max: this.limitBlocks * 2 });
    // An LRUCache that loses its last entry clears all its slots, which takes as long as a hundred blocks: one stays.
    this.clean.set(-1, new CachedBlock(-1, new Uint8Array(0), { name: 'no block' }, 0));
  }

  /** The block, read and verified if it was not in memory. Throws CorruptionError, or FsError EIO. */
  read(nr: number, kind: BlockKind, owner = 0): CachedBlock {
    const known = this.peek(nr);
    if (known !== undefined) {
      if (known.kind !== kind || known.owner !== owner) this.reclassify(known, kind, owner);
      return known;
    }
    kind.beforeRead?.(nr, owner);
    const bytes = new Uint8Array(this.blockSize);
    this.device.read(nr * this.blockSize, bytes);
    const block = new CachedBlock(nr, bytes, kind, owner);
    kind.verify?.(block);
    this.clean.set(nr, block);
    return block;
  }

  peek(nr: number): CachedBlock | undefined {
    return this.pinned.get(nr) ?? this.clean.get(nr);
  }

  /** A block about to be filled by its creator: zeroed memory, nothing read. Used by `Handle.getCreateAccess`. */
  create(nr: number, kind: BlockKind, owner: number): CachedBlock {
    const block = new CachedBlock(nr, new Uint8Array(this.blockSize), kind, owner);
    this.clean.set(nr, block);
    return block;
  }

  pin(block: CachedBlock): void {
    this.clean.delete(block.nr);
    this.pinned.set(block.nr, block);
  }

  /** Lets go of a block that no transaction holds any more. */
  unpin(block: CachedBlock): void {
    if (block.pinned) return;
    if (this.pinned.delete(block.nr)) this.clean.set(block.nr, block);
  }

  /** Drops a block whose content no longer matters. */
  drop(block: CachedBlock): void {
    this.pinned.delete(block.nr);
    this.clean.delete(block.nr);
  }

  /** Forgets the clean blocks of one kind: their homes will be written by others. */
  dropClean(kind: BlockKind): void {
    for (const [nr, block] of this.clean.entries()) if (block.kind === kind) this.clean.delete(nr);
  }

  /** Forgets clean blocks above the limit. Call between operations only. */
  trim(): void {
    const limit = this.memoryIsShort ? this.shortBlocks : this.limitBlocks;
    while (this.clean.size > limit) this.clean.pop();
  }

  /** While memory is short less is kept. */
  memoryShort(short: boolean): void {
    this.memoryIsShort = short;
  }

  /** Blocks in memory, pinned or not. */
  get cachedBlocks(): number {
    return this.pinned.size + this.clean.size;
  }

  get pinnedBlocks(): number {
    return this.pinned.size;
  }

  /** The same block asked for as something else: legal only if it was freed in between, which drops it from the cache. */
  private reclassify(block: CachedBlock, kind: BlockKind, owner: number): void {
    if (block.pinned) {
      throw new CorruptionError(kind.name, `block ${block.nr}`, `the block is in use as ${block.kind.name}`);
    }
    const asNew = new CachedBlock(block.nr, block.bytes as Uint8Array, kind, owner);
    kind.verify?.(asNew);
    block.kind = kind;
    block.owner = owner;
    block.slots = null;
  }
}
