import { STATFS_OUT } from './abi.js';
import type { Context } from './context.js';
import { PAYLOAD } from './reply.js';
import type { Request } from './request.js';

export function statfs(context: Context, request: Request): void {
  const { reply } = context;
  const { view } = reply;
  const stat = context.fs.statfs(request.ino);
  reply.bytes.fill(0, PAYLOAD, PAYLOAD + STATFS_OUT.SIZE);
  STATFS_OUT.blocks.set(view, PAYLOAD, stat.blocks);
  STATFS_OUT.bfree.set(view, PAYLOAD, stat.bfree);
  STATFS_OUT.bavail.set(view, PAYLOAD, stat.bavail);
  STATFS_OUT.files.set(view, PAYLOAD, stat.files);
  STATFS_OUT.ffree.set(view, PAYLOAD, stat.ffree);
  STATFS_OUT.bsize.set(view, PAYLOAD, stat.blockSize);
  STATFS_OUT.namelen.set(view, PAYLOAD, stat.nameMax);
  STATFS_OUT.frsize.set(view, PAYLOAD, stat.blockSize);
  reply.payload(request, STATFS_OUT.SIZE);
}
