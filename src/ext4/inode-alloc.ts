/** New inodes and freed ones (fs/ext4/ialloc.c). */
import { CorruptionError, FsError } from '../errors.js';
import type { Handle } from '../jbd2/handle.js';
import { type ClearRun, fillWords, findClearRun, testBit } from './bitmap.js';
import { initBlockMap } from './block-map.js';
import { hasLeftovers } from './fast-commit-writer.js';
import { EXT4_BG_INODE_ZEROED } from './format/group-desc.js';
import {
  EXT4_FL_INHERITED,
  EXT4_NOATIME_FL,
  EXT4_NODUMP_FL,
  EXT4_PROJINHERIT_FL,
  EXT4_TOPDIR_FL,
  GOOD_OLD_INODE_SIZE,
  INODE,
  S_IFDIR,
  S_IFMT,
  S_IFREG,
  S_ISGID,
} from './format/inode.js';
import { GroupDescriptor } from './group.js';
import { type Ino, Inode, inodeTableKind, type WritableInode } from './inode.js';
import { hasUninitInodes, inodeBitmapForUse, readInodeBitmap } from './inode-bitmap.js';
import { candidateGroups, groupOfInode } from './orlov.js';
import { totals } from './totals.js';
import type { Volume } from './volume.js';

/** What the bitmap of a group does not say. */
interface GroupState {
  /** Inodes freed in transactions not yet durable, as bits, and how many. */
  readonly held: Uint32Array;
  heldCount: number;
  /** Where to look next. */
  nextIndex: number;
}

const states = new WeakMap<Volume, Map<number, GroupState>>();

function stateOf(vol: Volume, group: number): GroupState {
  let groups = states.get(vol);
  if (groups === undefined) {
    groups = new Map();
    states.set(vol, groups);
  }
  let state = groups.get(group);
  if (state === undefined) {
    state = { held: new Uint32Array(Math.ceil(vol.geometry.inodesPerGroup / 32)), heldCount: 0, nextIndex: 0 };
    groups.set(group, state);
  }
  return state;
}

function hold(state: GroupState, index: number, held: boolean): void {
  fillWords(state.held, index, 1, held);
  state.heldCount += held ? 1 : -1;
}

/**
 * A new inode near `parent`, complete but for its links and contents: owner, times, generation, inherited flags, and the
 * root of an extent tree for files and directories. Its link count is 1. Throws FsError ENOSPC, EDQUOT. `flags` are set
 * before anything is counted for its owners.
 */
export function allocateInode(
  handle: Handle,
  vol: Volume,
  parent: Inode,
  mode: number,
  cred: { readonly uid: number; readonly gid: number },
  flags = 0,
): WritableInode {
  const isDirectory = (mode & S_IFMT) === S_IFDIR;
  if (totals(vol).freeInodes === 0) throw new FsError('ENOSPC', 'no free inodes');
  for (const group of candidateGroups(vol, parent, isDirectory)) {
    const index = findFree(vol, group);
    if (index < 0) continue;
    const ino = take(handle, vol, group, index, isDirectory);
    return fillIn(handle, vol, ino, parent, mode, cred, flags);
  }
  throw new FsError('ENOSPC', 'no free inodes');
}

const found: ClearRun = { start: 0, length: 0, firstClear: 0 };

/** Index in the group of a free inode, or -1. */
function findFree(vol: Volume, group: number): number {
  const desc = GroupDescriptor.get(vol, group);
  if (desc.freeInodes === 0) return -1;
  const { inodesPerGroup, firstInode } = vol.geometry;
  const first = group === 0 ? firstInode - 1 : 0;
  if (hasUninitInodes(vol, desc)) return first < inodesPerGroup ? first : -1;
  const { held, heldCount, nextIndex } = stateOf(vol, group);
  if (desc.freeInodes <= heldCount) return -1;
  const { view } = readInodeBitmap(vol, desc);
  const hint = Math.max(first, nextIndex);
  if (findClearRun(view, held, hint, inodesPerGroup, 1, found)) return found.start;
  return findClearRun(view, held, first, hint, 1, found) ? found.start : -1;
}

/** True if the bitmap says that this inode is taken. Throws CorruptionError. */
export function isInodeTaken(vol: Volume, ino: Ino): boolean {
  const desc = GroupDescriptor.get(vol, groupOfInode(vol, ino));
  return (
    !hasUninitInodes(vol, desc) && testBit(readInodeBitmap(vol, desc).view, (ino - 1) % vol.geometry.inodesPerGroup)
  );
}

/** Takes a certain inode, which is free (ext4_mark_inode_used). Its record is whatever it was, or zeroes. */
export function takeInode(handle: Handle, vol: Volume, ino: Ino, isDirectory: boolean): void {
  take(handle, vol, groupOfInode(vol, ino), (ino - 1) % vol.geometry.inodesPerGroup, isDirectory);
}

function take(handle: Handle, vol: Volume, group: number, index: number, isDirectory: boolean): Ino {
  const { inodesPerGroup, metadataCsum, gdtCsum } = vol.geometry;
  const ino = group * inodesPerGroup + index + 1;
  if (vol.geometry.isOwnInode(ino)) {
    const finding = `inode ${ino} of the filesystem itself is marked free`;
    throw new CorruptionError('inode bitmap', `group ${group}`, finding);
  }
  const desc = GroupDescriptor.get(vol, group);
  const bitmap = inodeBitmapForUse(handle, vol, desc);
  bitmap.view.setUint8(index >>> 3, bitmap.view.getUint8(index >>> 3) | (1 << (index & 7)));
  const writable = desc.edit(handle);
  writable.setFreeInodes(desc.freeInodes - 1);
  if (isDirectory) writable.setUsedDirs(desc.usedDirs + 1);
  if (metadataCsum || gdtCsum) {
    const usedBefore = inodesPerGroup - desc.itableUnused;
    if (index >= usedBefore) {
      clearUnused(handle, vol, desc, usedBefore, index);
      writable.setItableUnused(inodesPerGroup - index - 1);
    }
  }
  stateOf(vol, group).nextIndex = index + 1;
  totals(vol).addFreeInodes(handle, -1);
  return ino;
}

/**
 * Beyond bg_itable_unused the inode table was never written and may hold anything: what is taken into use is zeroed,
 * from the first unused inode up to and including `index`.
 */
function clearUnused(handle: Handle, vol: Volume, desc: GroupDescriptor, usedBefore: number, index: number): void {
  if ((desc.flags & EXT4_BG_INODE_ZEROED) !== 0) return;
  const { inodesPerBlock, inodeSize, inodesPerGroup } = vol.geometry;
  const firstBlock = Math.floor(usedBefore / inodesPerBlock);
  const lastBlock = Math.floor(index / inodesPerBlock);
  for (let i = firstBlock; i <= lastBlock; i++) {
    const nr = desc.inodeTable + i;
    const owner = desc.group * inodesPerGroup + i * inodesPerBlock + 1;
    const from = Math.max(0, usedBefore - i * inodesPerBlock);
    const block =
      from === 0
        ? handle.getCreateAccess(nr, inodeTableKind(vol), owner)
        : handle.getWriteAccess(vol.read(nr, inodeTableKind(vol), owner));
    if (from > 0) block.bytes.fill(0, from * inodeSize);
    handle.dirtyMetadata(block);
  }
}

function fillIn(
  handle: Handle,
  vol: Volume,
  ino: Ino,
  parent: Inode,
  mode: number,
  cred: { readonly uid: number; readonly gid: number },
  flags: number,
): WritableInode {
  const inode = Inode.load(vol, ino).edit(handle);
  if (inode.mode !== 0 && inode.linksCount !== 0) {
    throw new CorruptionError('inode', `inode ${ino}`, 'the bitmap says that it is free, and it is in use');
  }
  if (vol.fastCommits !== null && hasLeftovers(inode)) handle.refuseFastCommit();
  inode.block.bytes.fill(0, inode.base, inode.end);
  const type = mode & S_IFMT;
  const isSetgid = (parent.mode & S_ISGID) !== 0;
  const inheritsGroup = isSetgid || vol.policy.groupOfDirectory;
  let permissions = mode & 0o7777;
  if (isSetgid && type === S_IFDIR) permissions |= S_ISGID;
  inode.setMode(type | permissions);
  inode.setUid(cred.uid);
  inode.setGid(inheritsGroup ? parent.gid : cred.gid);
  inode.setLinksCount(1);
  inode.set('i_generation', vol.env.random32());
  if (vol.geometry.inodeSize > GOOD_OLD_INODE_SIZE) inode.set('i_extra_isize', vol.policy.wantExtraIsize);
  inode.setFlags(inheritedFlags(parent.flags, type) | flags);
  if (parent.hasFlag(EXT4_PROJINHERIT_FL) && inode.fits(INODE.i_projid)) inode.set('i_projid', parent.projectId);
  const now = vol.env.now();
  inode.setAtime(now);
  inode.setMtime(now);
  inode.setCtime(now);
  inode.setCrtime(now);
  if (type === S_IFREG || type === S_IFDIR) initBlockMap(inode);
  vol.quotas?.addInode(handle, inode);
  return inode;
}

/** ext4_mask_flags: directories pass everything on to directories, less to files, little to the rest. */
function inheritedFlags(flags: number, type: number): number {
  const inherited = flags & EXT4_FL_INHERITED & ~EXT4_TOPDIR_FL;
  if (type === S_IFDIR) return inherited;
  // EXT4_REG_FLMASK takes dirsync, topdir, projinherit and casefold away; other types keep nodump and noatime only.
  if (type === S_IFREG) return inherited & ~(0x10000 | 0x20000 | 0x20000000 | 0x40000000);
  return inherited & (EXT4_NODUMP_FL | EXT4_NOATIME_FL);
}

/** Gives an inode back (ext4_free_inode). Its number is not used again before this is durable. */
export function freeInode(handle: Handle, vol: Volume, inode: WritableInode): void {
  const { ino } = inode;
  const { inodesPerGroup } = vol.geometry;
  if (vol.geometry.isOwnInode(ino))
    throw new CorruptionError('inode', `inode ${ino}`, 'an inode of the filesystem itself cannot be freed');
  const group = groupOfInode(vol, ino);
  const index = (ino - 1) % inodesPerGroup;
  const isDirectory = inode.isDirectory;
  const desc = GroupDescriptor.get(vol, group);
  const bitmap = inodeBitmapForUse(handle, vol, desc);
  if (!testBit(bitmap.view, index))
    throw new CorruptionError('inode bitmap', `group ${group}`, `inode ${ino} is free already`);
  bitmap.view.setUint8(index >>> 3, bitmap.view.getUint8(index >>> 3) & ~(1 << (index & 7)));
  const writable = desc.edit(handle);
  writable.setFreeInodes(desc.freeInodes + 1);
  if (isDirectory) writable.setUsedDirs(desc.usedDirs - 1);
  vol.quotas?.release(handle, inode);
  // ext4_clear_inode and the zeroed mode: the record says that it is free.
  inode.setMode(0);
  inode.setLinksCount(0);
  inode.setSizeBytes(0);
  inode.setDtime(vol.env.now().seconds);
  totals(vol).addFreeInodes(handle, 1);
  const state = stateOf(vol, group);
  hold(state, index, true);
  handle.onRollback(() => hold(state, index, false));
  handle.onCommit(() => {
    hold(state, index, false);
    state.nextIndex = Math.min(state.nextIndex, index);
  });
}
