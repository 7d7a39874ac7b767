/**
 * POSIX access control lists as the server's share of FUSE_POSIX_ACL: the kernel checks permissions; inheriting default
 * ACLs, and keeping the mode's bits and the access ACL the same thing seen twice, is left to us.
 */
import type { Ino } from '../ext4/inode.js';
import * as posixAcl from '../ext4/posix-acl.js';
import type { Context } from './context.js';

export { isAclName } from '../ext4/posix-acl.js';

/** setxattr of an ACL (ext4_set_acl). */
export function setAcl(context: Context, ino: Ino, name: Uint8Array, value: Uint8Array): void {
  posixAcl.setAcl(context.fs, ino, name, value);
}

/** removexattr of an ACL. */
export function removeAcl(context: Context, ino: Ino, name: Uint8Array): void {
  posixAcl.removeAcl(context.fs, ino, name);
}

/** chmod: the access ACL follows the mode (posix_acl_chmod). */
export function modeChanged(context: Context, ino: Ino, mode: number): void {
  if (context.negotiated.acl) posixAcl.modeChanged(context.fs, ino, mode);
}

/** Makes a file in `parent`: a default ACL there takes the place of the umask. */
export function creating(context: Context, parent: Ino, mode: number, umask: number, make: (mode: number) => Ino): Ino {
  // Without ACLs the kernel has applied the umask.
  return context.negotiated.acl ? posixAcl.createInheriting(context.fs, parent, mode, umask, make) : make(mode);
}
