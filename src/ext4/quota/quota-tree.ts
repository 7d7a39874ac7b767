/** The tree of a quota file: entries by id (fs/quota/quota_tree.c). What a hostile file says leads at most four levels down. */
import type { Handle } from '../../jbd2/handle.js';
import {
  QT_REFERENCES,
  QT_TREEDEPTH,
  QT_TREEOFF,
  QUOTA_DATA_HEADER,
  QUOTA_ENTRIES_PER_BLOCK,
  QUOTA_ENTRY,
} from '../format/quota.js';
import type { QuotaBlock, QuotaFile, WritableQuotaBlock } from './quota-file.js';

/** Where the entry of an id is. */
interface Slot {
  readonly nr: number;
  readonly index: number;
}

/** Places remembered for each file. */
const MAX_REMEMBERED = 4096;

const entryAt = (base: number, index: number) => base + QUOTA_DATA_HEADER.SIZE + index * QUOTA_ENTRY.SIZE;

export class QuotaTree {
  readonly file: QuotaFile;
  private readonly slots = new Map<number, Slot>();

  constructor(file: QuotaFile) {
    this.file = file;
  }

  /** The entry of an id: where it is in a block; null if it has none. Throws CorruptionError. */
  find(id: number): QuotaBlock | null {
    const slot = this.slotOf(id);
    if (slot === null) return null;
    const { block, base } = this.file.block(slot.nr);
    return { block, base: entryAt(base, slot.index) };
  }

  /** To be changed; made, with nothing but its id, if there is none. Throws CorruptionError, FsError ENOSPC. */
  edit(handle: Handle, id: number): WritableQuotaBlock {
    const { nr, index } = this.slotOf(id) ?? this.insert(handle, id);
    const { block, base } = this.file.edit(handle, nr);
    return { block, base: entryAt(base, index) };
  }

  private slotOf(id: number): Slot | null {
    const known = this.slots.get(id);
    if (known !== undefined) return known;
    let nr = QT_TREEOFF;
    for (let depth = 0; depth < QT_TREEDEPTH; depth++) {
      nr = this.reference(nr, id, depth);
      if (nr === 0) return null;
    }
    const { block, base } = this.file.block(nr);
    for (let index = 0; index < QUOTA_ENTRIES_PER_BLOCK; index++) {
      const at = entryAt(base, index);
      if (QUOTA_ENTRY.dqb_id.get(block.view, at) !== id || isUnused(block, at)) continue;
      return this.remember(id, { nr, index });
    }
    throw this.file.bad(`block ${nr} should have the entry of id ${id}`);
  }

  private remember(id: number, slot: Slot): Slot {
    if (this.slots.size >= MAX_REMEMBERED) this.slots.clear();
    this.slots.set(id, slot);
    return slot;
  }

  /** A block number in a block of the tree, or 0. */
  private reference(nr: number, id: number, depth: number): number {
    const { block, base } = this.file.block(nr);
    return this.file.checkLink(block.view.getUint32(base + indexOf(id, depth) * 4, true));
  }

  /** do_insert_tree, from the leaf upwards. */
  private insert(handle: Handle, id: number): Slot {
    handle.onRollback(() => this.slots.clear());
    let parent = QT_TREEOFF;
    let depth = 0;
    for (; depth < QT_TREEDEPTH - 1; depth++) {
      const child = this.reference(parent, id, depth);
      if (child === 0) break;
      parent = child;
    }
    const slot = this.takeSlot(handle);
    const entry = this.file.edit(handle, slot.nr);
    const at = entryAt(entry.base, slot.index);
    QUOTA_ENTRY.dqb_id.set(entry.block.view, at, id);
    // Until its usage is set it must not look unused.
    QUOTA_ENTRY.dqb_itime.set(entry.block.view, at, 1);
    let child = slot.nr;
    for (let level = QT_TREEDEPTH - 1; level > depth; level--) {
      const nr = this.takeBlock(handle);
      const { block, base } = this.file.clear(handle, nr);
      block.view.setUint32(base + indexOf(id, level) * 4, child, true);
      child = nr;
    }
    const { block, base } = this.file.edit(handle, parent);
    block.view.setUint32(base + indexOf(id, depth) * 4, child, true);
    return this.remember(id, slot);
  }

  /** qtree_delete_dquot: the entry goes, and every block that it leaves empty, but for the root. */
  remove(handle: Handle, id: number): void {
    const slot = this.slotOf(id);
    if (slot === null) return;
    handle.onRollback(() => this.slots.clear());
    this.slots.delete(id);
    const path = [QT_TREEOFF];
    for (let depth = 0; depth < QT_TREEDEPTH - 1; depth++) path.push(this.reference(path[depth], id, depth));
    this.freeSlot(handle, slot);
    for (let depth = QT_TREEDEPTH - 1; depth >= 0; depth--) {
      const nr = path[depth];
      const { block, base } = this.file.edit(handle, nr);
      block.view.setUint32(base + indexOf(id, depth) * 4, 0, true);
      for (let i = 0; i < QT_REFERENCES; i++) if (block.view.getUint32(base + i * 4, true) !== 0) return;
      if (nr === QT_TREEOFF) return;
      this.freeBlock(handle, nr);
    }
  }

  /** get_free_dqblk. What it holds is the caller's to clear. */
  private takeBlock(handle: Handle): number {
    const { file } = this;
    const first = file.header('dqi_free_blk');
    if (first === 0) return file.append(handle);
    const { block, base } = file.block(file.checkReference(first));
    const next = file.checkLink(QUOTA_DATA_HEADER.dqdh_next_free.get(block.view, base));
    if (next === first || QUOTA_DATA_HEADER.dqdh_entries.get(block.view, base) !== 0)
      throw file.bad(`block ${first} is in the list of free blocks`);
    file.setHeader(handle, 'dqi_free_blk', next);
    return first;
  }

  /** put_free_dqblk */
  private freeBlock(handle: Handle, nr: number): void {
    const { block, base } = this.file.clear(handle, nr);
    QUOTA_DATA_HEADER.dqdh_next_free.set(block.view, base, this.file.header('dqi_free_blk'));
    this.file.setHeader(handle, 'dqi_free_blk', nr);
  }

  /** find_free_dqentry: a place for an entry, counted as used. */
  private takeSlot(handle: Handle): Slot {
    const { file } = this;
    let nr = file.header('dqi_free_entry');
    if (nr === 0) {
      nr = this.takeBlock(handle);
      file.clear(handle, nr);
      file.setHeader(handle, 'dqi_free_entry', nr);
    }
    const { block, base } = file.edit(handle, file.checkReference(nr));
    const entries = QUOTA_DATA_HEADER.dqdh_entries.get(block.view, base);
    let index = 0;
    while (index < QUOTA_ENTRIES_PER_BLOCK && !isUnused(block, entryAt(base, index))) index++;
    if (entries >= QUOTA_ENTRIES_PER_BLOCK || index === QUOTA_ENTRIES_PER_BLOCK)
      throw file.bad(`block ${nr} is full, and in the list of those that are not`);
    if (entries + 1 === QUOTA_ENTRIES_PER_BLOCK) this.unlist(handle, nr);
    QUOTA_DATA_HEADER.dqdh_entries.set(block.view, base, entries + 1);
    return { nr, index };
  }

  /** free_dqentry */
  private freeSlot(handle: Handle, { nr, index }: Slot): void {
    const { block, base } = this.file.edit(handle, nr);
    const at = entryAt(base, index);
    block.bytes.fill(0, at, at + QUOTA_ENTRY.SIZE);
    const entries = QUOTA_DATA_HEADER.dqdh_entries.get(block.view, base);
    if (entries === 0 || entries > QUOTA_ENTRIES_PER_BLOCK) throw this.file.bad(`block ${nr} has ${entries} entries`);
    QUOTA_DATA_HEADER.dqdh_entries.set(block.view, base, entries - 1);
    if (entries === 1) {
      this.unlist(handle, nr);
      this.freeBlock(handle, nr);
    } else if (entries === QUOTA_ENTRIES_PER_BLOCK) this.list(handle, nr);
  }

  /** insert_free_dqentry: the block gets to the head of the list of those with room. */
  private list(handle: Handle, nr: number): void {
    const { file } = this;
    const first = file.checkLink(file.header('dqi_free_entry'));
    if (first === nr) throw file.bad(`block ${nr} was full, and in the list of those that are not`);
    setLinks(file.edit(handle, nr), first, 0);
    if (first !== 0) setPrevious(file.edit(handle, first), nr);
    file.setHeader(handle, 'dqi_free_entry', nr);
  }

  /** remove_free_dqentry */
  private unlist(handle: Handle, nr: number): void {
    const { file } = this;
    const place = file.edit(handle, nr);
    const next = file.checkLink(QUOTA_DATA_HEADER.dqdh_next_free.get(place.block.view, place.base));
    const previous = file.checkLink(QUOTA_DATA_HEADER.dqdh_prev_free.get(place.block.view, place.base));
    if (previous === 0 && file.header('dqi_free_entry') !== nr)
      throw file.bad(`block ${nr} has room, and is not in the list of those`);
    if (next !== 0) setPrevious(file.edit(handle, next), previous);
    if (previous === 0) file.setHeader(handle, 'dqi_free_entry', next);
    else setNext(file.edit(handle, previous), next);
    setLinks(place, 0, 0);
  }

  /** Calls back with every entry, for those who look through all. Throws CorruptionError for a tree that meets itself. */
  forEach(visit: (place: QuotaBlock) => void): void {
    const seen = new Set<number>();
    const data = new Set<number>();
    const walk = (nr: number, depth: number) => {
      if (seen.has(nr)) throw this.file.bad(`block ${nr} is in the tree twice`);
      seen.add(nr);
      const { block, base } = this.file.block(nr);
      for (let i = 0; i < QT_REFERENCES; i++) {
        const child = this.file.checkLink(block.view.getUint32(base + i * 4, true));
        if (child === 0) continue;
        if (depth < QT_TREEDEPTH - 1) walk(child, depth + 1);
        else data.add(child);
      }
    };
    walk(QT_TREEOFF, 0);
    for (const nr of data) {
      if (seen.has(nr)) throw this.file.bad(`block ${nr} is in the tree, and has entries`);
      const { block, base } = this.file.block(nr);
      for (let index = 0; index < QUOTA_ENTRIES_PER_BLOCK; index++) {
        const at = entryAt(base, index);
        if (!isUnused(block, at)) visit({ block, base: at });
      }
    }
  }
}

/** get_index */
function indexOf(id: number, depth: number): number {
  return (id >>> (8 * (QT_TREEDEPTH - 1 - depth))) & 0xff;
}

/** qtree_entry_unused */
export function isUnused({ view }: QuotaBlock['block'], at: number): boolean {
  for (let i = 0; i < QUOTA_ENTRY.SIZE; i += 4) if (view.getUint32(at + i, true) !== 0) return false;
  return true;
}

function setNext({ block, base }: WritableQuotaBlock, nr: number): void {
  QUOTA_DATA_HEADER.dqdh_next_free.set(block.view, base, nr);
}

function setPrevious({ block, base }: WritableQuotaBlock, nr: number): void {
  QUOTA_DATA_HEADER.dqdh_prev_free.set(block.view, base, nr);
}

function setLinks(place: WritableQuotaBlock, next: number, previous: number): void {
  setNext(place, next);
  setPrevious(place, previous);
}
