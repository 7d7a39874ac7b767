/** The orphan file: an array of inode numbers, so that adding and removing touches no other inode. */
import { crc32c } from '../codec/crc.js';
import { ownView } from '../codec/view.js';
import { CorruptionError } from '../errors.js';
import type { BlockKind, CachedBlock } from '../jbd2/block-cache.js';
import type { Handle } from '../jbd2/handle.js';
import { mapBlock } from './block-map.js';
import { EXT4_ORPHAN_BLOCK_MAGIC, ORPHAN_BLOCK_TAIL } from './format/orphan-file.js';
import { type Ino, Inode } from './inode.js';
import type { Volume } from './volume.js';

const kinds = new WeakMap<Volume, BlockKind>();
const blockNumber = ownView(new Uint8Array(8));
const blockNumberBytes = new Uint8Array(8);

/** ext4_orphan_file_block_csum: the block's own number, then its entries. */
function checksum(block: CachedBlock, entriesBytes: number): number {
  blockNumber.setUint32(0, block.nr >>> 0, true);
  blockNumber.setUint32(4, Math.floor(block.nr / 0x1_0000_0000), true);
  for (let i = 0; i < 8; i++) blockNumberBytes[i] = blockNumber.getUint8(i);
  return crc32c(crc32c(block.owner, blockNumberBytes), block.bytes.subarray(0, entriesBytes));
}

function orphanFileKind(vol: Volume): BlockKind {
  let kind = kinds.get(vol);
  if (kind !== undefined) return kind;
  const tail = vol.geometry.blockSize - ORPHAN_BLOCK_TAIL.SIZE;
  kind = {
    name: 'orphan file block',
    inFastCommits: true,
    verify(block) {
      const place = `block ${block.nr}`;
      if (ORPHAN_BLOCK_TAIL.ob_magic.get(block.view, tail) !== EXT4_ORPHAN_BLOCK_MAGIC) {
        throw new CorruptionError('orphan file block', place, 'the magic number is missing');
      }
      if (vol.geometry.metadataCsum && ORPHAN_BLOCK_TAIL.ob_checksum.get(block.view, tail) !== checksum(block, tail)) {
        throw new CorruptionError('orphan file block', place, 'its checksum does not match', 'EBADMSG');
      }
    },
    beforeCommit(block) {
      if (vol.geometry.metadataCsum) ORPHAN_BLOCK_TAIL.ob_checksum.set(block.view, tail, checksum(block, tail));
    },
  };
  kinds.set(vol, kind);
  return kind;
}

interface Slot {
  readonly lblk: number;
  readonly index: number;
}

export class OrphanFile {
  private readonly vol: Volume;
  private readonly slots = new Map<Ino, Slot>();
  private readonly blocks: number;
  private readonly perBlock: number;
  /** Where the next free slot is looked for. */
  private hint = 0;

  constructor(vol: Volume) {
    this.vol = vol;
    const { blockSize, orphanFileInum } = vol.geometry;
    this.blocks = Math.floor(Inode.load(vol, orphanFileInum).sizeBytes / blockSize);
    this.perBlock = (blockSize - ORPHAN_BLOCK_TAIL.SIZE) / 4;
    if (this.blocks < 1 || this.blocks > 512 * 1024) {
      throw new CorruptionError('orphan file', `inode ${orphanFileInum}`, `it has ${this.blocks} blocks`);
    }
    for (let lblk = 0; lblk < this.blocks; lblk++) {
      const { view } = this.block(lblk);
      for (let index = 0; index < this.perBlock; index++) {
        const ino = view.getUint32(index * 4, true);
        if (ino !== 0) this.slots.set(ino, { lblk, index });
      }
    }
  }

  get inodes(): Ino[] {
    return [...this.slots.keys()];
  }

  has(ino: Ino): boolean {
    return this.slots.has(ino);
  }

  /** False if there is no free slot. */
  add(handle: Handle, ino: Ino): boolean {
    const total = this.blocks * this.perBlock;
    if (this.slots.size >= total) return false;
    for (let i = 0; i < total; i++) {
      const at = (this.hint + i) % total;
      const slot = { lblk: Math.floor(at / this.perBlock), index: at % this.perBlock };
      if (this.block(slot.lblk).view.getUint32(slot.index * 4, true) !== 0) continue;
      this.put(handle, slot, ino);
      this.slots.set(ino, slot);
      this.hint = (at + 1) % total;
      handle.onRollback(() => this.slots.delete(ino));
      return true;
    }
    return false;
  }

  remove(handle: Handle, ino: Ino): void {
    const slot = this.slots.get(ino);
    if (slot === undefined) return;
    this.put(handle, slot, 0);
    this.slots.delete(ino);
    this.hint = slot.lblk * this.perBlock + slot.index;
    handle.onRollback(() => this.slots.set(ino, slot));
  }

  private put(handle: Handle, { lblk, index }: Slot, ino: Ino): void {
    const block = handle.getWriteAccess(this.block(lblk));
    block.view.setUint32(index * 4, ino, true);
    handle.dirtyMetadata(block);
  }

  private block(lblk: number): CachedBlock {
    const inode = Inode.load(this.vol, this.vol.geometry.orphanFileInum);
    const { pblk } = mapBlock(inode, lblk);
    if (pblk === 0) throw new CorruptionError('orphan file', `inode ${inode.ino}`, `block ${lblk} is missing`);
    return this.vol.read(pblk, orphanFileKind(this.vol), inode.seed);
  }
}
