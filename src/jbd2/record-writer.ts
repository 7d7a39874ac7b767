/** Encodes log records into a buffer of whole blocks: descriptors with their tags, revoke blocks, the commit block. */
import { crc32c } from '../codec/crc.js';
import { ownView, type ReadBytes, type WriteView } from '../codec/view.js';
import {
  BLOCK_TAG,
  BLOCK_TAG3,
  BLOCK_TAIL,
  BlockType,
  COMMIT_HEADER,
  JBD2_MAGIC,
  JOURNAL_HEADER,
  REVOKE_HEADER,
  TagFlag,
} from './format.js';
import type { JournalSuperblock } from './journal-superblock.js';
import type { Tid } from './tid.js';

const UUID_BYTES = 16;

/** How this log lays out its records: follows from its features. */
export class RecordShape {
  readonly blockSize: number;
  readonly csumV3: boolean;
  readonly csumV2: boolean;
  readonly is64bit: boolean;
  readonly tagBytes: number;
  readonly tailBytes: number;
  readonly revokeBytes: number;
  readonly seed: number;
  readonly uuid: Uint8Array;

  constructor(superblock: JournalSuperblock) {
    this.blockSize = superblock.blockSize;
    this.csumV3 = superblock.hasIncompat('CSUM_V3');
    this.csumV2 = superblock.hasIncompat('CSUM_V2');
    this.is64bit = superblock.hasIncompat('64BIT');
    this.tagBytes = tagBytes(superblock);
    this.tailBytes = superblock.checksummed ? BLOCK_TAIL.SIZE : 0;
    this.revokeBytes = this.is64bit ? 8 : 4;
    this.seed = superblock.seed;
    this.uuid = superblock.uuid;
  }

  /** Blocks that one descriptor can name. */
  get tagsPerDescriptor(): number {
    return Math.floor((this.blockSize - JOURNAL_HEADER.SIZE - UUID_BYTES - this.tailBytes) / this.tagBytes);
  }

  get revokesPerBlock(): number {
    return Math.floor((this.blockSize - REVOKE_HEADER.SIZE - this.tailBytes) / this.revokeBytes);
  }

  /** Log blocks that a transaction of so many blocks and revokes occupies, its commit block included. */
  logBlocks(blocks: number, revokes: number): number {
    return blocks + Math.ceil(blocks / this.tagsPerDescriptor) + Math.ceil(revokes / this.revokesPerBlock) + 1;
  }
}

/** journal_tag_bytes */
export function tagBytes(superblock: JournalSuperblock): number {
  if (superblock.hasIncompat('CSUM_V3')) return BLOCK_TAG3.SIZE;
  // An old kernel's quirk kept for compatibility: v2 tags are two bytes longer than their fields.
  const size = BLOCK_TAG.SIZE + (superblock.hasIncompat('CSUM_V2') ? 2 : 0);
  return superblock.hasIncompat('64BIT') ? size : size - 4;
}

const sequence = new Uint8Array(4);

/** jbd2_block_tag_csum_set: over the transaction's tid and the block as it stands in the log. */
export function tagChecksum(seed: number, tid: Tid, block: ReadBytes): number {
  sequence[0] = tid >>> 24;
  sequence[1] = tid >>> 16;
  sequence[2] = tid >>> 8;
  sequence[3] = tid;
  return crc32c(crc32c(seed, sequence), block);
}

/** Writes records one after the other into `buffer`, which starts zeroed. */
export class RecordWriter {
  readonly buffer: Uint8Array;
  private readonly shape: RecordShape;
  private readonly tid: Tid;
  private position = 0;

  constructor(shape: RecordShape, tid: Tid, blocks: number) {
    this.shape = shape;
    this.tid = tid;
    this.buffer = new Uint8Array(blocks * shape.blockSize);
  }

  get blocksWritten(): number {
    return this.position / this.shape.blockSize;
  }

  /** One revoke block for up to `revokesPerBlock` block numbers. */
  revokeBlock(revoked: readonly number[]): void {
    const { block, view } = this.next(BlockType.REVOKE);
    let at = REVOKE_HEADER.SIZE;
    for (const nr of revoked) {
      if (this.shape.is64bit) {
        view.setUint32(at, Math.floor(nr / 0x1_0000_0000));
        view.setUint32(at + 4, nr >>> 0);
      } else {
        view.setUint32(at, nr);
      }
      at += this.shape.revokeBytes;
    }
    REVOKE_HEADER.r_count.set(view, 0, at);
    this.sealTail(block, view);
  }

  /**
   * One descriptor for up to `tagsPerDescriptor` blocks, followed by copies of them. A block that starts with the
   * journal's magic number is escaped, or recovery would take it for a record.
   */
  descriptorWithBlocks(blocks: readonly { readonly nr: number; readonly bytes: ReadBytes }[]): void {
    const { blockSize, csumV3 } = this.shape;
    const { block: descriptor, view } = this.next(BlockType.DESCRIPTOR);
    let at = JOURNAL_HEADER.SIZE;
    blocks.forEach(({ nr, bytes }, index) => {
      const copy = this.take();
      copy.set(bytes as Uint8Array);
      const copyView = ownView(copy);
      let flags = 0;
      if (copyView.getUint32(0) === JBD2_MAGIC) {
        copyView.setUint32(0, 0);
        flags |= TagFlag.ESCAPE;
      }
      if (index > 0) flags |= TagFlag.SAME_UUID;
      if (index === blocks.length - 1) flags |= TagFlag.LAST_TAG;
      this.tag(view, at, nr, flags, copy);
      at += this.shape.tagBytes;
      if (index === 0) {
        descriptor.set(this.shape.uuid, at);
        at += UUID_BYTES;
      }
    });
    if (at > blockSize - this.shape.tailBytes)
      throw new Error(`${blocks.length} tags do not fit a descriptor (v3: ${csumV3})`);
    this.sealTail(descriptor, view);
  }

  /** The commit block: with it in the log the transaction exists. */
  commitBlock(now: { seconds: number; nanoseconds: number }): void {
    const { block, view } = this.next(BlockType.COMMIT);
    const at = COMMIT_HEADER.h_commit_sec.offset;
    view.setUint32(at, Math.floor(now.seconds / 0x1_0000_0000));
    view.setUint32(at + 4, now.seconds >>> 0);
    COMMIT_HEADER.h_commit_nsec.set(view, 0, now.nanoseconds);
    if (this.shape.csumV2 || this.shape.csumV3) {
      view.setUint32(COMMIT_HEADER.h_chksum.offset, crc32c(this.shape.seed, block));
    }
  }

  private tag(view: WriteView, at: number, nr: number, flags: number, copy: Uint8Array): void {
    const { csumV3, csumV2, is64bit, seed } = this.shape;
    const high = Math.floor(nr / 0x1_0000_0000);
    if (csumV3) {
      BLOCK_TAG3.t_blocknr.set(view, at, nr >>> 0);
      BLOCK_TAG3.t_flags.set(view, at, flags);
      BLOCK_TAG3.t_blocknr_high.set(view, at, high);
      BLOCK_TAG3.t_checksum.set(view, at, tagChecksum(seed, this.tid, copy));
      return;
    }
    BLOCK_TAG.t_blocknr.set(view, at, nr >>> 0);
    BLOCK_TAG.t_flags.set(view, at, flags);
    if (is64bit) BLOCK_TAG.t_blocknr_high.set(view, at, high);
    if (csumV2) BLOCK_TAG.t_checksum.set(view, at, tagChecksum(seed, this.tid, copy) & 0xffff);
  }

  /** jbd2_descr_block_csum_set, also used for revoke blocks. */
  private sealTail(block: Uint8Array, view: WriteView): void {
    if (this.shape.tailBytes === 0) return;
    BLOCK_TAIL.t_checksum.set(view, this.shape.blockSize - BLOCK_TAIL.SIZE, crc32c(this.shape.seed, block));
  }

  private next(type: number): { block: Uint8Array; view: WriteView } {
    const block = this.take();
    const view = ownView(block);
    JOURNAL_HEADER.h_magic.set(view, 0, JBD2_MAGIC);
    JOURNAL_HEADER.h_blocktype.set(view, 0, type);
    JOURNAL_HEADER.h_sequence.set(view, 0, this.tid);
    return { block, view };
  }

  private take(): Uint8Array {
    const block = this.buffer.subarray(this.position, this.position + this.shape.blockSize);
    this.position += this.shape.blockSize;
    return block;
  }
}
