/** What stat(2) says of an inode (ext4_file_getattr). */
import { isEncrypted } from './encrypted-names.js';
import type { Ino, Inode } from './inode.js';
import { encodedRdev } from './namei.js';
import { readlink } from './symlink.js';
import type { Timestamp } from './volume.js';

/** What stat shows. */
export interface InodeStat {
  ino: Ino;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  size: number;
  /** Space used, in 512-byte units. */
  blocks512: number;
  /** Linux 32-bit device number (new_encode_dev); 0 but for device nodes. */
  rdev: number;
  atime: Timestamp;
  mtime: Timestamp;
  ctime: Timestamp;
  crtime: Timestamp | null;
  generation: number;
  flags: number;
}

export function statInode(inode: Inode): InodeStat {
  const { ino } = inode;
  return {
    ino,
    mode: inode.mode,
    nlink: inode.linksCount,
    uid: inode.uid,
    gid: inode.gid,
    // Of an encrypted link it is that of what is shown.
    size: inode.isSymlink && isEncrypted(inode) ? readlink(inode.vol, ino).length : inode.sizeBytes,
    // A file in its inode is shown to use space.
    blocks512: inode.sectors + (inode.hasInlineData && inode.isRegular ? Math.ceil(inode.sizeBytes / 512) : 0),
    rdev: encodedRdev(inode),
    atime: inode.atime,
    mtime: inode.mtime,
    ctime: inode.ctime,
    crtime: inode.crtime,
    generation: inode.generation,
    flags: inode.flags,
  };
}
