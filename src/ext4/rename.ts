/** rename(2) with its flags (ext4_rename, ext4_cross_rename): one atomic step whatever it moves. */
import { FsError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import {
  addEntry,
  DIR_ENTRY_CREDITS,
  entryIno,
  findEntry,
  isEmpty,
  lookupEntry,
  type Place,
  removeEntry,
  replaceEntry,
  setParent,
} from './dir.js';
import { S_IFCHR } from './format/inode.js';
import { type Ino, Inode } from './inode.js';
import { allocateInode } from './inode-alloc.js';
import {
  type Credentials,
  checkDirectoryLinks,
  countSubdirectory,
  dropDirectory,
  dropLink,
  mayRemove,
  mustStayInProject,
  NEW_INODE_CREDITS,
  touchDirectory,
  writableDirectory,
} from './namei.js';
import type { Volume } from './volume.js';

export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const RENAME_WHITEOUT = 4;

/** A name with what it stands for. */
interface Named {
  readonly parent: Inode;
  readonly name: Uint8Array;
  readonly place: Place;
  readonly inode: Inode;
}

/**
 * Returns the inode whose name was taken over, or 0. With no links left that one is on the orphan list. Throws FsError:
 * ENOENT, EEXIST, ENOTEMPTY, EISDIR, ENOTDIR, EINVAL, EMLINK, ENOSPC, EDQUOT, EXDEV, EPERM.
 */
export function rename(
  vol: Volume,
  parent: Ino,
  name: Uint8Array,
  newParent: Ino,
  newName: Uint8Array,
  flags: number,
  cred: Credentials,
): { replaced: Ino | 0 } {
  if ((flags & ~7) !== 0 || ((flags & RENAME_EXCHANGE) !== 0 && flags !== RENAME_EXCHANGE)) throw new FsError('EINVAL');
  const work = (handle: Handle) => {
    const oldDir = writableDirectory(vol, parent);
    const newDir = writableDirectory(vol, newParent);
    const from = named(vol, oldDir, name);
    if (from === null) throw new FsError('ENOENT');
    mayRemove(oldDir, from.inode);
    mustStayInProject(newDir, from.inode);
    if (from.inode.isDirectory && isInside(vol, newDir, from.inode.ino))
      throw new FsError('EINVAL', 'a directory cannot move into itself');
    const to = named(vol, newDir, newName);
    if ((flags & RENAME_EXCHANGE) !== 0) {
      if (to === null) throw new FsError('ENOENT');
      mayRemove(newDir, to.inode);
      mustStayInProject(oldDir, to.inode);
      if (to.inode.isDirectory && isInside(vol, oldDir, to.inode.ino))
        throw new FsError('EINVAL', 'a directory cannot move into itself');
      handle.refuseFastCommit();
      if (from.inode.ino !== to.inode.ino) exchange(handle, vol, from, to);
      return { replaced: 0 };
    }
    if (to !== null && (flags & RENAME_NOREPLACE) !== 0) throw new FsError('EEXIST');
    // Two names of one inode: nothing happens, and both stay.
    if (to !== null && to.inode.ino === from.inode.ino) return { replaced: 0 };
    if (to !== null) mayReplace(vol, newDir, from.inode, to.inode);
    move(handle, vol, from, newDir, newName, to);
    if ((flags & RENAME_WHITEOUT) !== 0) {
      handle.refuseFastCommit();
      leaveWhiteout(handle, vol, parent, name, cred);
    }
    return { replaced: to?.inode.ino ?? 0 };
  };
  return vol.journal.run(2 * DIR_ENTRY_CREDITS + NEW_INODE_CREDITS, work, true);
}

function named(vol: Volume, parent: Inode, name: Uint8Array): Named | null {
  const place = findEntry(vol, parent, name);
  return place === null ? null : { parent, name, place, inode: Inode.get(vol, entryIno(place)) };
}

function mayReplace(vol: Volume, dir: Inode, inode: Inode, victim: Inode): void {
  mayRemove(dir, victim);
  if (inode.isDirectory && !victim.isDirectory) throw new FsError('ENOTDIR');
  if (!inode.isDirectory && victim.isDirectory) throw new FsError('EISDIR');
  if (victim.isDirectory && !isEmpty(vol, victim)) throw new FsError('ENOTEMPTY');
}

function move(handle: Handle, vol: Volume, from: Named, newDir: Inode, newName: Uint8Array, to: Named | null): void {
  const { inode, parent: oldDir } = from;
  const victim = to?.inode ?? null;
  const changesParent = oldDir.ino !== newDir.ino;
  if (inode.isDirectory && changesParent && victim === null) checkDirectoryLinks(vol, newDir);
  if (to !== null) {
    replaceEntry(handle, to.place, inode.ino, inode.mode);
    removeEntry(handle, vol, from.place);
  } else {
    addEntry(handle, vol, newDir, newName, inode.ino, inode.mode);
    // The new entry may have split the block of the old one.
    const old = changesParent ? from.place : findEntry(vol, oldDir, from.name);
    if (old === null) throw new FsError('ENOENT');
    removeEntry(handle, vol, old);
  }
  noteMove(handle, from, newDir, newName, victim);
  inode.edit(handle).setCtime(vol.env.now());
  const oldWritable = touchDirectory(handle, vol, oldDir);
  const newWritable = changesParent ? touchDirectory(handle, vol, newDir) : oldWritable;
  if (inode.isDirectory) {
    if (changesParent) setParent(handle, vol, inode, newDir.ino);
    countSubdirectory(oldWritable, -1);
    if (victim === null) countSubdirectory(newWritable, 1);
  }
  if (victim === null) return;
  if (victim.isDirectory) dropDirectory(handle, vol, victim);
  else dropLink(handle, vol, victim);
}

/** For fast commits: in this order no name is ever missing. Their replay knows nothing of "..". */
function noteMove(handle: Handle, from: Named, newDir: Inode, newName: Uint8Array, victim: Inode | null): void {
  const { inode, parent, name } = from;
  const tracker = inode.vol.fastCommits;
  if (tracker === null) return;
  if (inode.isDirectory) {
    handle.refuseFastCommit();
    return;
  }
  if (victim !== null) tracker.noteName(handle, 'UNLINK', newDir, newName, victim.ino);
  tracker.noteName(handle, 'LINK', newDir, newName, inode.ino);
  tracker.noteName(handle, 'UNLINK', parent, name, inode.ino);
}

function exchange(handle: Handle, vol: Volume, a: Named, b: Named): void {
  replaceEntry(handle, a.place, b.inode.ino, b.inode.mode);
  replaceEntry(handle, b.place, a.inode.ino, a.inode.mode);
  const now = vol.env.now();
  a.inode.edit(handle).setCtime(now);
  b.inode.edit(handle).setCtime(now);
  const first = touchDirectory(handle, vol, a.parent);
  if (a.parent.ino === b.parent.ino) return;
  const second = touchDirectory(handle, vol, b.parent);
  if (a.inode.isDirectory) setParent(handle, vol, a.inode, b.parent.ino);
  if (b.inode.isDirectory) setParent(handle, vol, b.inode, a.parent.ino);
  if (a.inode.isDirectory === b.inode.isDirectory) return;
  countSubdirectory(first, a.inode.isDirectory ? -1 : 1);
  countSubdirectory(second, b.inode.isDirectory ? -1 : 1);
}

/** A character device 0:0 stays at the old name: overlayfs reads it as "deleted". */
function leaveWhiteout(handle: Handle, vol: Volume, parent: Ino, name: Uint8Array, cred: Credentials): void {
  const dir = Inode.get(vol, parent);
  const inode = allocateInode(handle, vol, dir, S_IFCHR, cred);
  addEntry(handle, vol, dir, name, inode.ino, S_IFCHR);
}

const DOT_DOT = new Uint8Array([0x2e, 0x2e]);

/** True if `dir` is `ancestor` or lies below it. Follows "..", at most as often as there are inodes. */
function isInside(vol: Volume, dir: Inode, ancestor: Ino): boolean {
  let current = dir.ino;
  for (let steps = 0; steps < vol.geometry.inodesCount; steps++) {
    if (current === ancestor) return true;
    if (current === 2) return false;
    const up = lookupEntry(vol, Inode.get(vol, current), DOT_DOT);
    if (up === 0 || up === current) return false;
    current = up;
  }
  return true;
}
