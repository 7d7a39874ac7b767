/**
 * A superblock of which only one sector reached the disk. Its 1024 bytes are two sectors of many disks: after a power
 * cut the first may be of one version and the second, with the checksum, of another. Two rules make every such state
 * one that can be told from damage:
 *
 *   - Written directly, only the marks change: needs_recovery, orphan_present, and "an error was met" (by recovery).
 *     Then the checksum fits once the right marks are put back.
 *   - Everything else reaches it through the log, and the log is kept until it is home: a whole copy is there.
 */
import type { BlockDevice } from '../block/device.js';
import { ownView, type ReadBytes, type WriteView } from '../codec/view.js';
import { CorruptionError, UnsupportedError } from '../errors.js';
import { JBD2_MAGIC } from '../jbd2/format.js';
import { replay, revoke, scan } from '../jbd2/recovery.js';
import { INCOMPAT, RO_COMPAT } from './features.js';
import { EXT4_ERROR_FS, EXT4_SUPER_MAGIC, SUPERBLOCK } from './format/superblock.js';
import { openLogSource } from './journal-inode.js';
import { superblockChecksum, superblockIsWhole } from './superblock-io.js';
import type { Geometry } from './volume.js';

const MARKS = [
  [SUPERBLOCK.s_feature_incompat, INCOMPAT.needs_recovery],
  [SUPERBLOCK.s_feature_ro_compat, RO_COMPAT.orphan_present],
  [SUPERBLOCK.s_state, EXT4_ERROR_FS],
] as const;

/**
 * The whole superblock that belongs to these torn 1024 bytes, asking for recovery; null if they are damaged. `geometry`
 * is what they say, unproven.
 */
export function mendSuperblock(device: BlockDevice, geometry: Geometry, torn: ReadBytes): Uint8Array | null {
  if (geometry.journalInum === 0) return null;
  const mended = withMarks(torn) ?? fromLog(device, geometry);
  if (mended === null) return null;
  const view = ownView(mended);
  // Of two versions the one that asks for recovery: with an empty log there is then nothing to do.
  const { s_feature_incompat } = SUPERBLOCK;
  s_feature_incompat.set(view, 0, s_feature_incompat.get(view, 0) | INCOMPAT.needs_recovery);
  SUPERBLOCK.s_checksum.set(view, 0, superblockChecksum(mended));
  return mended;
}

/** If these are old and new version but for the marks: the union of both. */
function withMarks(torn: ReadBytes): Uint8Array | null {
  for (let toggled = 1; toggled < 1 << MARKS.length; toggled++) {
    const bytes = torn.slice();
    const view = ownView(bytes);
    const chosen = MARKS.filter((_, index) => (toggled & (1 << index)) !== 0);
    for (const [field, mark] of chosen) field.set(view, 0, field.get(view, 0) ^ mark);
    if (superblockChecksum(bytes) !== SUPERBLOCK.s_checksum.get(view, 0)) continue;
    for (const [field, mark] of chosen) field.set(view, 0, field.get(view, 0) | mark);
    return bytes;
  }
  return null;
}

/** The newest committed copy in the log, if it is whole and of this filesystem. */
function fromLog(device: BlockDevice, geometry: Geometry): Uint8Array | null {
  try {
    const source = openLogSource(device, geometry);
    if (source.superblock.start === 0) return null;
    const info = scan(source);
    revoke(source, info);
    replay(source, info);
    const copy = info.blocks.get(geometry.superblockBlock);
    if (copy === undefined) return null;
    const block = new Uint8Array(geometry.blockSize);
    device.read(source.blockMap[copy.logBlock] * geometry.blockSize, block);
    if (copy.escaped) ownView(block).setUint32(0, JBD2_MAGIC, false);
    const bytes = block.slice(geometry.superblockOffset, geometry.superblockOffset + SUPERBLOCK.SIZE);
    return isSuperblock(ownView(bytes)) && superblockIsWhole(geometry, bytes) ? bytes : null;
  } catch (error) {
    // Whatever is wrong with the log, the superblock is what the user has to hear of.
    if (error instanceof CorruptionError || error instanceof UnsupportedError) return null;
    throw error;
  }
}

function isSuperblock(view: WriteView): boolean {
  return SUPERBLOCK.s_magic.get(view, 0) === EXT4_SUPER_MAGIC;
}
