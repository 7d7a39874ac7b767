/** Reading file data where it is: on the device, or, while a journaled write is not home yet, in memory. */
import type { BlockKind } from '../jbd2/block-cache.js';
import { mapBlock } from './block-map.js';
import type { Inode } from './inode.js';

/** Blocks of files whose data is journaled. */
export const fileData: BlockKind = { name: 'file data' };

/** Fills `into` with the bytes from `posBytes` on; holes, unwritten blocks and what is behind the map are zeroes. */
export function readData(inode: Inode, posBytes: number, into: Uint8Array): void {
  const { vol } = inode;
  const { blockSize } = vol.geometry;
  for (let done = 0; done < into.length; ) {
    const pos = posBytes + done;
    const lblk = Math.floor(pos / blockSize);
    const { pblk, count, unwritten } = mapBlock(inode, lblk);
    const piece = into.subarray(done, done + Math.min(into.length - done, (lblk + count) * blockSize - pos));
    done += piece.length;
    if (pblk === 0 || unwritten) {
      piece.fill(0);
      continue;
    }
    const at = pblk * blockSize + (pos - lblk * blockSize);
    vol.device.read(at, piece);
    for (let nr = pblk; nr * blockSize < at + piece.length; nr++) {
      const cached = vol.cache.peek(nr);
      if (cached === undefined || !cached.pinned) continue;
      const from = Math.max(at, nr * blockSize);
      const to = Math.min(at + piece.length, (nr + 1) * blockSize);
      piece.set((cached.bytes as Uint8Array).subarray(from - nr * blockSize, to - nr * blockSize), from - at);
    }
  }
}
