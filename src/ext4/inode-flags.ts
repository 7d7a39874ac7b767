/** chattr(1) and its relatives: the flags, the generation and the project of an inode, as users may see and set them. */
import { FsError } from '../errors.js';
import { isEmpty } from './dir.js';
import { migrate } from './extent-migrate.js';
import { INCOMPAT, RO_COMPAT } from './features.js';
import { fileData } from './file-data.js';
import {
  EXT4_APPEND_FL,
  EXT4_CASEFOLD_FL,
  EXT4_EXTENTS_FL,
  EXT4_IMMUTABLE_FL,
  EXT4_JOURNAL_DATA_FL,
  EXT4_PROJINHERIT_FL,
  INODE,
  S_IFDIR,
  S_IFMT,
  S_IFREG,
} from './format/inode.js';
import { type Ino, Inode } from './inode.js';
import type { Volume } from './volume.js';

/** Who asks: owner and privileges count. */
export interface Caller {
  readonly uid: number;
}

const EXT4_FL_USER_VISIBLE = 0x725bdfff;
const EXT4_FL_USER_MODIFIABLE = 0x624bc0ff;
/** What files do not have (EXT4_REG_FLMASK), and what everything else may have. */
const DIRECTORY_ONLY = 0x10000 | 0x20000 | EXT4_CASEFOLD_FL | EXT4_PROJINHERIT_FL;
const OTHER_FLMASK = 0x40 | 0x80;

export function getFlags(vol: Volume, ino: Ino): number {
  return Inode.get(vol, ino).flags & EXT4_FL_USER_VISIBLE;
}

function mayChange(inode: Inode, { uid }: Caller): void {
  if (inode.vol.readOnly) throw new FsError('EROFS');
  if (uid !== 0 && uid !== inode.uid) throw new FsError('EPERM', 'only the owner may change this');
}

/** ext4_ioctl_setflags. Throws FsError EPERM, EOPNOTSUPP, EROFS, ENOTEMPTY. Data of the inode must not be on its way. */
export function setFlags(vol: Volume, ino: Ino, wanted: number, caller: Caller): void {
  const inode = Inode.get(vol, ino);
  mayChange(inode, caller);
  if ((wanted & ~EXT4_FL_USER_VISIBLE) !== 0) throw new FsError('EOPNOTSUPP', 'an unknown flag');
  // What is shown and cannot be set is passed over: chattr(1) sends back all that it has read.
  const settable = wanted & EXT4_FL_USER_MODIFIABLE;
  if (allowedFor(inode, settable) !== settable)
    throw new FsError('EOPNOTSUPP', 'a flag that this kind of file does not have');
  const flags = (inode.flags & ~EXT4_FL_USER_MODIFIABLE) | settable;
  const changed = flags ^ inode.flags;
  if (changed === 0) return;
  const privileged = EXT4_IMMUTABLE_FL | EXT4_APPEND_FL | EXT4_JOURNAL_DATA_FL;
  if ((changed & privileged) !== 0 && caller.uid !== 0) throw new FsError('EPERM', 'only root may change this flag');
  if (inode.hasFlag(EXT4_IMMUTABLE_FL) && (flags & EXT4_IMMUTABLE_FL) !== 0)
    throw new FsError('EPERM', `inode ${ino} is immutable`);
  if ((changed & EXT4_CASEFOLD_FL) !== 0) mayFold(inode);
  const switches = (changed & EXT4_JOURNAL_DATA_FL) !== 0;
  // What is in the log, or kept in memory as if it were, must not meet data that goes straight to the device.
  if (switches) vol.journal.flushAll();
  vol.journal.run(1, (handle) => {
    const writable = Inode.get(vol, ino).edit(handle);
    writable.setFlags(changed & EXT4_EXTENTS_FL ? flags ^ EXT4_EXTENTS_FL : flags);
    writable.setCtime(vol.env.now());
  });
  if (switches) {
    vol.journal.flushAll();
    vol.cache.dropClean(fileData);
  }
  // The others are set, as in the kernel, also where this cannot be.
  if ((changed & EXT4_EXTENTS_FL) !== 0) migrate(vol, ino);
}

/** Names that are there were hashed otherwise. */
function mayFold(inode: Inode): void {
  if ((inode.vol.geometry.incompat & INCOMPAT.casefold) === 0)
    throw new FsError('EOPNOTSUPP', 'the filesystem has no casefold feature');
  if (!inode.isDirectory) throw new FsError('ENOTDIR');
  if (!isEmpty(inode.vol, inode)) throw new FsError('ENOTEMPTY');
}

/** ext4_mask_flags */
function allowedFor(inode: Inode, flags: number): number {
  const type = inode.mode & S_IFMT;
  if (type === S_IFDIR) return flags;
  return type === S_IFREG ? flags & ~DIRECTORY_ONLY : flags & OTHER_FLMASK;
}

export function getProject(vol: Volume, ino: Ino): number {
  return hasProjects(vol) ? Inode.get(vol, ino).projectId : 0;
}

/** Throws FsError EOPNOTSUPP without the project feature, unless it is 0; EDQUOT, EOVERFLOW. */
export function setProject(vol: Volume, ino: Ino, projectId: number, caller: Caller): void {
  const inode = Inode.get(vol, ino);
  mayChange(inode, caller);
  if (projectId === getProject(vol, ino)) return;
  if (!hasProjects(vol)) throw new FsError('EOPNOTSUPP', 'the filesystem has no project feature');
  if (projectId === 0xffffffff) throw new FsError('EINVAL', 'no project has this number');
  if (!inode.fits(INODE.i_projid)) throw new FsError('EOVERFLOW', `inode ${ino} has no room for a project`);
  vol.journal.run(1, (handle) => {
    vol.quotas?.transfer(handle, inode, { project: projectId });
    const writable = inode.edit(handle);
    writable.set('i_projid', projectId);
    writable.setCtime(vol.env.now());
  });
}

function hasProjects({ geometry }: Volume): boolean {
  return (geometry.roCompat & RO_COMPAT.project) !== 0;
}

/** Throws FsError ENOTTY where checksums depend on it, as ext4. */
export function setGeneration(vol: Volume, ino: Ino, generation: number, caller: Caller): void {
  const inode = Inode.get(vol, ino);
  mayChange(inode, caller);
  if (vol.geometry.metadataCsum) throw new FsError('ENOTTY', 'checksums are seeded with the generation');
  vol.journal.run(1, (handle) => {
    const writable = inode.edit(handle);
    writable.set('i_generation', generation);
    writable.setCtime(vol.env.now());
  });
}
