/**
 * Owners shown otherwise than they are stored (mount -o uidmap=, gidmap=, uid=, gid=): for images made for other users,
 * and for servers in a user namespace.
 */
import { FsError } from '../errors.js';
import type { Filesystem } from '../ext4/filesystem.js';
import type { Ino } from '../ext4/inode.js';
import { withStandIns } from '../ext4/stand-in.js';

/** Ids [image, image + count) of the image are [host, host + count) outside. */
export interface IdRange {
  readonly image: number;
  readonly host: number;
  readonly count: number;
}

/** All owners are one id outside; what is made in a directory gets the owner of the directory. */
export interface OneId {
  readonly all: number;
}

export type IdMapping = readonly IdRange[] | OneId | null;

export interface OwnerMap {
  readonly uids: IdMapping;
  readonly gids: IdMapping;
}

/** What ids are shown as that no range has (overflowuid). */
const NOBODY = 65_534;

const isOne = (mapping: IdMapping): mapping is OneId => mapping !== null && 'all' in mapping;

function toHost(mapping: IdMapping, id: number): number {
  if (mapping === null) return id;
  if (isOne(mapping)) return mapping.all;
  const range = mapping.find(({ image, count }) => id >= image && id < image + count);
  return range === undefined ? NOBODY : id - range.image + range.host;
}

/** `inherited` is the stored owner of the directory. Throws FsError EOVERFLOW for an id that no range has. */
function toImage(mapping: IdMapping, id: number, inherited: number): number {
  if (mapping === null) return id;
  if (isOne(mapping)) return inherited;
  const range = mapping.find(({ host, count }) => id >= host && id < host + count);
  if (range === undefined) throw new FsError('EOVERFLOW', `no id of the image is ${id} here`);
  return id - range.host + range.image;
}

/** The filesystem with owners as the map says. Access control lists keep the stored ids: such a mount goes without. */
export function withOwners(fs: Filesystem, { uids, gids }: OwnerMap): Filesystem {
  const credOf = (parent: Ino, cred: { readonly uid: number; readonly gid: number }) => {
    const { uid, gid } = fs.stat(parent);
    return { uid: toImage(uids, cred.uid, uid), gid: toImage(gids, cred.gid, gid) };
  };
  /** A new owner; of a mapping to one id only that one is no change. */
  const changed = (mapping: IdMapping, id: number | undefined, stored: number): number | undefined => {
    if (id === undefined) return undefined;
    if (isOne(mapping) && id !== mapping.all) throw new FsError('EPERM', 'all owners are shown as one');
    return toImage(mapping, id, stored);
  };
  const mapped: Partial<Filesystem> = {
    stat(ino) {
      const stat = fs.stat(ino);
      stat.uid = toHost(uids, stat.uid);
      stat.gid = toHost(gids, stat.gid);
      return stat;
    },
    setattr(ino, changes) {
      const { uid, gid } = fs.stat(ino);
      fs.setattr(ino, { ...changes, uid: changed(uids, changes.uid, uid), gid: changed(gids, changes.gid, gid) });
    },
    create: (parent, name, mode, cred) => fs.create(parent, name, mode, credOf(parent, cred)),
    mkdir: (parent, name, mode, cred) => fs.mkdir(parent, name, mode, credOf(parent, cred)),
    mknod: (parent, name, mode, rdev, cred) => fs.mknod(parent, name, mode, rdev, credOf(parent, cred)),
    symlink: (parent, name, target, cred) => fs.symlink(parent, name, target, credOf(parent, cred)),
    tmpfile: (parent, mode, cred) => fs.tmpfile(parent, mode, credOf(parent, cred)),
    rename: (parent, name, newParent, newName, flags, cred) =>
      fs.rename(parent, name, newParent, newName, flags, credOf(newParent, cred)),
  };
  return withStandIns(fs, mapped);
}
