/**
 * POSIX access control lists beside the mode of a file (fs/posix_acl.c): new files inherit default ACLs, and the mode's bits
 * and the access ACL are kept the same thing seen twice. Whoever lets users in checks permissions.
 */
import { layout, le16, le32 } from '../codec/layout.js';
import { ownView, readView } from '../codec/view.js';
import { FsError } from '../errors.js';
import type { Filesystem } from './filesystem.js';
import type { Ino } from './inode.js';

const ACCESS = new TextEncoder().encode('system.posix_acl_access');
const DEFAULT = new TextEncoder().encode('system.posix_acl_default');

/** struct posix_acl_xattr_header and posix_acl_xattr_entry, as getxattr(2) shows them. */
const HEADER = layout('posix_acl_xattr_header', 4, { a_version: le32(0) });
const ENTRY = layout('posix_acl_xattr_entry', 8, { e_tag: le16(0), e_perm: le16(2), e_id: le32(4) });

const POSIX_ACL_XATTR_VERSION = 2;
const ACL_USER_OBJ = 0x01;
const ACL_GROUP_OBJ = 0x04;
const ACL_MASK = 0x10;
const ACL_OTHER = 0x20;

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;

/** What of the engine keeps them. */
export type AclStore = Pick<Filesystem, 'stat' | 'setattr' | 'getxattr' | 'setxattr' | 'removexattr'>;

function same(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

export function isAclName(name: Uint8Array): boolean {
  return same(name, ACCESS) || same(name, DEFAULT);
}

function entryCount(acl: Uint8Array): number {
  const count = (acl.length - HEADER.SIZE) / ENTRY.SIZE;
  if (!Number.isInteger(count) || count < 0) throw new FsError('EINVAL', 'not an access control list');
  if (HEADER.a_version.get(readView(acl), 0) !== POSIX_ACL_XATTR_VERSION) throw new FsError('EOPNOTSUPP');
  return count;
}

/** The rwxrwxrwx that an access ACL means, and whether that says all of it (posix_acl_equiv_mode). */
function modeOf(acl: Uint8Array): { bits: number; equivalent: boolean } {
  const view = readView(acl);
  const count = entryCount(acl);
  let user = 0;
  let group = 0;
  let other = 0;
  let mask = -1;
  let equivalent = true;
  for (let i = 0; i < count; i++) {
    const base = HEADER.SIZE + i * ENTRY.SIZE;
    const perm = ENTRY.e_perm.get(view, base) & 7;
    switch (ENTRY.e_tag.get(view, base)) {
      case ACL_USER_OBJ:
        user = perm;
        break;
      case ACL_GROUP_OBJ:
        group = perm;
        break;
      case ACL_OTHER:
        other = perm;
        break;
      case ACL_MASK:
        mask = perm;
        equivalent = false;
        break;
      default:
        equivalent = false;
    }
  }
  return { bits: (user << 6) | ((mask < 0 ? group : mask) << 3) | other, equivalent };
}

/** The same ACL with the mode's bits put in, or each entry limited by them (posix_acl_create_masq, posix_acl_chmod). */
function aclWithMode(acl: Uint8Array, mode: number, limit: boolean): Uint8Array {
  const changed = acl.slice();
  const view = ownView(changed);
  const count = entryCount(changed);
  let maskAt = -1;
  let groupAt = -1;
  const put = (base: number, bits: number) => {
    const perm = ENTRY.e_perm.get(view, base);
    ENTRY.e_perm.set(view, base, limit ? perm & bits : bits);
  };
  for (let i = 0; i < count; i++) {
    const base = HEADER.SIZE + i * ENTRY.SIZE;
    const tag = ENTRY.e_tag.get(view, base);
    if (tag === ACL_USER_OBJ) put(base, (mode >> 6) & 7);
    else if (tag === ACL_OTHER) put(base, mode & 7);
    else if (tag === ACL_GROUP_OBJ) groupAt = base;
    else if (tag === ACL_MASK) maskAt = base;
  }
  if (maskAt >= 0) put(maskAt, (mode >> 3) & 7);
  else if (groupAt >= 0) put(groupAt, (mode >> 3) & 7);
  return changed;
}

/**
 * setxattr of an ACL (ext4_set_acl): an access ACL sets the mode; one that says no more than the mode is not stored. One
 * without entries is removed.
 */
export function setAcl(fs: AclStore, ino: Ino, name: Uint8Array, value: Uint8Array): void {
  const { mode } = fs.stat(ino);
  if (entryCount(value) === 0) {
    removeAcl(fs, ino, name);
    return;
  }
  if (!same(name, ACCESS)) {
    if ((mode & S_IFMT) !== S_IFDIR) throw new FsError('EACCES', 'only a directory has a default ACL');
    fs.setxattr(ino, DEFAULT, value, 0);
    return;
  }
  const { bits, equivalent } = modeOf(value);
  if (equivalent) removeAcl(fs, ino, ACCESS);
  else fs.setxattr(ino, ACCESS, value, 0);
  fs.setattr(ino, { mode: (mode & ~0o777) | bits });
}

/** removexattr of an ACL: it is no error that there is none. */
export function removeAcl(fs: AclStore, ino: Ino, name: Uint8Array): void {
  if (fs.getxattr(ino, name) !== null) fs.removexattr(ino, name);
}

/** chmod: the access ACL follows the mode (posix_acl_chmod). */
export function modeChanged(fs: AclStore, ino: Ino, mode: number): void {
  const acl = fs.getxattr(ino, ACCESS);
  if (acl !== null) fs.setxattr(ino, ACCESS, aclWithMode(acl, mode, false), 0);
}

/** Making an inode and its two lists: an entry, an inode, attributes in a block. */
const CREATE_CREDITS = 80;

/**
 * Makes a file of `mode` in `parent`, whose default ACL it inherits as its own, limited by the mode; without one the umask
 * applies. One step: no crash leaves a file that is open to more people than it should be.
 */
export function createInheriting(
  fs: AclStore & Pick<Filesystem, 'atomically'>,
  parent: Ino,
  mode: number,
  umask: number,
  make: (mode: number) => Ino,
): Ino {
  const inherited = fs.getxattr(parent, DEFAULT);
  if (inherited === null || (mode & S_IFMT) === S_IFLNK) return make(mode & ~umask);
  return fs.atomically(CREATE_CREDITS, () => {
    const ino = make(mode);
    inherit(fs, inherited, ino, mode);
    return ino;
  });
}

function inherit(fs: AclStore, inherited: Uint8Array, ino: Ino, mode: number): void {
  // With the setgid bit that a directory inherits beside it.
  const created = fs.stat(ino).mode;
  if ((created & S_IFMT) === S_IFDIR) fs.setxattr(ino, DEFAULT, inherited, 0);
  const acl = aclWithMode(inherited, mode, true);
  const { bits, equivalent } = modeOf(acl);
  if (!equivalent) fs.setxattr(ino, ACCESS, acl, 0);
  fs.setattr(ino, { mode: (created & 0o7000) | bits });
}
