/** FUSE_NOTIFY_INVAL_INODE: what the kernel keeps of an inode is old. */
import { ownView } from '../codec/view.js';
import type { Ino } from '../ext4/inode.js';
import { FUSE_NOTIFY_INVAL_INODE, NOTIFY_INVAL_INODE_OUT, OUT_HEADER } from './abi.js';
import { nodeidOf } from './request.js';

/**
 * The whole message. Attributes are asked for again; below offset 0 pages stay, from there on they are written back and
 * dropped, to the end of the file.
 */
export function invalidation(ino: Ino, offset: number): Uint8Array {
  const message = new Uint8Array(OUT_HEADER.SIZE + NOTIFY_INVAL_INODE_OUT.SIZE);
  const view = ownView(message);
  OUT_HEADER.len.set(view, 0, message.length);
  OUT_HEADER.error.set(view, 0, FUSE_NOTIFY_INVAL_INODE);
  NOTIFY_INVAL_INODE_OUT.ino.set(view, OUT_HEADER.SIZE, nodeidOf(ino));
  NOTIFY_INVAL_INODE_OUT.off.set(view, OUT_HEADER.SIZE, offset);
  return message;
}
