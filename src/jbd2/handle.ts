/**
 * A handle: one atomic step of the filesystem inside the running transaction (handle_t). It runs in one synchronous
 * piece. If the step throws, every block it changed is put back as it was, so that a refusal in the middle (ENOSPC,
 * a corrupt block) leaves no half of an operation for the commit to log.
 */
import type { BlockCache, BlockKind, CachedBlock, WritableBlock } from './block-cache.js';
import type { Journal } from './journal.js';
import type { Transaction } from './transaction.js';

/** How one block looked before this handle: enough to put it back. */
export interface Undo {
  readonly block: CachedBlock;
  /** The content; null for a block that was not in memory and was created here. */
  readonly before: Uint8Array | null;
  readonly kind: BlockKind;
  readonly owner: number;
  /** The same array, not a copy: what is marked needlessly is verified or sealed once more. */
  readonly slots: Uint8Array | null;
  readonly transaction: Transaction | null;
  readonly dirty: boolean;
  readonly committedCopy: Uint8Array | null;
}

export class Handle {
  private readonly journal: Journal;
  private readonly cache: BlockCache;
  transaction: Transaction;
  /** Blocks this handle may still add to the transaction. */
  credits: number;
  /**
   * What this handle changes can be said in fast commits, and has been noted for them. A step that says nothing of it is
   * taken for one that cannot: it costs a full commit.
   */
  private inFastCommits: boolean;
  /** Nesting: `Journal.run` inside a handle joins it. */
  references = 1;

  private readonly undo: Undo[] = [];
  private readonly undoActions: (() => void)[] = [];
  private readonly commitActions: (() => void)[] = [];

  constructor(journal: Journal, cache: BlockCache, transaction: Transaction, credits: number, inFastCommits: boolean) {
    this.inFastCommits = inFastCommits;
    this.journal = journal;
    this.cache = cache;
    this.transaction = transaction;
    this.credits = credits;
  }

  /** Lets the caller change an existing block (jbd2_journal_get_write_access). Follow the change with dirtyMetadata. */
  getWriteAccess(block: CachedBlock): WritableBlock {
    if (block.undo === null) this.remember(block, this.journal.takeCopy(block));
    return block as WritableBlock;
  }

  /** A block being created: zeroed, its old content neither read nor kept (jbd2_journal_get_create_access). */
  getCreateAccess(nr: number, kind: BlockKind, owner = 0): WritableBlock {
    let block = this.cache.peek(nr);
    if (block === undefined) {
      block = this.cache.create(nr, kind, owner);
      this.remember(block, null);
      return block as WritableBlock;
    }
    const writable = this.getWriteAccess(block);
    writable.kind = kind;
    writable.owner = owner;
    writable.slots = null;
    writable.bytes.fill(0);
    return writable;
  }

  /** Something changes here that fast commits cannot say: the transaction is committed as a whole. */
  refuseFastCommit(): void {
    this.inFastCommits = false;
  }

  /** The block's change belongs to the transaction and will be logged (jbd2_journal_dirty_metadata). */
  dirtyMetadata(block: WritableBlock): void {
    if (block.dirty && block.transaction === this.transaction) return;
    const { undo } = block;
    if (undo === null) throw new Error(`block ${block.nr} was dirtied without write access`);
    if (block.kind.inFastCommits !== true) this.inFastCommits = false;
    this.join(block, undo);
    block.dirty = true;
    this.credits--;
    this.transaction.blocks.set(block.nr, block);
    this.revive(block);
  }

  /** A block that this transaction has freed is created again: it is logged, and its older copies may be replayed. */
  private revive(block: CachedBlock): void {
    const { forgotten, revoked } = this.transaction;
    if (!forgotten.delete(block)) return;
    const wasRevoked = revoked.delete(block.nr);
    this.undoActions.push(() => {
      forgotten.add(block);
      if (wasRevoked) revoked.add(block.nr);
    });
  }

  /**
   * The metadata block was freed: this transaction's copy is not logged, and if an earlier transaction still in the log
   * holds it, a revoke record keeps replay from writing it over what the block is used for next (jbd2_journal_revoke).
   */
  revoke(nr: number): void {
    const block = this.cache.peek(nr);
    if (block === undefined) return;
    // A block that is not in memory has no change left in the log: those are pinned until they are home.
    const { revoked } = this.transaction;
    if (block.checkpoint !== null && !revoked.has(nr)) {
      revoked.add(nr);
      this.undoActions.push(() => revoked.delete(nr));
    }
    this.forget(nr);
  }

  /** Takes a freed block out of the transaction without logging it (jbd2_journal_forget). */
  forget(nr: number): void {
    const block = this.cache.peek(nr);
    if (block === undefined) return;
    this.join(block, block.undo ?? this.remember(block, this.journal.takeCopy(block)));
    if (block.kind.inFastCommits !== true) this.inFastCommits = false;
    block.dirty = false;
    this.transaction.blocks.delete(nr);
    const { forgotten } = this.transaction;
    if (forgotten.has(block)) return;
    forgotten.add(block);
    this.undoActions.push(() => forgotten.delete(block));
  }

  /** Undoes in-memory state if this handle fails. Actions run newest first. */
  onRollback(action: () => void): void {
    this.undoActions.push(action);
  }

  /** Runs after the transaction is durable; not at all if this handle fails. */
  onCommit(action: () => void): void {
    this.commitActions.push(action);
  }

  /**
   * Makes room for `wanted` more blocks, and those that every handle may need besides: in this transaction if it can hold them, otherwise by ending this handle's
   * part here and continuing in a new transaction (ext4_journal_ensure_credits). Returns true if it restarted: what was
   * done so far is then a separate atomic step, so on-disk state must be consistent (or on the orphan list) at the call,
   * and every block needs getWriteAccess again.
   */
  ensureCredits(wanted: number): boolean {
    const credits = wanted + this.journal.extraCredits;
    if (this.credits >= credits) return false;
    if (this.journal.canExtend(this, credits - this.credits)) {
      this.credits = credits;
      return false;
    }
    // Half of a step, on either side of a commit.
    this.inFastCommits = false;
    this.complete();
    this.transaction = this.journal.restart(credits);
    this.credits = credits;
    return true;
  }

  /** Called by the journal when the outermost `run` returns, and at a restart. */
  complete(): void {
    if (this.undo.length > 0) {
      this.transaction.changes++;
      if (!this.inFastCommits) this.transaction.needsFullCommit = true;
    }
    for (const { block, before } of this.undo) {
      if (before !== null && block.committedCopy !== before) this.journal.returnCopy(before);
    }
    this.transaction.onCommit.push(...this.commitActions);
    this.reset();
  }

  /** Called by the journal when the step threw: everything as it was when the handle (re)started. */
  rollback(): void {
    for (let i = this.undoActions.length - 1; i >= 0; i--) this.undoActions[i]();
    for (const entry of this.undo) this.putBack(entry);
    this.reset();
  }

  private reset(): void {
    for (const { block } of this.undo) block.undo = null;
    this.undo.length = 0;
    this.undoActions.length = 0;
    this.commitActions.length = 0;
  }

  private remember(block: CachedBlock, before: Uint8Array | null): Undo {
    const undo: Undo = {
      block,
      before,
      kind: block.kind,
      owner: block.owner,
      slots: block.slots,
      transaction: block.transaction,
      dirty: block.dirty,
      committedCopy: block.committedCopy,
    };
    block.undo = undo;
    this.undo.push(undo);
    return undo;
  }

  private join(block: CachedBlock, undo: Undo): void {
    if (block.transaction === this.transaction) return;
    // A sealed transaction that has freed the block kept the committed content when it did.
    if (block.checkpoint !== null && block.transaction === null) block.committedCopy = undo.before;
    block.transaction = this.transaction;
    this.cache.pin(block);
  }

  private putBack(undo: Undo): void {
    const { block, before } = undo;
    if (before === null) {
      this.transaction.blocks.delete(block.nr);
      block.transaction = null;
      block.dirty = false;
      this.cache.drop(block);
      return;
    }
    (block.bytes as Uint8Array).set(before);
    block.kind = undo.kind;
    block.owner = undo.owner;
    block.slots = undo.slots;
    block.transaction = undo.transaction;
    block.dirty = undo.dirty;
    block.committedCopy = undo.committedCopy;
    this.journal.returnCopy(before);
    if (undo.dirty) this.transaction.blocks.set(block.nr, block);
    else this.transaction.blocks.delete(block.nr);
    this.cache.unpin(block);
  }
}
