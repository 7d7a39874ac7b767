/** The filesystems that crash workloads run on: small, and with every free block full of what nobody wrote. */
import { MemoryDevice } from '../../../src/block/memory-device.js';
import { readBlockBitmap } from '../../../src/ext4/block-bitmap.js';
import { frozenVolume } from '../../../src/ext4/frozen-volume.js';
import { GroupDescriptor } from '../../../src/ext4/group.js';
import type { MountPolicy } from '../../../src/ext4/mount-policy.js';
import { readGeometry } from '../../../src/ext4/open.js';
import { makeImage } from '../../support/mke2fs.js';

export interface Format {
  readonly name: string;
  readonly blockSize: number;
  readonly sizeMiB: number;
  readonly args: readonly string[];
  readonly policy?: Partial<MountPolicy>;
  /** Random workloads ask for durability file by file, and begin with a commit: fast commits need one to be on top of. */
  readonly fastCommits?: boolean;
  /** Lengths of attributes in random workloads, and whether those of equal length are equal, so that they are shared. */
  readonly attributes?: { readonly lengths: readonly number[]; readonly equal: boolean };
}

const SMALL = ['-N', '64', '-J', 'size=1', '-m', '0', '-O', '^resize_inode'];

export const FORMATS: readonly Format[] = [
  { name: '1k', blockSize: 1024, sizeMiB: 3, args: ['-b', '1024', ...SMALL] },
  {
    name: '1k-orphan-file',
    blockSize: 1024,
    sizeMiB: 3,
    args: ['-b', '1024', ...SMALL, '-O', 'orphan_file,metadata_csum_seed'],
  },
  { name: '1k-no-csum', blockSize: 1024, sizeMiB: 3, args: ['-b', '1024', ...SMALL, '-O', '^metadata_csum,^64bit'] },
  {
    name: 'ext3',
    blockSize: 1024,
    sizeMiB: 3,
    args: ['-b', '1024', ...SMALL, '-O', '^extent,^64bit,^metadata_csum,^flex_bg'],
  },
  {
    name: '1k-data-journal',
    blockSize: 1024,
    sizeMiB: 3,
    args: ['-b', '1024', ...SMALL],
    policy: { journalsData: true },
  },
  { name: '1k-discard', blockSize: 1024, sizeMiB: 3, args: ['-b', '1024', ...SMALL], policy: { discards: true } },
  {
    name: '1k-quota',
    blockSize: 1024,
    sizeMiB: 3,
    args: ['-b', '1024', ...SMALL, '-O', 'quota,project', '-E', 'quotatype=usrquota:grpquota:prjquota'],
  },
  { name: '1k-bigalloc', blockSize: 1024, sizeMiB: 6, args: ['-b', '1024', '-O', 'bigalloc', '-C', '4096', ...SMALL] },
  {
    name: '1k-bigalloc-data-journal',
    blockSize: 1024,
    sizeMiB: 6,
    args: ['-b', '1024', '-O', 'bigalloc', '-C', '4096', ...SMALL],
    policy: { journalsData: true },
  },
  {
    name: '1k-ea-inode',
    blockSize: 1024,
    sizeMiB: 3,
    args: ['-b', '1024', ...SMALL, '-N', '160', '-O', 'ea_inode'],
    attributes: { lengths: [3, 20, 200, 600, 900, 1500, 5000], equal: true },
  },
  {
    name: '1k-ea-inode-quota',
    blockSize: 1024,
    sizeMiB: 3,
    args: [
      ...['-b', '1024', ...SMALL, '-N', '160'],
      ...['-O', 'ea_inode,quota,project', '-E', 'quotatype=usrquota:grpquota:prjquota'],
    ],
    attributes: { lengths: [3, 20, 200, 600, 900, 1500, 5000], equal: true },
  },
  {
    name: '1k-inline-data',
    blockSize: 1024,
    sizeMiB: 3,
    args: ['-b', '1024', '-I', '256', ...SMALL, '-O', 'inline_data'],
  },
  {
    name: '1k-fast-commit',
    blockSize: 1024,
    sizeMiB: 4,
    args: ['-b', '1024', ...SMALL, '-O', 'fast_commit'],
    fastCommits: true,
  },
  { name: '4k', blockSize: 4096, sizeMiB: 8, args: ['-N', '64', '-m', '0'] },
];

/** What an old file may have left in a free block. */
const POISON = 0xdb;

/** A fresh filesystem of this format whose free blocks hold {@link POISON}. */
export function poisonedImage(format: Format): Uint8Array {
  const image = makeImage(format.sizeMiB, format.args);
  const device = new MemoryDevice(image);
  const geometry = readGeometry(device);
  const vol = frozenVolume(device, geometry);
  for (let group = 0; group < geometry.groupCount; group++) {
    const { view } = readBlockBitmap(vol, GroupDescriptor.get(vol, group));
    for (let i = 0; i < geometry.groupClusters(group); i++) {
      if (((view.getUint8(i >>> 3) >>> (i & 7)) & 1) !== 0) continue;
      const start = geometry.blockOfBit(group, i) * geometry.blockSize;
      image.fill(POISON, start, start + geometry.clusterRatio * geometry.blockSize);
    }
  }
  return image;
}

export function formatNamed(name: string): Format {
  const format = FORMATS.find((each) => each.name === name);
  if (format === undefined)
    throw new Error(`there is no format ${name}: ${FORMATS.map((each) => each.name).join(', ')}`);
  return format;
}
