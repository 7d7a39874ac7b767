/** POSIX ACLs: the form that system calls use (version 2, 8 bytes an entry) and ext4's shorter one on disk (version 1). */
import { ownView, readView } from '../codec/view.js';
import { CorruptionError, FsError } from '../errors.js';
import type { Ino } from './inode.js';

const POSIX_ACL_XATTR_VERSION = 2;
const EXT4_ACL_VERSION = 1;
const ACL_USER = 0x02;
const ACL_GROUP = 0x08;
const KNOWN_TAGS = new Set([0x01, ACL_USER, 0x04, ACL_GROUP, 0x10, 0x20]);
/** e_id of entries that name nobody. */
const ACL_UNDEFINED_ID = 0xffffffff;

const named = (tag: number) => tag === ACL_USER || tag === ACL_GROUP;

/** What getxattr shows. Throws CorruptionError. */
export function fromDiskAcl(disk: Uint8Array, ino: Ino): Uint8Array {
  const bad = (finding: string) => new CorruptionError('access control list', `inode ${ino}`, finding);
  const view = readView(disk);
  if (disk.length < 4 || view.getUint32(0, true) !== EXT4_ACL_VERSION) throw bad('unknown version');
  const entries: [number, number, number][] = [];
  for (let at = 4; at < disk.length; ) {
    if (at + 4 > disk.length) throw bad('an entry is cut off');
    const tag = view.getUint16(at, true);
    if (!KNOWN_TAGS.has(tag) || (named(tag) && at + 8 > disk.length)) throw bad(`tag ${tag}`);
    entries.push([tag, view.getUint16(at + 2, true), named(tag) ? view.getUint32(at + 4, true) : ACL_UNDEFINED_ID]);
    at += named(tag) ? 8 : 4;
  }
  const bytes = new Uint8Array(4 + entries.length * 8);
  const out = ownView(bytes);
  out.setUint32(0, POSIX_ACL_XATTR_VERSION, true);
  entries.forEach(([tag, permissions, id], i) => {
    out.setUint16(4 + i * 8, tag, true);
    out.setUint16(6 + i * 8, permissions, true);
    out.setUint32(8 + i * 8, id, true);
  });
  return bytes;
}

/** What setxattr stores. Throws FsError EINVAL. */
export function toDiskAcl(value: Uint8Array): Uint8Array {
  const view = readView(value);
  if (value.length < 4 || (value.length - 4) % 8 !== 0 || view.getUint32(0, true) !== POSIX_ACL_XATTR_VERSION) {
    throw new FsError('EINVAL', 'not an access control list');
  }
  const parts = new Uint8Array(value.length);
  const out = ownView(parts);
  out.setUint32(0, EXT4_ACL_VERSION, true);
  let to = 4;
  for (let at = 4; at < value.length; at += 8) {
    const tag = view.getUint16(at, true);
    if (!KNOWN_TAGS.has(tag)) throw new FsError('EINVAL', `unknown entry ${tag} in an access control list`);
    out.setUint16(to, tag, true);
    out.setUint16(to + 2, view.getUint16(at + 2, true), true);
    if (named(tag)) out.setUint32(to + 4, view.getUint32(at + 4, true), true);
    to += named(tag) ? 8 : 4;
  }
  return parts.slice(0, to);
}
