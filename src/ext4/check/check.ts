/**
 * Looks through a whole filesystem for contradictions: blocks used twice or by nobody, inodes, directories, links, counts.
 * It reads what the kernel and e2fsck would, with code that the running filesystem shares only for decoding, and changes
 * nothing. The log must have been replayed.
 */
import type { CorruptionError } from '../../errors.js';
import { SUPERBLOCK } from '../format/superblock.js';
import type { Ino } from '../inode.js';
import { chainedOrphans, filedOrphans } from '../orphan-list.js';
import type { Volume } from '../volume.js';
import { BlockMap } from './block-map.js';
import { DirectoryCheck } from './directories.js';
import { Findings } from './findings.js';
import { InodeCheck } from './inodes.js';
import { checkQuotas } from './quota.js';

export interface CheckReport {
  readonly findings: readonly CorruptionError[];
  readonly inodes: number;
  readonly directories: number;
  readonly freeBlocks: number;
  readonly freeInodes: number;
  readonly orphans: number;
}

/** `unmounted`: the superblock's own counts must be right, and there must be no orphans left. */
export function checkFilesystem(vol: Volume, { unmounted = true } = {}): CheckReport {
  const findings = new Findings();
  const orphans =
    findings.collect(() => new Set<Ino>([...chainedOrphans(vol), ...filedOrphans(vol)])) ?? new Set<Ino>();
  const blocks = new BlockMap(vol, findings);
  blocks.claimFixed();
  const inodes = new InodeCheck(vol, blocks, findings, orphans);
  inodes.run();
  const directories = new DirectoryCheck(vol, findings, inodes.used, orphans);
  directories.run();
  checkQuotas(vol, findings, inodes.used.keys());
  const freeBlocks = blocks.compare();
  const { freeInodes } = inodes;
  if (unmounted) compareTotals(vol, findings, freeBlocks, freeInodes);
  return {
    findings: findings.list,
    inodes: inodes.used.size,
    directories: directories.directories,
    freeBlocks,
    freeInodes,
    orphans: orphans.size,
  };
}

function compareTotals(vol: Volume, findings: Findings, freeBlocks: number, freeInodes: number): void {
  const { view } = vol.superblock();
  const at = vol.geometry.superblockOffset;
  const high = vol.geometry.descSize >= 64 ? SUPERBLOCK.s_free_blocks_count_hi.get(view, at) : 0;
  const blocks = SUPERBLOCK.s_free_blocks_count_lo.get(view, at) + high * 0x1_0000_0000;
  const inodes = SUPERBLOCK.s_free_inodes_count.get(view, at);
  if (blocks !== freeBlocks) findings.add('superblock', 's_free_blocks_count', `${blocks}, found ${freeBlocks}`);
  if (inodes !== freeInodes) findings.add('superblock', 's_free_inodes_count', `${inodes}, found ${freeInodes}`);
}
