/** Changes of the superblock that are not an inode's or a group's business: its checksum, and errors met. */
import { crc32c } from '../codec/crc.js';
import { type ReadBytes, readView, type WriteView } from '../codec/view.js';
import type { CorruptionError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { COMPAT, RO_COMPAT } from './features.js';
import { EXT4_ERROR_FS, SUPERBLOCK } from './format/superblock.js';
import type { Geometry, Volume } from './volume.js';

/** Stamps the superblock's checksum in a block that is written directly, outside a transaction. */
export function stampSuperblock(geometry: Geometry, view: WriteView, bytes: ReadBytes): void {
  if (!geometry.metadataCsum) return;
  const at = geometry.superblockOffset;
  SUPERBLOCK.s_checksum.set(view, at, superblockChecksum(bytes.subarray(at, at + SUPERBLOCK.SIZE)));
}

/** True if the checksum fits the 1024 bytes of the superblock, or there is none. */
export function superblockIsWhole(geometry: Geometry, bytes: Uint8Array): boolean {
  return !geometry.metadataCsum || superblockChecksum(bytes) === SUPERBLOCK.s_checksum.get(readView(bytes), 0);
}

export function superblockChecksum(bytes: ReadBytes): number {
  return crc32c(0xffffffff, bytes.subarray(0, SUPERBLOCK.s_checksum.offset));
}

/** Records a corruption in the superblock, so that e2fsck looks at everything (save_error_info). */
export function recordError(volume: Volume, error: CorruptionError): void {
  if (volume.readOnly || volume.journal.aborted !== null) return;
  volume.journal.run(1, (handle) => {
    const block = handle.getWriteAccess(volume.superblock());
    const { view } = block;
    const at = volume.geometry.superblockOffset;
    const seconds = volume.env.now().seconds >>> 0;
    const count = SUPERBLOCK.s_error_count.get(view, at);
    SUPERBLOCK.s_state.set(view, at, SUPERBLOCK.s_state.get(view, at) | EXT4_ERROR_FS);
    SUPERBLOCK.s_error_count.set(view, at, count + 1);
    SUPERBLOCK.s_last_error_time.set(view, at, seconds);
    putText(block.bytes, at + SUPERBLOCK.s_last_error_func.offset, error.structure);
    if (count === 0) {
      SUPERBLOCK.s_first_error_time.set(view, at, seconds);
      putText(block.bytes, at + SUPERBLOCK.s_first_error_func.offset, error.structure);
    }
    handle.dirtyMetadata(block);
  });
}

/** i_size is about to rise to `sizeBytes`: from 2 GiB on the superblock says that there are such files. */
export function allowFileSize(handle: Handle, volume: Volume, sizeBytes: number): void {
  if (sizeBytes <= 0x7fffffff) return;
  const at = volume.geometry.superblockOffset;
  const features = SUPERBLOCK.s_feature_ro_compat.get(volume.superblock().view, at);
  if ((features & RO_COMPAT.large_file) !== 0) return;
  handle.refuseFastCommit();
  const block = handle.getWriteAccess(volume.superblock());
  SUPERBLOCK.s_feature_ro_compat.set(block.view, at, features | RO_COMPAT.large_file);
  handle.dirtyMetadata(block);
}

/** An inode is about to get an attribute: without the ext_attr feature e2fsck takes it away (ext4_xattr_update_super_block). */
export function allowXattrs(handle: Handle, volume: Volume): void {
  const at = volume.geometry.superblockOffset;
  const features = SUPERBLOCK.s_feature_compat.get(volume.superblock().view, at);
  if ((features & COMPAT.ext_attr) !== 0) return;
  const block = handle.getWriteAccess(volume.superblock());
  SUPERBLOCK.s_feature_compat.set(block.view, at, features | COMPAT.ext_attr);
  handle.dirtyMetadata(block);
}

/** A 32-byte text field: the place where kernel ext4 keeps a function's name. */
function putText(bytes: Uint8Array, at: number, text: string): void {
  bytes.fill(0, at, at + 32);
  bytes.set(new TextEncoder().encode(text).subarray(0, 31), at);
}
