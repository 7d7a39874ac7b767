/** A directory that hands its project on looks as large as the limits of the project allow (ext4_statfs_project). */
import type { FilesystemStat } from '../filesystem.js';
import { EXT4_PROJINHERIT_FL } from '../format/inode.js';
import type { Inode } from '../inode.js';
import type { Resource } from './quota-entry.js';

/** Does nothing for any other inode. */
export function limitToProject(stat: FilesystemStat, inode: Inode): void {
  if (!inode.hasFlag(EXT4_PROJINHERIT_FL)) return;
  const entry = inode.vol.quotas?.entryOf('project', inode.projectId) ?? null;
  if (entry === null) return;
  const limit = (what: Resource) => {
    const limits = [entry.softLimit(what), entry.hardLimit(what)].filter((value) => value > 0);
    return limits.length === 0 ? Number.POSITIVE_INFINITY : Math.min(...limits);
  };
  const blocks = Math.floor(limit('space') / stat.blockSize);
  const left = Math.max(0, blocks - Math.floor(entry.used('space') / stat.blockSize));
  stat.blocks = Math.min(stat.blocks, blocks);
  stat.bfree = Math.min(stat.bfree, left);
  stat.bavail = Math.min(stat.bavail, left);
  const files = limit('inodes');
  stat.files = Math.min(stat.files, files);
  stat.ffree = Math.min(stat.ffree, Math.max(0, files - entry.used('inodes')));
}
