/** Records of a fast commit laid out in blocks (ext4_fc_reserve_space, ext4_fc_write_tail): none lies across two of them. */
import { crc32c } from '../codec/crc.js';
import { ownView, type WriteView } from '../codec/view.js';
import type { FastCommitRequest } from '../jbd2/fast-area.js';
import type { NameChange } from './fast-commit-tracker.js';
import { EXT_INIT_MAX_LEN, EXTENT } from './format/extent.js';
import {
  EXT4_FC_TAG,
  FC_ADD_RANGE,
  FC_DEL_RANGE,
  FC_DENTRY_INFO,
  FC_HEAD,
  FC_INODE,
  FC_TAIL,
  FC_TL,
} from './format/fast-commit.js';
import type { Ino } from './inode.js';

export class FastCommitRecords {
  private readonly blockSize: number;
  private readonly limitBytes: number;
  private bytes: Uint8Array;
  private view: WriteView;
  private at = 0;
  private crc = 0;
  /** What was to be written did not fit: nothing more is taken. */
  full = false;
  /** Something but a head has been written. */
  hasChanges = false;

  /** Takes at most `limitBlocks`, and what the area has left. */
  constructor({ blockSize, maxBlocks, isFirst, tid }: FastCommitRequest, limitBlocks: number) {
    this.blockSize = blockSize;
    this.limitBytes = Math.min(maxBlocks, limitBlocks) * blockSize;
    this.bytes = new Uint8Array(Math.min(blockSize, this.limitBytes));
    this.view = ownView(this.bytes);
    if (!isFirst) return;
    this.put(EXT4_FC_TAG.HEAD, FC_HEAD.SIZE, (at) => FC_HEAD.fc_tid.set(this.view, at, tid));
    this.hasChanges = false;
  }

  name({ tag, parent, ino, name }: NameChange): void {
    this.put(EXT4_FC_TAG[tag], FC_DENTRY_INFO.SIZE + name.length, (at) => {
      FC_DENTRY_INFO.fc_parent_ino.set(this.view, at, parent);
      FC_DENTRY_INFO.fc_ino.set(this.view, at, ino);
      this.bytes.set(name, at + FC_DENTRY_INFO.SIZE);
    });
  }

  /** `raw` ends behind i_extra_isize. */
  inode(ino: Ino, raw: Uint8Array): void {
    this.put(EXT4_FC_TAG.INODE, FC_INODE.SIZE + raw.length, (at) => {
      FC_INODE.fc_ino.set(this.view, at, ino);
      this.bytes.set(raw, at + FC_INODE.SIZE);
    });
  }

  /** At most as long as an extent may be. */
  addRange(ino: Ino, lblk: number, count: number, pblk: number, unwritten: boolean): void {
    this.put(EXT4_FC_TAG.ADD_RANGE, FC_ADD_RANGE.SIZE, (at) => {
      const extent = at + FC_ADD_RANGE.fc_ex.offset;
      FC_ADD_RANGE.fc_ino.set(this.view, at, ino);
      EXTENT.ee_block.set(this.view, extent, lblk);
      EXTENT.ee_len.set(this.view, extent, unwritten ? count + EXT_INIT_MAX_LEN : count);
      EXTENT.ee_start_hi.set(this.view, extent, Math.floor(pblk / 0x1_0000_0000));
      EXTENT.ee_start_lo.set(this.view, extent, pblk >>> 0);
    });
  }

  delRange(ino: Ino, lblk: number, count: number): void {
    this.put(EXT4_FC_TAG.DEL_RANGE, FC_DEL_RANGE.SIZE, (at) => {
      FC_DEL_RANGE.fc_ino.set(this.view, at, ino);
      FC_DEL_RANGE.fc_lblk.set(this.view, at, lblk);
      FC_DEL_RANGE.fc_len.set(this.view, at, count);
    });
  }

  /** The whole blocks, the last one up to its end a tail; null if they did not fit. */
  finish(tid: number): Uint8Array | null {
    this.makeRoom(FC_TL.SIZE + FC_TAIL.SIZE);
    if (this.full) return null;
    const { at } = this;
    const end = at - (at % this.blockSize) + this.blockSize;
    const value = at + FC_TL.SIZE;
    FC_TL.fc_tag.set(this.view, at, EXT4_FC_TAG.TAIL);
    FC_TL.fc_len.set(this.view, at, end - value);
    FC_TAIL.fc_tid.set(this.view, value, tid);
    const covered = this.bytes.subarray(at, value + FC_TAIL.fc_crc.offset);
    FC_TAIL.fc_crc.set(this.view, value, crc32c(this.crc, covered));
    return this.bytes.subarray(0, end);
  }

  private put(tag: number, length: number, fill: (at: number) => void): void {
    this.makeRoom(FC_TL.SIZE + length);
    if (this.full) return;
    const start = this.at;
    const value = start + FC_TL.SIZE;
    FC_TL.fc_tag.set(this.view, start, tag);
    FC_TL.fc_len.set(this.view, start, length);
    fill(value);
    this.at = value + length;
    this.crc = crc32c(this.crc, this.bytes.subarray(start, this.at));
    this.hasChanges = true;
  }

  /** Room for a record and, behind it in the same block, for the tag and length of a PAD. */
  private makeRoom(length: number): void {
    const rest = this.blockSize - (this.at % this.blockSize);
    if (!this.full && length + FC_TL.SIZE > rest) {
      const start = this.at;
      FC_TL.fc_tag.set(this.view, start, EXT4_FC_TAG.PAD);
      FC_TL.fc_len.set(this.view, start, rest - FC_TL.SIZE);
      this.at = start + rest;
      this.crc = crc32c(this.crc, this.bytes.subarray(start, this.at));
    }
    if (this.at < this.bytes.length) return;
    if (this.at >= this.limitBytes) {
      this.full = true;
      return;
    }
    const larger = new Uint8Array(Math.min(2 * this.bytes.length, this.limitBytes));
    larger.set(this.bytes);
    this.bytes = larger;
    this.view = ownView(larger);
  }
}
