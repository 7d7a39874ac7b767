/** Small sound images that hold one of everything: what the damaged ones are made from. Built once, in memory. */
import assert from 'node:assert/strict';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ownView } from '../../../src/codec/view.js';
import { COMPAT } from '../../../src/ext4/features.js';
import { Filesystem } from '../../../src/ext4/filesystem.js';
import { EXT4_CASEFOLD_FL, EXT4_JOURNAL_DATA_FL } from '../../../src/ext4/format/inode.js';
import { SUPERBLOCK, SUPERBLOCK_OFFSET } from '../../../src/ext4/format/superblock.js';
import { OP_WRITE, TYPE_HOLE } from '../../../src/ext4/iomap.js';
import type { MountPolicy } from '../../../src/ext4/mount-policy.js';
import { readGeometry } from '../../../src/ext4/open.js';
import { recoverLog } from '../../../src/ext4/recover.js';
import type { Environment } from '../../../src/ext4/volume.js';
import { makeImage, run, withScratch } from '../../support/mke2fs.js';
import { withFastCommits } from './fast-commits.js';
import { populateSecret, populateVerified, withReadOnlyFeatures } from './read-only-features.js';
import { ScratchImage } from './scratch-image.js';
import { sealSuperblock } from './seals.js';
import { type SoundImage, soundDevice } from './sound-image.js';

interface HostileFormat {
  readonly blockSize: number;
  readonly sizeMiB: number;
  readonly args: readonly string[];
  readonly policy?: Partial<MountPolicy>;
  /** The journal is on a device of its own. */
  readonly externalJournal?: boolean;
  /** Blocks at the end of the log that are given to fast commits. */
  readonly fastCommitBlocks?: number;
  /** An encrypted directory and a verity file, which are shown and not written. */
  readonly readOnlyFeatures?: boolean;
  /** Attributes whose values are in inodes of their own; two share one. */
  readonly largeValues?: boolean;
  /** Files and directories in their inodes, with and without the attribute behind i_block. */
  readonly inlineData?: boolean;
  /** Names are found in any case below some directories. */
  readonly casefold?: boolean;
  /** Trees of two levels: several times as many structures, and as much work. */
  readonly deep?: boolean;
}

const UUID = '01020304-0506-4708-890a-0b0c0d0e0f10';
const SMALL = ['-b', '1024', '-N', '96', '-g', '1024', '-J', 'size=1', '-m', '0'];
const NO_JOURNAL = ['-b', '1024', '-N', '96', '-g', '1024', '-m', '0'];
const BIG_CLUSTERS = ['-b', '65536', '-N', '96', '-m', '0', '-O', 'bigalloc,^has_journal', '-C', '262144'];
const NO_CHECKSUMS = '^metadata_csum,^64bit,uninit_bg';

const FORMATS = new Map<string, HostileFormat>([
  ['1k', { blockSize: 1024, sizeMiB: 3, args: SMALL }],
  ['1k-no-csum', { blockSize: 1024, sizeMiB: 3, args: [...SMALL, '-O', NO_CHECKSUMS] }],
  ['1k-orphan-file', { blockSize: 1024, sizeMiB: 3, args: [...SMALL, '-O', 'orphan_file,metadata_csum_seed'] }],
  ['1k-fast-commit', { blockSize: 1024, sizeMiB: 6, args: [...SMALL, '-J', 'size=2'], fastCommitBlocks: 64 }],
  [
    '1k-fast-commit-mixed',
    {
      blockSize: 1024,
      sizeMiB: 8,
      args: [...SMALL, '-I', '256', '-J', 'size=2', '-O', 'bigalloc,inline_data,quota', '-C', '4096'],
      fastCommitBlocks: 64,
      inlineData: true,
    },
  ],
  ['64k-bigalloc', { blockSize: 65536, sizeMiB: 64, args: BIG_CLUSTERS }],
  ['1k-data-journal', { blockSize: 1024, sizeMiB: 3, args: SMALL, policy: { journalsData: true } }],
  ['1k-meta-bg', { blockSize: 1024, sizeMiB: 3, args: [...SMALL, '-O', 'meta_bg,^resize_inode'] }],
  [
    '1k-external-journal',
    { blockSize: 1024, sizeMiB: 3, args: [...NO_JOURNAL, '-O', '^has_journal'], externalJournal: true },
  ],
  ['ext2', { blockSize: 1024, sizeMiB: 3, args: ['-t', 'ext2', ...NO_JOURNAL] }],
  ['ext3', { blockSize: 1024, sizeMiB: 3, args: [...SMALL, '-O', '^extent,^64bit,^metadata_csum,^flex_bg'] }],
  [
    '1k-quota',
    {
      blockSize: 1024,
      sizeMiB: 3,
      args: [...SMALL, '-O', 'quota,project', '-E', 'quotatype=usrquota:grpquota:prjquota'],
      policy: { userLimits: true, groupLimits: true, projectLimits: true },
    },
  ],
  ['1k-large-dir', { blockSize: 1024, sizeMiB: 4, args: [...SMALL, '-O', 'large_dir'], deep: true }],
  ['1k-casefold', { blockSize: 1024, sizeMiB: 3, args: [...SMALL, '-O', 'casefold'], casefold: true }],
  [
    '1k-ea-inode-quota',
    {
      blockSize: 1024,
      sizeMiB: 3,
      args: [...SMALL, '-O', 'ea_inode,quota,project', '-E', 'quotatype=usrquota:grpquota:prjquota'],
      policy: { userLimits: true, groupLimits: true, projectLimits: true },
      largeValues: true,
    },
  ],
  ['1k-ea-inode', { blockSize: 1024, sizeMiB: 3, args: [...SMALL, '-O', 'ea_inode'], largeValues: true }],
  [
    '1k-inline-data',
    { blockSize: 1024, sizeMiB: 3, args: [...SMALL, '-I', '256', '-O', 'inline_data'], inlineData: true },
  ],
  ['1k-mmp', { blockSize: 1024, sizeMiB: 3, args: [...SMALL, '-O', 'mmp'] }],
  ['1k-encrypt-verity', { blockSize: 1024, sizeMiB: 4, args: SMALL, readOnlyFeatures: true }],
  ['4k', { blockSize: 4096, sizeMiB: 8, args: ['-N', '96', '-m', '0'] }],
  ['1k-deep', { blockSize: 1024, sizeMiB: 4, args: SMALL, deep: true }],
]);

/** Each format with an empty log and orphans on the list, and, where it writes one, with a log that is to be replayed. */
export const IMAGE_NAMES: readonly string[] = [...FORMATS].flatMap(([name, { args, readOnlyFeatures }]) =>
  args.includes('ext2') || args === BIG_CLUSTERS || readOnlyFeatures ? [name] : [name, `${name}-dirty`],
);

const CRED = { uid: 0, gid: 0 };
const ROOT = 2;
const encode = (text: string) => new TextEncoder().encode(text);

/** Two waits for other machines, of the longest that the kernel allows. */
const LONGEST_WAIT_MS = 2 * 361_000;

/** Nothing of it differs from run to run, and nobody really waits. */
export function stillEnvironment(): Environment {
  let random = 1;
  let slept = 0;
  return {
    now: () => ({ seconds: 1_700_000_000, nanoseconds: 0 }),
    monotonicMs: () => 0,
    random32: () => {
      random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
      return random;
    },
    schedule: () => () => {},
    sleep(ms) {
      slept += ms;
      if (slept > LONGEST_WAIT_MS) throw new Error(`a mount waits for ${slept / 1000} seconds`);
    },
  };
}

export interface NamedImage extends SoundImage {
  readonly name: string;
  readonly policy: Partial<MountPolicy>;
}

export async function soundImage(name: string): Promise<NamedImage> {
  const dirty = name.endsWith('-dirty');
  const format = FORMATS.get(dirty ? name.slice(0, -'-dirty'.length) : name);
  if (format === undefined) throw new Error(`there is no image ${name}: ${IMAGE_NAMES.join(', ')}`);
  const image = freshImage(format);
  const first = open(image, format);
  populate(first, format);
  if (format.readOnlyFeatures) {
    populateSecret(first);
    populateVerified(first, write);
  }
  first.closeSync();
  const second = open(image, format);
  await leaveLog(second, format);
  // Nothing more of it is written: the log holds what happened since the first time it was closed.
  if (!dirty) recoverLog(soundDevice(image), readGeometry(soundDevice(image)));
  const { fastCommitBlocks, policy = {} } = format;
  let { bytes } = image;
  if (fastCommitBlocks !== undefined) bytes = withFastCommits(image, fastCommitBlocks, stillEnvironment());
  if (format.readOnlyFeatures) bytes = withReadOnlyFeatures(image, ...marked(second));
  return { name, bytes, journalAt: image.journalAt, policy };
}

function freshImage({ sizeMiB, args, externalJournal }: HostileFormat): SoundImage {
  const filesystem = makeImage(sizeMiB, ['-U', UUID, ...args]);
  if (!externalJournal) return { bytes: filesystem, journalAt: undefined };
  const journal = withScratch((directory) => {
    const path = join(directory, 'journal');
    writeFileSync(path, '');
    truncateSync(path, 2 << 20);
    assert.equal(run('mke2fs', ['-q', '-F', '-O', 'journal_dev', '-b', '1024', '-U', UUID, path]).code, 0);
    return readFileSync(path);
  });
  // mke2fs makes the two acquainted only if the journal is a block device.
  const view = ownView(filesystem.subarray(SUPERBLOCK_OFFSET));
  const { s_feature_compat, s_journal_uuid } = SUPERBLOCK;
  s_feature_compat.set(view, 0, s_feature_compat.get(view, 0) | COMPAT.has_journal);
  const theirs = journal.subarray(SUPERBLOCK_OFFSET + SUPERBLOCK.s_uuid.offset);
  filesystem.set(theirs.subarray(0, 16), SUPERBLOCK_OFFSET + s_journal_uuid.offset);
  const bytes = new Uint8Array(filesystem.length + journal.length);
  bytes.set(filesystem);
  bytes.set(journal, filesystem.length);
  const image = new ScratchImage({ bytes, journalAt: filesystem.length });
  sealSuperblock(image);
  return image;
}

function open(image: SoundImage, { policy }: HostileFormat): Filesystem {
  return Filesystem.open(soundDevice(image), { env: stillEnvironment(), policy });
}

/** An access control list as system calls take it: owner, one user, group, mask, others. */
// biome-ignore format: one entry a line
const ACL = new Uint8Array([
  2, 0, 0, 0,
  1, 0, 6, 0, 255, 255, 255, 255,
  2, 0, 7, 0, 100, 0, 0, 0,
  4, 0, 4, 0, 255, 255, 255, 255,
  16, 0, 7, 0, 255, 255, 255, 255,
  32, 0, 4, 0, 255, 255, 255, 255,
]);

function populate(
  fs: Filesystem,
  { blockSize, deep = false, casefold = false, largeValues = false, inlineData = false }: HostileFormat,
): void {
  const create = (parent: number, name: string) => fs.create(parent, encode(name), 0o100644, CRED);
  const d = fs.mkdir(ROOT, encode('d'), 0o40755, CRED);
  if (casefold) fs.setFlags(d, fs.getFlags(d) | EXT4_CASEFOLD_FL, CRED);
  const plain = create(d, 'plain');
  write(fs, plain, 0, 3 * blockSize - 10);
  fs.setxattr(plain, encode('user.small'), new Uint8Array(7).fill(1), 0);
  const attributed = create(d, 'attributed');
  fs.setxattr(attributed, encode('user.in-inode'), new Uint8Array(12).fill(2), 0);
  fs.setxattr(attributed, encode('user.in-a-block'), new Uint8Array(blockSize / 4).fill(3), 0);
  fs.setxattr(attributed, encode('trusted.another'), new Uint8Array(40).fill(4), 0);
  if (largeValues) {
    for (const ino of [plain, attributed]) fs.setxattr(ino, encode('user.large'), new Uint8Array(3000).fill(5), 0);
    fs.setxattr(attributed, encode('user.larger'), new Uint8Array(9000).fill(6), 0);
  }
  if (inlineData) {
    write(fs, create(ROOT, 'in-i_block'), 0, 50);
    write(fs, create(ROOT, 'in-attribute'), 0, 100);
    const few = fs.mkdir(ROOT, encode('few'), 0o40755, CRED);
    for (const name of ['one', 'two', 'three', 'four', 'five', 'six']) create(few, name);
  }
  fs.setxattr(create(d, 'listed'), encode('system.posix_acl_access'), ACL, 0);
  create(d, 'empty');
  const logged = create(d, 'logged');
  fs.setFlags(logged, fs.getFlags(logged) | EXT4_JOURNAL_DATA_FL, CRED);
  write(fs, logged, 0, 2 * blockSize);
  fs.symlink(d, encode('short'), encode('plain'), CRED);
  fs.symlink(d, encode('long'), encode('x'.repeat(100)), CRED);
  fs.mknod(d, encode('device'), 0o20600, 0x103, CRED);
  fs.mknod(d, encode('pipe'), 0o10600, 0, CRED);
  fs.link(plain, d, encode('second-name'));
  const nested = fs.mkdir(d, encode('nested'), 0o40700, CRED);
  fs.setxattr(nested, encode('system.posix_acl_default'), ACL, 0);
  fs.mkdir(nested, encode('deeper'), 0o40700, CRED);
  // Every other block of a file: extents that cannot be joined, enough for a tree; behind them unwritten ones.
  const holes = create(d, 'holes');
  const pieces = deep ? 400 : 100;
  for (let i = 0; i < pieces; i++) write(fs, holes, 2 * i * blockSize, blockSize);
  const allocated = create(ROOT, 'allocated');
  write(fs, allocated, 0, 5 * blockSize);
  try {
    fs.fallocate(allocated, 1, 8 * blockSize, 6 * blockSize);
  } catch {
    // Block maps know no unwritten blocks: there a file that reaches the second level stands in.
    write(fs, allocated, (12 + blockSize / 4 + 3) * blockSize, blockSize);
  }
  const indexed = fs.mkdir(ROOT, encode('indexed'), 0o40755, CRED);
  if (casefold) fs.setFlags(indexed, fs.getFlags(indexed) | EXT4_CASEFOLD_FL, CRED);
  const names = deep ? 420 : 3 * Math.floor(blockSize / 200);
  for (let i = 0; i < names; i++) fs.link(plain, indexed, encode(`${String(i).padStart(4, '0')}${'n'.repeat(200)}`));
  assert.ok((fs.stat(indexed).flags & 0x1000) !== 0, 'the directory has an index');
}

/** A few transactions: logged metadata, revoked blocks, unlinked files that are still open. */
async function leaveLog(fs: Filesystem, { blockSize }: HostileFormat): Promise<void> {
  const sync = () =>
    new Promise<void>((resolve, reject) => fs.sync(null, (error) => (error === null ? resolve() : reject(error))));
  const gone = fs.mkdir(ROOT, encode('gone'), 0o40755, CRED);
  for (let i = 0; i < 3; i++) {
    const ino = fs.create(gone, encode(`orphan-${i}`), 0o100644, CRED);
    write(fs, ino, 0, (i + 1) * blockSize);
  }
  await sync();
  for (let i = 0; i < 3; i++) fs.unlink(gone, encode(`orphan-${i}`));
  fs.rmdir(ROOT, encode('gone'));
  fs.evict([gone]);
  await sync();
  fs.setattr(fs.lookup(ROOT, encode('allocated')), { mode: 0o600 });
  fs.mkdir(ROOT, encode('last'), 0o40755, CRED);
  await sync();
}

/** The inodes that are to be encrypted, and the one with a hash tree. */
function marked(fs: Filesystem): [number[], number] {
  const secret = [fs.lookup(ROOT, encode('secret')), fs.lookup(ROOT, encode('indexed'))];
  fs.readdir(secret[0], 0, (name, ino) => {
    if (name.length > 2) secret.push(ino);
    return true;
  });
  return [secret, fs.lookup(ROOT, encode('verified'))];
}

/** What the data path does for a write of these bytes, or of so many, at once. */
export function write(fs: Filesystem, ino: number, posBytes: number, what: number | Uint8Array): void {
  const bytes = typeof what === 'number' ? new Uint8Array(what).fill(0x77) : what;
  const lengthBytes = bytes.length;
  if (fs.writesThroughEngine(ino, posBytes, lengthBytes)) {
    fs.writeJournaled(ino, posBytes, bytes, OP_WRITE, 0);
    return;
  }
  for (let pos = posBytes; pos < posBytes + lengthBytes; ) {
    const mapping = fs.iomapBegin(ino, pos, posBytes + lengthBytes - pos, OP_WRITE);
    const length = Math.min(posBytes + lengthBytes, mapping.offsetBytes + mapping.lengthBytes) - pos;
    if (mapping.type === TYPE_HOLE || !(length > 0))
      throw new Error(`a write was mapped to type ${mapping.type}, ${length} bytes`);
    const addr = mapping.addrBytes + (pos - mapping.offsetBytes);
    fs.volume.device.write(addr, bytes.subarray(pos - posBytes, pos - posBytes + length));
    fs.iomapIoend(ino, pos, length, addr, 0, 0);
    pos += length;
  }
}
