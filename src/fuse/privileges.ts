import type { Ino } from '../ext4/inode.js';
import type { Context } from './context.js';

const S_ISUID = 0o4000;
const S_ISGID = 0o2000;
const S_IXGRP = 0o010;
const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;

/** The mode of a file whose content or owner changes, without what it was trusted with (setattr_should_drop_suidgid). */
export function modeWithoutSuidgid(mode: number): number {
  if ((mode & S_IFMT) === S_IFDIR) return mode;
  let left = mode & ~S_ISUID;
  if ((mode & (S_ISGID | S_IXGRP)) === (S_ISGID | S_IXGRP)) left &= ~S_ISGID;
  return left;
}

/** With FUSE_HANDLE_KILLPRIV_V2 the kernel leaves this to the server, in one piece with the change that causes it. */
export function killSuidgid(context: Context, ino: Ino): void {
  const { mode } = context.fs.stat(ino);
  const left = modeWithoutSuidgid(mode);
  if (left === mode) return;
  context.fs.setattr(ino, { mode: left });
  // It still knows the old mode, and takes none from the answer to a write.
  context.invalidateAttributes(ino);
}
