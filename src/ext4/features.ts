/**
 * Feature bits by the names that mke2fs and dumpe2fs use, and what this program does with each: `rw` supported,
 * `ro` mounted read-only, `no` refused. An unknown RO_COMPAT bit means read-only, an unknown INCOMPAT bit a refusal.
 */

export type Support = 'rw' | 'ro' | 'no';
export type FeatureSet = 'compat' | 'incompat' | 'ro_compat';

interface Feature {
  readonly name: string;
  readonly bit: number;
  readonly support: Support;
}

export const COMPAT = {
  dir_prealloc: 0x1,
  imagic_inodes: 0x2,
  has_journal: 0x4,
  ext_attr: 0x8,
  resize_inode: 0x10,
  dir_index: 0x20,
  sparse_super2: 0x200,
  fast_commit: 0x400,
  stable_inodes: 0x800,
  orphan_file: 0x1000,
} as const;

export const INCOMPAT = {
  compression: 0x1,
  filetype: 0x2,
  needs_recovery: 0x4,
  journal_dev: 0x8,
  meta_bg: 0x10,
  extent: 0x40,
  '64bit': 0x80,
  mmp: 0x100,
  flex_bg: 0x200,
  ea_inode: 0x400,
  dirdata: 0x1000,
  metadata_csum_seed: 0x2000,
  large_dir: 0x4000,
  inline_data: 0x8000,
  encrypt: 0x10000,
  casefold: 0x20000,
} as const;

export const RO_COMPAT = {
  sparse_super: 0x1,
  large_file: 0x2,
  btree_dir: 0x4,
  huge_file: 0x8,
  uninit_bg: 0x10,
  dir_nlink: 0x20,
  extra_isize: 0x40,
  quota: 0x100,
  bigalloc: 0x200,
  metadata_csum: 0x400,
  replica: 0x800,
  read_only: 0x1000,
  project: 0x2000,
  shared_blocks: 0x4000,
  verity: 0x8000,
  orphan_present: 0x10000,
} as const;

/** What the bits above not listed here get: RO_COMPAT read-only, INCOMPAT refused but for encrypt, COMPAT ignored. */
const SUPPORTED_RW: Record<FeatureSet, ReadonlySet<string>> = {
  compat: new Set([
    'dir_prealloc',
    'has_journal',
    'ext_attr',
    'resize_inode',
    'dir_index',
    'sparse_super2',
    'fast_commit',
    'stable_inodes',
    'orphan_file',
  ]),
  incompat: new Set([
    'filetype',
    'needs_recovery',
    'meta_bg',
    'extent',
    '64bit',
    'flex_bg',
    'ea_inode',
    'metadata_csum_seed',
    'large_dir',
    'mmp',
    'casefold',
    'inline_data',
  ]),
  ro_compat: new Set([
    'sparse_super',
    'large_file',
    'huge_file',
    'dir_nlink',
    'extra_isize',
    'quota',
    'metadata_csum',
    'project',
    'uninit_bg',
    'bigalloc',
    'orphan_present',
  ]),
};

function table(
  bits: Record<string, number>,
  set: FeatureSet,
  otherwise: Support,
  readOnly: ReadonlySet<string> = new Set(),
): Feature[] {
  return Object.entries(bits).map(([name, bit]) => ({
    name,
    bit,
    support: SUPPORTED_RW[set].has(name) ? 'rw' : readOnly.has(name) ? 'ro' : otherwise,
  }));
}

const TABLES: Record<FeatureSet, Feature[]> = {
  compat: table(COMPAT, 'compat', 'ro'),
  incompat: table(INCOMPAT, 'incompat', 'no', new Set(['encrypt'])),
  ro_compat: table(RO_COMPAT, 'ro_compat', 'ro'),
};

/** The features in `word`, known or not, each with what is done about it. */
export function describeFeatures(set: FeatureSet, word: number): { name: string; support: Support }[] {
  const found: { name: string; support: Support }[] = [];
  for (let bit = 0; bit < 32; bit++) {
    const mask = (1 << bit) >>> 0;
    if ((word & mask) === 0) continue;
    const known = TABLES[set].find((feature) => feature.bit === mask);
    if (known) found.push({ name: known.name, support: known.support });
    else if (set === 'compat') found.push({ name: `unknown_compat_${bit}`, support: 'rw' });
    else found.push({ name: `unknown_${set}_${bit}`, support: set === 'incompat' ? 'no' : 'ro' });
  }
  return found;
}
