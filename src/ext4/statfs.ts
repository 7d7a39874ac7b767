/** What statfs(2) shows of the filesystem (ext4_statfs). */
import { EXT4_PROJINHERIT_FL } from './format/inode.js';
import { SUPERBLOCK } from './format/superblock.js';
import { type Ino, Inode } from './inode.js';
import type { Resource } from './quota/quota-entry.js';
import { totals } from './totals.js';
import type { Volume } from './volume.js';

export interface FilesystemStat {
  blockSize: number;
  blocks: number;
  bfree: number;
  /** Free for unprivileged users: the reserve is not. */
  bavail: number;
  files: number;
  ffree: number;
  nameMax: number;
}

/** `ino` is where it was asked for; `countMetadata` counts metadata as used space. */
export function statFilesystem(vol: Volume, ino: Ino, countMetadata: boolean): FilesystemStat {
  const { geometry } = vol;
  const { freeBlocks, freeInodes, reservedBlocks } = totals(vol);
  const overhead = SUPERBLOCK.s_overhead_blocks.get(vol.superblock().view, geometry.superblockOffset);
  const stat: FilesystemStat = {
    blockSize: geometry.blockSize,
    blocks: geometry.blocksCount - (countMetadata ? 0 : overhead * geometry.clusterRatio),
    bfree: freeBlocks,
    bavail: Math.max(0, freeBlocks - reservedBlocks),
    files: geometry.inodesCount,
    ffree: freeInodes,
    nameMax: 255,
  };
  if (vol.quotas?.enforces('project')) {
    const inode = Inode.get(vol, ino);
    if (inode.hasFlag(EXT4_PROJINHERIT_FL)) limitToProject(stat, inode);
  }
  return stat;
}

/** A directory that hands its project on looks as large as the limits of the project allow (ext4_statfs_project). */
function limitToProject(stat: FilesystemStat, inode: Inode): void {
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
