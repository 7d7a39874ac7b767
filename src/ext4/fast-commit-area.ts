/**
 * The fast-commit area behind the log (fs/ext4/fast_commit.h): little-endian tags, each fast commit from HEAD to TAIL.
 * Fast commits are not replayed yet; this tells whether there are any to be lost.
 */
import { crc32c } from '../codec/crc.js';
import { readView } from '../codec/view.js';
import type { LogSource } from '../jbd2/log-walker.js';
import type { Tid } from '../jbd2/tid.js';

/** ext4_fc_tl: fc_tag, fc_len (le16 each), then fc_len bytes. */
const TL_BYTES = 4;
const EXT4_FC_TAG_TAIL = 0x0008;
const EXT4_FC_TAG_HEAD = 0x0009;

/**
 * True if the area holds a complete fast commit on top of the last full one: its HEAD names `expected`, the tid after the
 * last transaction in the log, and a TAIL with the right checksum follows (ext4_fc_replay_scan).
 */
export function holdsFastCommits(source: LogSource, expected: Tid): boolean {
  const { superblock, device, blockMap } = source;
  if (superblock.fastCommitBlocks === 0) return false;
  const block = new Uint8Array(superblock.blockSize);
  const view = readView(block);
  let crc = 0;
  // Log block `end` lies between log and area and is in neither (j_fc_first = j_last + 1).
  for (let logBlock = superblock.end + 1; logBlock < superblock.maxLen; logBlock++) {
    device.read(blockMap[logBlock] * superblock.blockSize, block);
    const isFirst = logBlock === superblock.end + 1;
    if (isFirst && view.getUint16(0, true) !== EXT4_FC_TAG_HEAD) return false;
    for (let at = 0; at + TL_BYTES <= block.length; ) {
      const tag = view.getUint16(at, true);
      const length = view.getUint16(at + 2, true);
      if (at + TL_BYTES + length > block.length || tag === 0) return false;
      if (tag === EXT4_FC_TAG_HEAD && (length < 8 || view.getUint32(at + TL_BYTES + 4, true) !== expected))
        return false;
      if (tag === EXT4_FC_TAG_TAIL) {
        crc = crc32c(crc, block.subarray(at, at + TL_BYTES + 4));
        return (
          length >= 8 &&
          view.getUint32(at + TL_BYTES, true) === expected &&
          view.getUint32(at + TL_BYTES + 4, true) === crc
        );
      }
      crc = crc32c(crc, block.subarray(at, at + TL_BYTES + length));
      at += TL_BYTES + length;
    }
  }
  return false;
}
