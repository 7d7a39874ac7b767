/** The blocks of a hidden quota file, and its header. Everything goes through the log, like metadata. */
import { CorruptionError } from '../../errors.js';
import type { BlockKind, CachedBlock, WritableBlock } from '../../jbd2/block-cache.js';
import type { Handle } from '../../jbd2/handle.js';
import { allocateMetadataBlock, mapBlock } from '../block-map.js';
import { S_IFREG } from '../format/inode.js';
import {
  QT_TREEOFF,
  QUOTA_BLOCK_BYTES,
  QUOTA_FILE_MAX_BYTES,
  QUOTA_HEADER,
  QUOTA_MAGICS,
  QUOTA_VERSION,
} from '../format/quota.js';
import { type Ino, Inode } from '../inode.js';
import type { Volume } from '../volume.js';

/** The kinds of quota, in the kernel's order (USRQUOTA, GRPQUOTA, PRJQUOTA). */
export const QUOTA_TYPES = ['user', 'group', 'project'] as const;
export type QuotaType = (typeof QUOTA_TYPES)[number];

/** Its checksum is that of file data: there is none. */
const quotaBlock: BlockKind = { name: 'quota file block' };

/** A quota block: it begins at byte `base` of a block of the filesystem. */
export interface QuotaBlock {
  readonly block: CachedBlock;
  readonly base: number;
}

export interface WritableQuotaBlock {
  readonly block: WritableBlock;
  readonly base: number;
}

export class QuotaFile {
  readonly ino: Ino;
  readonly type: QuotaType;
  private readonly vol: Volume;
  /** Where its blocks are: they do not move while the filesystem is open. */
  private readonly mapped = new Map<number, number>();

  /** Throws CorruptionError for a file that is not what its type promises. */
  constructor(vol: Volume, type: QuotaType, ino: Ino) {
    this.vol = vol;
    this.type = type;
    this.ino = ino;
    if (ino === vol.geometry.journalInum) throw this.bad('it is the log');
    const inode = Inode.load(vol, ino);
    if (inode.type !== S_IFREG) throw this.bad('it is not a regular file');
    if (inode.sizeBytes > QUOTA_FILE_MAX_BYTES) throw this.bad(`its size is ${inode.sizeBytes} bytes`);
    const { block, base } = this.block(0);
    const magic = QUOTA_HEADER.dqh_magic.get(block.view, base);
    if (magic !== QUOTA_MAGICS[QUOTA_TYPES.indexOf(type)]) throw this.bad('the magic number is missing');
    const version = QUOTA_HEADER.dqh_version.get(block.view, base);
    if (version !== QUOTA_VERSION) throw this.bad(`its version is ${version}`);
    const { blocks } = this;
    if (blocks <= QT_TREEOFF || blocks > Math.ceil(inode.sizeBytes / QUOTA_BLOCK_BYTES))
      throw this.bad(`dqi_blocks is ${blocks}, its size ${inode.sizeBytes} bytes`);
    this.checkLink(this.header('dqi_free_blk'));
    this.checkLink(this.header('dqi_free_entry'));
  }

  bad(finding: string): CorruptionError {
    return new CorruptionError(`${this.type} quota file`, `inode ${this.ino}`, finding);
  }

  header(field: keyof typeof QUOTA_HEADER & `dqi_${string}`): number {
    const { block, base } = this.block(0);
    return QUOTA_HEADER[field].get(block.view, base);
  }

  setHeader(handle: Handle, field: keyof typeof QUOTA_HEADER & `dqi_${string}`, value: number): void {
    const { block, base } = this.edit(handle, 0);
    QUOTA_HEADER[field].set(block.view, base, value);
  }

  /** Blocks of 1024 bytes that are in use or in the list of free ones. */
  get blocks(): number {
    return this.header('dqi_blocks');
  }

  /** A reference to a block that is neither the header nor the root. Throws CorruptionError. */
  checkReference(nr: number): number {
    const { blocks } = this;
    if (nr <= QT_TREEOFF || nr >= blocks) throw this.bad(`a reference to block ${nr} of ${blocks}`);
    return nr;
  }

  /** The same, or 0 at the end of a list. */
  checkLink(nr: number): number {
    return nr === 0 ? 0 : this.checkReference(nr);
  }

  block(nr: number): QuotaBlock {
    const { blockSize } = this.vol.geometry;
    const at = nr * QUOTA_BLOCK_BYTES;
    return { block: this.vol.read(this.placeOf(Math.floor(at / blockSize)), quotaBlock), base: at % blockSize };
  }

  edit(handle: Handle, nr: number): WritableQuotaBlock {
    const { block, base } = this.block(nr);
    const writable = handle.getWriteAccess(block);
    handle.dirtyMetadata(writable);
    return { block: writable, base };
  }

  /** The same, all zero. */
  clear(handle: Handle, nr: number): WritableQuotaBlock {
    const place = this.edit(handle, nr);
    place.block.bytes.fill(0, place.base, place.base + QUOTA_BLOCK_BYTES);
    return place;
  }

  /** One more block at the end, all zero. Throws FsError ENOSPC. */
  append(handle: Handle): number {
    const { blockSize } = this.vol.geometry;
    const nr = this.blocks;
    const end = (nr + 1) * QUOTA_BLOCK_BYTES;
    if (end > QUOTA_FILE_MAX_BYTES) throw this.bad('it is full');
    const lblk = Math.floor((nr * QUOTA_BLOCK_BYTES) / blockSize);
    const inode = Inode.load(this.vol, this.ino);
    if (mapBlock(inode, lblk).pblk === 0) {
      handle.onRollback(() => this.mapped.delete(lblk));
      const pblk = allocateMetadataBlock(handle, inode, lblk);
      handle.dirtyMetadata(handle.getCreateAccess(pblk, quotaBlock));
    }
    this.clear(handle, nr);
    this.setHeader(handle, 'dqi_blocks', nr + 1);
    const current = Inode.load(this.vol, this.ino);
    if (current.sizeBytes < end) current.edit(handle).setSizeBytes(end);
    return nr;
  }

  private placeOf(lblk: number): number {
    let pblk = this.mapped.get(lblk);
    if (pblk !== undefined) return pblk;
    const mapping = mapBlock(Inode.load(this.vol, this.ino), lblk);
    if (mapping.pblk === 0 || mapping.unwritten) throw this.bad(`block ${lblk} is missing`);
    pblk = mapping.pblk;
    this.mapped.set(lblk, pblk);
    return pblk;
  }
}
