/** The end of an inode (ext4_evict_inode). */
import type { Handle } from '../jbd2/handle.js';
import { discardReservation } from './block-alloc.js';
import { removeBlocks } from './block-map.js';
import { EXT_MAX_BLOCKS } from './format/extent.js';
import { type Ino, Inode } from './inode.js';
import { freeInode } from './inode-alloc.js';
import { hasBlockMap } from './inode-blocks.js';
import { removeOrphan } from './orphan.js';
import { breakPromises } from './promised-blocks.js';
import type { Volume } from './volume.js';
import { releaseXattrs } from './xattr.js';

/** Bitmaps and descriptors of inode, attribute block and orphan record. */
const FINAL_CREDITS = 12;

/**
 * An inode without names has lost its last user: its blocks, its attributes and itself become free. It is on the orphan
 * list, and leaves it in the last transaction: a crash before that is finished by the next mount. Does nothing for an
 * inode that has names.
 */
export function evict(vol: Volume, ino: Ino): void {
  discardReservation(vol, ino);
  breakPromises(vol, ino, 0, EXT_MAX_BLOCKS);
  const release = (handle: Handle) => {
    handle.ensureCredits(FINAL_CREDITS * 3);
    const inode = Inode.inUse(vol, ino);
    if (inode.linksCount > 0) return;
    if (hasBlockMap(inode)) removeBlocks(handle, inode, 0, EXT_MAX_BLOCKS);
    const unusedValues = releaseXattrs(handle, vol, ino);
    handle.ensureCredits(FINAL_CREDITS);
    const last = Inode.load(vol, ino).edit(handle);
    removeOrphan(handle, last);
    freeInode(handle, vol, last);
    // One deep: an inode that holds a value has no attributes.
    for (const value of unusedValues) evict(vol, value);
  };
  // Without a name it is free after a crash in any case.
  vol.journal.run(FINAL_CREDITS * 3, release, true);
}

/** Several at once: small files share their bitmaps, descriptors and table blocks, which are then joined once. */
export function evictAll(vol: Volume, inos: readonly Ino[]): void {
  const all = () => {
    for (const ino of inos) evict(vol, ino);
  };
  vol.journal.run(FINAL_CREDITS * 3, all, true);
}
