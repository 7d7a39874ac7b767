/** Operations on names (fs/ext4/namei.c): each is one atomic step. Permissions are the kernel's business. */
import { FsError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import {
  addEntry,
  DIR_ENTRY_CREDITS,
  entryIno,
  findEntry,
  initDirectory,
  isEmpty,
  lookupEntry,
  removeEntry,
} from './dir.js';
import { RO_COMPAT } from './features.js';
import {
  EXT4_APPEND_FL,
  EXT4_EA_INODE_FL,
  EXT4_IMMUTABLE_FL,
  EXT4_LINK_MAX,
  EXT4_PROJINHERIT_FL,
  EXT4_ROOT_INO,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from './format/inode.js';
import { type Ino, Inode, type WritableInode } from './inode.js';
import { allocateInode } from './inode-alloc.js';
import { addOrphan, removeOrphan } from './orphan.js';
import { setTarget } from './symlink.js';
import type { Volume } from './volume.js';

export { rename } from './rename.js';

/** The caller: owner of what is created. */
export interface Credentials {
  readonly uid: number;
  readonly gid: number;
}

/** Blocks that making an inode may change besides its entry: bitmap, descriptor, table, orphan list, attributes. */
export const NEW_INODE_CREDITS = 16;

/** The inode of a name, or 0. Throws FsError ENOTDIR, ENAMETOOLONG. */
export function lookup(vol: Volume, parent: Ino, name: Uint8Array): Ino | 0 {
  return lookupEntry(vol, Inode.get(vol, parent), name);
}

/** Throws FsError ESTALE for what no name leads to: free inodes, removed ones, and the filesystem's own (ext4_nfs_get_inode). */
export function byHandle(vol: Volume, ino: Ino): Ino {
  const inRange = ino === EXT4_ROOT_INO || (!vol.geometry.isOwnInode(ino) && ino <= vol.geometry.inodesCount);
  const nameless = () => {
    const inode = Inode.inUse(vol, ino);
    // The number may have been used again, for the value of an attribute.
    return inode.linksCount === 0 || inode.hasFlag(EXT4_EA_INODE_FL);
  };
  if (!inRange || nameless()) throw new FsError('ESTALE', `inode ${ino} has no name`);
  return ino;
}

/** The parent as a place to change names in. Throws what forbids it. */
export function writableDirectory(vol: Volume, ino: Ino): Inode {
  const dir = Inode.get(vol, ino);
  if (!dir.isDirectory) throw new FsError('ENOTDIR');
  if (dir.linksCount === 0) throw new FsError('ENOENT', 'the directory was removed');
  if (dir.hasFlag(EXT4_IMMUTABLE_FL)) throw new FsError('EPERM', `inode ${ino} is immutable`);
  return dir;
}

/** Names may not be taken out of an append-only directory, nor from an immutable or append-only inode. */
export function mayRemove(dir: Inode, inode: Inode): void {
  if (dir.hasFlag(EXT4_APPEND_FL)) throw new FsError('EPERM', `inode ${dir.ino} is append-only`);
  if ((inode.flags & (EXT4_APPEND_FL | EXT4_IMMUTABLE_FL)) !== 0)
    throw new FsError('EPERM', `inode ${inode.ino} may not be changed`);
}

/** What is named in a directory that hands its project on is of that project. Throws FsError EXDEV. */
export function mustStayInProject(dir: Inode, inode: Inode): void {
  if (dir.hasFlag(EXT4_PROJINHERIT_FL) && dir.projectId !== inode.projectId)
    throw new FsError('EXDEV', `inode ${inode.ino} is of another project than its directory`);
}

function mustBeNew(vol: Volume, dir: Inode, name: Uint8Array): void {
  if (findEntry(vol, dir, name) !== null) throw new FsError('EEXIST');
}

export function touchDirectory(handle: Handle, vol: Volume, dir: Inode): WritableInode {
  const writable = dir.edit(handle);
  const now = vol.env.now();
  writable.setMtime(now);
  writable.setCtime(now);
  return writable;
}

function makeNode(
  vol: Volume,
  parent: Ino,
  name: Uint8Array,
  mode: number,
  cred: Credentials,
  fill: (handle: Handle, inode: WritableInode) => void,
): Ino {
  const make = (handle: Handle) => {
    const dir = writableDirectory(vol, parent);
    mustBeNew(vol, dir, name);
    const inode = allocateInode(handle, vol, dir, mode, cred);
    fill(handle, inode);
    addEntry(handle, vol, Inode.get(vol, parent), name, inode.ino, mode);
    touchDirectory(handle, vol, dir);
    vol.fastCommits?.noteName(handle, 'CREAT', dir, name, inode.ino);
    return inode.ino;
  };
  return vol.journal.run(DIR_ENTRY_CREDITS + NEW_INODE_CREDITS, make, (mode & S_IFMT) === S_IFREG);
}

export function create(vol: Volume, parent: Ino, name: Uint8Array, mode: number, cred: Credentials): Ino {
  return makeNode(vol, parent, name, (mode & ~S_IFMT) | S_IFREG, cred, () => {});
}

/** `rdev` is Linux's 32-bit device number (new_encode_dev). */
export function mknod(vol: Volume, parent: Ino, name: Uint8Array, mode: number, rdev: number, cred: Credentials): Ino {
  return makeNode(vol, parent, name, mode, cred, (_handle, inode) => setRdev(inode, rdev));
}

export function symlink(vol: Volume, parent: Ino, name: Uint8Array, target: Uint8Array, cred: Credentials): Ino {
  if (target.length >= vol.geometry.blockSize) throw new FsError('ENAMETOOLONG');
  return makeNode(vol, parent, name, S_IFLNK | 0o777, cred, (handle, inode) => setTarget(handle, inode, target));
}

export function mkdir(vol: Volume, parent: Ino, name: Uint8Array, mode: number, cred: Credentials): Ino {
  return vol.journal.run(2 * DIR_ENTRY_CREDITS + NEW_INODE_CREDITS, (handle) => {
    const dir = writableDirectory(vol, parent);
    mustBeNew(vol, dir, name);
    checkDirectoryLinks(vol, dir);
    const inode = allocateInode(handle, vol, dir, (mode & ~S_IFMT) | S_IFDIR, cred);
    initDirectory(handle, vol, inode, parent);
    inode.setLinksCount(2);
    addEntry(handle, vol, dir, name, inode.ino, S_IFDIR);
    countSubdirectory(touchDirectory(handle, vol, dir), 1);
    return inode.ino;
  });
}

/** An inode without a name, on the orphan list until it gets one (O_TMPFILE). */
export function tmpfile(vol: Volume, parent: Ino, mode: number, cred: Credentials): Ino {
  const make = (handle: Handle) => {
    const inode = allocateInode(handle, vol, writableDirectory(vol, parent), (mode & ~S_IFMT) | S_IFREG, cred);
    inode.setLinksCount(0);
    addOrphan(handle, inode);
    return inode.ino;
  };
  return vol.journal.run(NEW_INODE_CREDITS, make, true);
}

export function link(vol: Volume, ino: Ino, parent: Ino, name: Uint8Array): void {
  const add = (handle: Handle) => {
    const dir = writableDirectory(vol, parent);
    const inode = Inode.get(vol, ino);
    if (inode.isDirectory) throw new FsError('EPERM', 'a directory has one name');
    if ((inode.flags & (EXT4_APPEND_FL | EXT4_IMMUTABLE_FL)) !== 0) throw new FsError('EPERM');
    if (inode.linksCount >= EXT4_LINK_MAX) throw new FsError('EMLINK');
    mustStayInProject(dir, inode);
    mustBeNew(vol, dir, name);
    if (inode.linksCount === 0) {
      removeOrphan(handle, inode);
      // The record of an inode would take it out of the orphan list that is on the disk, and those behind it.
      handle.refuseFastCommit();
    }
    const writable = inode.edit(handle);
    writable.setLinksCount(inode.linksCount + 1);
    writable.setCtime(vol.env.now());
    addEntry(handle, vol, dir, name, ino, inode.mode);
    touchDirectory(handle, vol, dir);
    vol.fastCommits?.noteName(handle, 'LINK', dir, name, ino);
  };
  vol.journal.run(DIR_ENTRY_CREDITS + 4, add, true);
}

/** Returns the inode that lost the name. With no links left it is on the orphan list, to be evicted by its last user. */
export function unlink(vol: Volume, parent: Ino, name: Uint8Array): Ino {
  const remove = (handle: Handle) => {
    const dir = writableDirectory(vol, parent);
    const place = findEntry(vol, dir, name);
    if (place === null) throw new FsError('ENOENT');
    const inode = Inode.get(vol, entryIno(place));
    if (inode.isDirectory) throw new FsError('EISDIR');
    mayRemove(dir, inode);
    removeEntry(handle, vol, place);
    touchDirectory(handle, vol, dir);
    dropLink(handle, vol, inode);
    vol.fastCommits?.noteName(handle, 'UNLINK', dir, name, inode.ino);
    return inode.ino;
  };
  return vol.journal.run(8, remove, true);
}

export function rmdir(vol: Volume, parent: Ino, name: Uint8Array): Ino {
  return vol.journal.run(8, (handle) => {
    const dir = writableDirectory(vol, parent);
    const place = findEntry(vol, dir, name);
    if (place === null) throw new FsError('ENOENT');
    const inode = Inode.get(vol, entryIno(place));
    if (!inode.isDirectory) throw new FsError('ENOTDIR');
    mayRemove(dir, inode);
    if (!isEmpty(vol, inode)) throw new FsError('ENOTEMPTY');
    removeEntry(handle, vol, place);
    dropDirectory(handle, vol, inode);
    countSubdirectory(touchDirectory(handle, vol, dir), -1);
    return inode.ino;
  });
}

/** One name less; without any the inode goes on the orphan list. */
export function dropLink(handle: Handle, vol: Volume, inode: Inode): void {
  const writable = inode.edit(handle);
  writable.setLinksCount(Math.max(0, inode.linksCount - 1));
  writable.setCtime(vol.env.now());
  if (writable.linksCount === 0) addOrphan(handle, writable);
}

/** An empty directory loses its name: no links, and no size, so that nobody looks into it. */
export function dropDirectory(handle: Handle, vol: Volume, inode: Inode): void {
  const writable = inode.edit(handle);
  writable.setLinksCount(0);
  writable.setCtime(vol.env.now());
  addOrphan(handle, writable);
}

/** Throws FsError EMLINK where one more subdirectory cannot be counted. */
export function checkDirectoryLinks(vol: Volume, dir: Inode): void {
  if ((vol.geometry.roCompat & RO_COMPAT.dir_nlink) !== 0) return;
  if (dir.linksCount >= EXT4_LINK_MAX) throw new FsError('EMLINK');
}

/** Counts ".." of a subdirectory. Past 65000 the count is 1, for "many" (dir_nlink; ext4_inc_count, ext4_dec_count). */
export function countSubdirectory(dir: WritableInode, change: 1 | -1): void {
  const links = dir.linksCount;
  if (change === 1) dir.setLinksCount(links === 1 || links + 1 >= EXT4_LINK_MAX ? 1 : links + 1);
  else if (links > 2) dir.setLinksCount(links - 1);
}

/** Device numbers are kept as the old 16-bit form in i_block[0] where that fits, in i_block[1] otherwise. */
function setRdev(inode: WritableInode, rdev: number): void {
  const type = inode.mode & S_IFMT;
  if (type !== S_IFCHR && type !== S_IFBLK) return;
  const major = (rdev >>> 8) & 0xfff;
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
  const old = major < 256 && minor < 256;
  inode.block.view.setUint32(inode.iBlockBase, old ? (major << 8) | minor : 0, true);
  inode.block.view.setUint32(inode.iBlockBase + 4, old ? 0 : rdev, true);
}

/** Linux's 32-bit device number of a device node; 0 for anything else. */
export function encodedRdev(inode: Inode): number {
  const { type } = inode;
  if (type !== S_IFCHR && type !== S_IFBLK) return 0;
  const old = inode.block.view.getUint32(inode.iBlockBase, true);
  return old !== 0 ? old & 0xffff : inode.block.view.getUint32(inode.iBlockBase + 4, true);
}
