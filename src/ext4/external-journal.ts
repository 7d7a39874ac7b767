/**
 * A journal on a device of its own (ext4_get_dev_journal): a superblock like a filesystem's, marked journal_dev, then the
 * journal superblock. Log block n is block n of the device, but for log block 0, the journal superblock.
 */
import type { BlockDevice } from '../block/device.js';
import { crc32c } from '../codec/crc.js';
import { readView } from '../codec/view.js';
import { CorruptionError, UnsupportedError } from '../errors.js';
import { INCOMPAT, RO_COMPAT } from './features.js';
import { EXT4_SUPER_MAGIC, SUPERBLOCK, SUPERBLOCK_OFFSET } from './format/superblock.js';
import type { Geometry } from './volume.js';

export function formatUuid(uuid: Uint8Array): string {
  return Buffer.from(uuid)
    .toString('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** The UUID of the journal that a device holds; null if it is no journal_dev. */
export function externalJournalUuid(device: BlockDevice, at = 0): Uint8Array | null {
  if (device.sizeBytes < at + SUPERBLOCK_OFFSET + SUPERBLOCK.SIZE) return null;
  const bytes = new Uint8Array(SUPERBLOCK.SIZE);
  device.read(at + SUPERBLOCK_OFFSET, bytes);
  const view = readView(bytes);
  if (SUPERBLOCK.s_magic.get(view, 0) !== EXT4_SUPER_MAGIC) return null;
  if ((SUPERBLOCK.s_feature_incompat.get(view, 0) & INCOMPAT.journal_dev) === 0) return null;
  return SUPERBLOCK.s_uuid.of(bytes, 0).slice();
}

/** The block of `device`, which holds filesystem and journal, for each log block. Throws CorruptionError, UnsupportedError. */
export function readExternalJournalMap(device: BlockDevice, geometry: Geometry): Float64Array {
  const { journalAt } = device;
  const wanted = formatUuid(geometry.journalUuid);
  if (journalAt === undefined) {
    throw new UnsupportedError(
      `the journal is on another device, with the UUID ${wanted}: name that with -o journal_path=PATH`,
      ['external journal'],
    );
  }
  const bad = (finding: string) => new CorruptionError('external journal', 'its superblock', finding);
  const uuid = externalJournalUuid(device, journalAt);
  if (uuid === null) throw bad('it is no journal device (mke2fs -O journal_dev)');
  if (formatUuid(uuid) !== wanted) throw bad(`its UUID is ${formatUuid(uuid)}, the filesystem's journal has ${wanted}`);
  const bytes = new Uint8Array(SUPERBLOCK.SIZE);
  device.read(journalAt + SUPERBLOCK_OFFSET, bytes);
  const view = readView(bytes);
  // ext4_get_dev_journal: the superblock of a journal_dev has a checksum of its own.
  if ((SUPERBLOCK.s_feature_ro_compat.get(view, 0) & RO_COMPAT.metadata_csum) !== 0) {
    const { s_checksum } = SUPERBLOCK;
    if (crc32c(0xffffffff, bytes.subarray(0, s_checksum.offset)) !== s_checksum.get(view, 0))
      throw new CorruptionError('external journal', 'its superblock', 'its checksum does not match', 'EBADMSG');
  }
  const { blockSize } = geometry;
  if (1024 << Math.min(6, SUPERBLOCK.s_log_block_size.get(view, 0)) !== blockSize)
    throw bad(`its blocks are not of the filesystem's ${blockSize} bytes`);
  const count = SUPERBLOCK.s_blocks_count_lo.get(view, 0);
  if (count < 3 || journalAt + count * blockSize > device.sizeBytes) throw bad(`it has ${count} blocks`);
  const first = journalAt / blockSize;
  const map = new Float64Array(count);
  for (let i = 0; i < count; i++) map[i] = first + i;
  map[0] = first + Math.floor(SUPERBLOCK_OFFSET / blockSize) + 1;
  return map;
}
