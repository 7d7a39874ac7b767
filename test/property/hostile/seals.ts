/**
 * The checksums of ext4 and jbd2, worked out a second time: apart from the engine, so that damage with a right checksum
 * reaches the checks behind the checksums, and so that engine and test do not share a mistake. Places come from the
 * sound image; what is summed is as it stands in the damaged one.
 */
import { crc16, crc32c, crc32cLe32 } from '../../../src/codec/crc.js';
import { ownView, type WriteView } from '../../../src/codec/view.js';
import { FC_TAIL } from '../../../src/ext4/format/fast-commit.js';
import { GROUP_DESC } from '../../../src/ext4/format/group-desc.js';
import { INODE } from '../../../src/ext4/format/inode.js';
import { MMP } from '../../../src/ext4/format/mmp.js';
import { ORPHAN_BLOCK_TAIL } from '../../../src/ext4/format/orphan-file.js';
import { SUPERBLOCK, SUPERBLOCK_OFFSET } from '../../../src/ext4/format/superblock.js';
import { XATTR_HEADER } from '../../../src/ext4/format/xattr.js';
import type { Geometry } from '../../../src/ext4/volume.js';
import { BLOCK_TAG3, JOURNAL_SUPERBLOCK } from '../../../src/jbd2/format.js';
import type { ScratchImage } from './scratch-image.js';
import type { Seal } from './structures.js';

const ZEROES = new Uint8Array(8);
const nothing: Seal = () => {};

/** Where the sound image keeps what a group's descriptor names. */
export interface GroupPlaces {
  /** Byte offset of the descriptor. */
  readonly descriptor: number;
  readonly blockBitmap: number;
  readonly inodeBitmap: number;
  readonly inodeTable: number;
}

export function sealSuperblock(image: ScratchImage): void {
  const bytes = image.writable(SUPERBLOCK_OFFSET, SUPERBLOCK.SIZE);
  SUPERBLOCK.s_checksum.set(ownView(bytes), 0, crc32c(0xffffffff, bytes.subarray(0, SUPERBLOCK.s_checksum.offset)));
}

export class Seals {
  private readonly geometry: Geometry;
  private readonly groups: readonly GroupPlaces[];

  constructor(geometry: Geometry, groups: readonly GroupPlaces[]) {
    this.geometry = geometry;
    this.groups = groups;
  }

  get superblock(): Seal {
    return this.geometry.metadataCsum ? sealSuperblock : nothing;
  }

  /** The tail's value lies at this byte of the last block; `blocks` are byte offsets. */
  fastCommit(blocks: readonly number[], blockSize: number, tailAt: number): Seal {
    return (image) => {
      let crc = 0;
      for (const at of blocks.slice(0, -1)) crc = crc32c(crc, image.bytes.subarray(at, at + blockSize));
      const last = image.writable(blocks[blocks.length - 1], blockSize);
      crc = crc32c(crc, last.subarray(0, tailAt + FC_TAIL.fc_crc.offset));
      FC_TAIL.fc_crc.set(ownView(last), tailAt, crc);
    };
  }

  descriptor(group: number): Seal {
    const { descSize, metadataCsum, gdtCsum, csumSeed, uuid } = this.geometry;
    if (!metadataCsum && !gdtCsum) return nothing;
    const at = this.groups[group].descriptor;
    return (image) => {
      const bytes = image.writable(at, descSize);
      const field = GROUP_DESC.bg_checksum;
      const before = bytes.subarray(0, field.offset);
      const after = bytes.subarray(field.offset + 2);
      let crc: number;
      if (metadataCsum) {
        crc = crc32c(crc32c(crc32c(crc32cLe32(csumSeed, group), before), ZEROES.subarray(0, 2)), after);
      } else {
        const number = new Uint8Array([group, group >>> 8, group >>> 16, group >>> 24]);
        crc = crc16(crc16(crc16(crc16(0xffff, uuid), number), before), after);
      }
      field.set(ownView(bytes), 0, crc & 0xffff);
    };
  }

  bitmap(group: number, which: 'block' | 'inode'): Seal {
    const { blockSize, metadataCsum, blocksPerGroup, inodesPerGroup, descSize, csumSeed } = this.geometry;
    if (!metadataCsum) return nothing;
    const places = this.groups[group];
    const start = (which === 'block' ? places.blockBitmap : places.inodeBitmap) * blockSize;
    const bytes = (which === 'block' ? blocksPerGroup : inodesPerGroup) / 8;
    const [lo, hi] =
      which === 'block'
        ? [GROUP_DESC.bg_block_bitmap_csum_lo, GROUP_DESC.bg_block_bitmap_csum_hi]
        : [GROUP_DESC.bg_inode_bitmap_csum_lo, GROUP_DESC.bg_inode_bitmap_csum_hi];
    const descriptor = this.descriptor(group);
    return (image) => {
      const crc = crc32c(csumSeed, image.bytes.subarray(start, start + bytes));
      const view = ownView(image.writable(places.descriptor, descSize));
      lo.set(view, 0, crc & 0xffff);
      if (descSize >= 64) hi.set(view, 0, crc >>> 16);
      descriptor(image);
    };
  }

  /** Byte offset of an inode. */
  inodeAt(ino: number): number {
    const { inodesPerGroup, inodeSize, blockSize } = this.geometry;
    const { inodeTable } = this.groups[Math.floor((ino - 1) / inodesPerGroup)];
    return inodeTable * blockSize + ((ino - 1) % inodesPerGroup) * inodeSize;
  }

  inode(ino: number): Seal {
    const { metadataCsum, inodeSize } = this.geometry;
    if (!metadataCsum) return nothing;
    const at = this.inodeAt(ino);
    return (image) => {
      const bytes = image.writable(at, inodeSize);
      const view = ownView(bytes);
      const large = inodeSize > 128 && INODE.i_extra_isize.get(view, 0) >= 4;
      INODE.i_checksum_lo.set(view, 0, 0);
      if (large) INODE.i_checksum_hi.set(view, 0, 0);
      const crc = crc32c(this.inodeSeed(view, ino), bytes);
      INODE.i_checksum_lo.set(view, 0, crc & 0xffff);
      if (large) INODE.i_checksum_hi.set(view, 0, crc >>> 16);
    };
  }

  private inodeSeed(view: WriteView, ino: number): number {
    return crc32cLe32(crc32cLe32(this.geometry.csumSeed, ino), INODE.i_generation.get(view, 0));
  }

  private block(image: ScratchImage, nr: number): { bytes: Uint8Array; view: WriteView } {
    const { blockSize } = this.geometry;
    const bytes = image.writable(nr * blockSize, blockSize);
    return { bytes, view: ownView(bytes) };
  }

  private seedIn(image: ScratchImage, ino: number): number {
    const at = this.inodeAt(ino);
    return this.inodeSeed(ownView(image.bytes.subarray(at)), ino);
  }

  /** Behind the last entry that eh_max allows, wherever that is now. */
  extentBlock(nr: number, ino: number): Seal {
    if (!this.geometry.metadataCsum) return nothing;
    return (image) => {
      const { bytes, view } = this.block(image, nr);
      const tail = 12 + 12 * view.getUint16(4, true);
      if (tail + 4 > bytes.length) return;
      view.setUint32(tail, crc32c(this.seedIn(image, ino), bytes.subarray(0, tail)), true);
    };
  }

  /** Of a leaf, or of an index block whose entries begin at `entriesAt`. */
  directoryBlock(nr: number, ino: number, entriesAt: number): Seal {
    if (!this.geometry.metadataCsum) return nothing;
    return (image) => {
      const { bytes, view } = this.block(image, nr);
      const seed = this.seedIn(image, ino);
      if (entriesAt === 0) {
        view.setUint32(bytes.length - 4, crc32c(seed, bytes.subarray(0, bytes.length - 12)), true);
        return;
      }
      const tail = entriesAt + 8 * view.getUint16(entriesAt, true);
      const used = entriesAt + 8 * view.getUint16(entriesAt + 2, true);
      if (tail + 8 > bytes.length || used > tail) return;
      const crc = crc32c(crc32c(seed, bytes.subarray(0, used)), bytes.subarray(tail, tail + 4));
      view.setUint32(tail + 4, crc32c(crc, ZEROES.subarray(0, 4)), true);
    };
  }

  attributeBlock(nr: number): Seal {
    if (!this.geometry.metadataCsum) return nothing;
    return (image) => {
      const { bytes, view } = this.block(image, nr);
      XATTR_HEADER.h_checksum.set(view, 0, 0);
      XATTR_HEADER.h_checksum.set(view, 0, crc32c(crc32c(this.geometry.csumSeed, le64(nr)), bytes));
    };
  }

  orphanBlock(nr: number, ino: number): Seal {
    if (!this.geometry.metadataCsum) return nothing;
    return (image) => {
      const { bytes, view } = this.block(image, nr);
      const tail = bytes.length - ORPHAN_BLOCK_TAIL.SIZE;
      const crc = crc32c(crc32c(this.seedIn(image, ino), le64(nr)), bytes.subarray(0, tail));
      ORPHAN_BLOCK_TAIL.ob_checksum.set(view, tail, crc);
    };
  }

  mmpBlock(nr: number): Seal {
    const { metadataCsum, csumSeed } = this.geometry;
    if (!metadataCsum) return nothing;
    return (image) => {
      const { bytes, view } = this.block(image, nr);
      MMP.mmp_checksum.set(view, 0, crc32c(csumSeed, bytes.subarray(0, MMP.mmp_checksum.offset)));
    };
  }

  // The log; checksum v3, as the engine writes it where the filesystem has metadata_csum.

  journalSuperblock(nr: number): Seal {
    if (!this.geometry.metadataCsum) return nothing;
    return (image) => {
      const { bytes, view } = this.block(image, nr);
      JOURNAL_SUPERBLOCK.s_checksum.set(view, 0, 0);
      JOURNAL_SUPERBLOCK.s_checksum.set(view, 0, crc32c(0xffffffff, bytes.subarray(0, 1024)));
    };
  }

  /** Descriptor and revoke blocks. */
  recordTail(nr: number, journal: number): Seal {
    if (!this.geometry.metadataCsum) return nothing;
    return (image) => {
      const { bytes, view } = this.block(image, nr);
      view.setUint32(bytes.length - 4, 0);
      view.setUint32(bytes.length - 4, crc32c(this.journalSeed(image, journal), bytes));
    };
  }

  commitBlock(nr: number, journal: number): Seal {
    if (!this.geometry.metadataCsum) return nothing;
    return (image) => {
      const { bytes, view } = this.block(image, nr);
      view.setUint32(0x10, 0);
      view.setUint32(0x10, crc32c(this.journalSeed(image, journal), bytes));
    };
  }

  /** A block in the log: its tag in the descriptor, then the descriptor. */
  loggedBlock(nr: number, descriptor: number, tagAt: number, tid: number, journal: number): Seal {
    if (!this.geometry.metadataCsum) return nothing;
    const tail = this.recordTail(descriptor, journal);
    const sequence = new Uint8Array([tid >>> 24, tid >>> 16, tid >>> 8, tid]);
    return (image) => {
      const { bytes } = this.block(image, nr);
      const crc = crc32c(crc32c(this.journalSeed(image, journal), sequence), bytes);
      BLOCK_TAG3.t_checksum.set(this.block(image, descriptor).view, tagAt, crc);
      tail(image);
    };
  }

  private journalSeed(image: ScratchImage, journal: number): number {
    return crc32c(0xffffffff, JOURNAL_SUPERBLOCK.s_uuid.of(this.block(image, journal).bytes, 0));
  }
}

function le64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = ownView(bytes);
  view.setUint32(0, value >>> 0, true);
  view.setUint32(4, Math.floor(value / 0x1_0000_0000), true);
  return bytes;
}
