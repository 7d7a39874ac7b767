import type { Ino } from '../ext4/inode.js';
import { modeWithoutSuidgid } from '../ext4/setattr.js';
import type { Context } from './context.js';

export { modeWithoutSuidgid } from '../ext4/setattr.js';

/** With FUSE_HANDLE_KILLPRIV_V2 the kernel leaves this to the server, in one piece with the change that causes it. */
export function killSuidgid(context: Context, ino: Ino): void {
  const { mode } = context.fs.stat(ino);
  const left = modeWithoutSuidgid(mode);
  if (left === mode) return;
  context.fs.setattr(ino, { mode: left });
  // It still knows the old mode, and takes none from the answer to a write.
  context.invalidateAttributes(ino);
}
