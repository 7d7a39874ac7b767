/** What a mount may want otherwise than the image says (ext4's mount options that change what is stored). */
import { FsError } from '../errors.js';
import { GOOD_OLD_INODE_SIZE } from './format/inode.js';
import {
  EXT4_DEFM_BSDGROUPS,
  EXT4_DEFM_DISCARD,
  EXT4_DEFM_JMODE,
  EXT4_DEFM_JMODE_DATA,
  EXT4_DEFM_UID16,
} from './format/superblock.js';
import type { Geometry } from './volume.js';

export interface MountPolicy {
  /** data=journal: the data of every file goes through the log. */
  readonly journalsData: boolean;
  /** grpid: a new file gets the group of its directory, whether that is setgid or not. */
  readonly groupOfDirectory: boolean;
  /** Freed blocks are discarded once that is durable. */
  readonly discards: boolean;
  /** Equal attribute blocks, and equal values in inodes of their own, are kept once. */
  readonly sharesXattrs: boolean;
  /** Who else but root may use the reserved blocks; group 0 is nobody. */
  readonly resuid: number;
  readonly resgid: number;
  /** nouid32: owners have 16 bits. */
  readonly ids16: boolean;
  /** max_dir_size_kb: a directory does not grow beyond this. */
  readonly maxDirectoryBytes: number;
  /** debug_want_extra_isize: bytes behind the first 128 of an inode that fields have, attributes not; a multiple of 4. */
  readonly wantExtraIsize: number;
  /** usrquota, grpquota, prjquota: the limits in the quota files hold. What is used is counted in any case. */
  readonly userLimits: boolean;
  readonly groupLimits: boolean;
  readonly projectLimits: boolean;
}

/** The policy of a mount: what it asks for, or what the superblock says. Throws FsError EINVAL for what the image has no room for. */
export function policyOf(geometry: Geometry, asked: Partial<MountPolicy> = {}): MountPolicy {
  const { defaultMountOpts, defaultResuid, defaultResgid } = geometry;
  return {
    // Without a log there is nothing for data to go through.
    journalsData:
      geometry.hasJournal && (asked.journalsData ?? (defaultMountOpts & EXT4_DEFM_JMODE) === EXT4_DEFM_JMODE_DATA),
    groupOfDirectory: asked.groupOfDirectory ?? (defaultMountOpts & EXT4_DEFM_BSDGROUPS) !== 0,
    discards: asked.discards ?? (defaultMountOpts & EXT4_DEFM_DISCARD) !== 0,
    sharesXattrs: asked.sharesXattrs ?? true,
    resuid: asked.resuid ?? defaultResuid,
    resgid: asked.resgid ?? defaultResgid,
    ids16: asked.ids16 ?? (defaultMountOpts & EXT4_DEFM_UID16) !== 0,
    maxDirectoryBytes: asked.maxDirectoryBytes ?? Number.POSITIVE_INFINITY,
    wantExtraIsize: extraIsizeOf(geometry, asked.wantExtraIsize),
    userLimits: asked.userLimits ?? false,
    groupLimits: asked.groupLimits ?? false,
    projectLimits: asked.projectLimits ?? false,
  };
}

function extraIsizeOf(geometry: Geometry, asked: number | undefined): number {
  if (asked === undefined) return geometry.wantExtraIsize;
  const room = geometry.inodeSize - GOOD_OLD_INODE_SIZE;
  if (asked < 4 || asked % 4 !== 0 || asked > room)
    throw new FsError('EINVAL', `debug_want_extra_isize=${asked}: a multiple of 4 up to ${room} is expected`);
  return asked;
}
