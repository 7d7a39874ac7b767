/**
 * The words after -o: what the server honours, what the kernel's VFS does for it, what is harmless to ignore, and what
 * is refused by name. ext4's own words behave as in the kernel wherever they change what is stored.
 */

import type { ErrorsPolicy } from '../ext4/filesystem.js';
import type { MountPolicy } from '../ext4/mount-policy.js';
import type { AtimePolicy } from '../ext4/setattr.js';
import type { IdMapping, IdRange } from '../fuse/owner-map.js';
import { OptionError } from './args.js';
import { type DeviceNumber, parseDeviceNumber } from './device-number.js';
import { IGNORED, IGNORED_NUMBERS, REFUSED } from './mount-words.js';

export interface MountOptions {
  readOnly: boolean;
  /** Asked for by `rw`: then it is an error, not a fallback, if only reading is possible. */
  readWrite: boolean;
  noRecovery: boolean;
  /** Undefined: the default. */
  commitIntervalMs?: number;
  /** Undefined: what the superblock says. */
  errors?: ErrorsPolicy;
  atime: AtimePolicy;
  /** Where the filesystem starts in the image. */
  offsetBytes: number;
  /** How much of the image belongs to it; undefined: all that follows. */
  sizeLimitBytes?: number;
  /** Memory for cached metadata; undefined: the default. */
  cacheBytes?: number;
  allowOther: boolean;
  /** Of others, only root: the server turns away the rest. */
  allowRoot: boolean;
  /** If the server dies its mount goes, too. */
  autoUnmount: boolean;
  /** Read by the copy of the superblock at this byte, without writing. */
  superblockAt?: number;
  defaultPermissions: boolean;
  /** POSIX ACLs are enforced and inherited. */
  acl: boolean;
  subtype: string;
  /** What changes what is stored; default: as the superblock says. */
  policy: { -readonly [K in keyof MountPolicy]?: MountPolicy[K] };
  /** minixdf: df counts metadata as used space. */
  countMetadata: boolean;
  userXattr: boolean;
  /** Changes of names are durable before they are answered. */
  dirsync: boolean;
  /** auto_da_alloc: a file that takes another's place by rename is written back first. */
  flushesReplacing: boolean;
  /** Requests come over io_uring, if the kernel has that. */
  ioUring: boolean;
  /** data_err=abort: file data that could not be written aborts the journal. */
  dataErrorAborts: boolean;
  /** Act as if the journal had been aborted, for tests. */
  abort: boolean;
  /** No permission checks: whoever may enter acts as root does. */
  fakeroot: boolean;
  uids: IdMapping;
  gids: IdMapping;
  /** Number, label or UUID of a partition of the image. */
  part?: string;
  /** Writes go there instead of to the image. */
  overlayFile?: string;
  /** Created when the server starts, and removed when the image is closed. */
  lockFile?: string;
  oomScoreAdj?: number;
  /** Where an external journal may be: the one with the right UUID is taken. */
  journalPaths: string[];
  /** The same, by number. */
  journalDevices: DeviceNumber[];
  fsname?: string;
  /** usrjquota=, grpjquota=: quota files among the others, which nothing here keeps right. */
  namedQuotaFiles: string[];
  /** Generic words for mount(2) or fusermount3, the later of two opposites only. */
  vfs: string[];
  /** For the kernel's security module, if it is the one that knows such words. */
  labels: string[];
  /** Accepted without an effect. */
  ignored: string[];
}

type Apply = (options: MountOptions, value: string) => void;

/** A word that just sets something. */
const set =
  <K extends keyof MountOptions>(key: K, value: MountOptions[K]): Apply =>
  (options) => {
    options[key] = value;
  };

const policy =
  <K extends keyof MountPolicy>(key: K, value: MountPolicy[K]): Apply =>
  (options) => {
    options.policy[key] = value;
  };

/** Words that the VFS handles; each names the one it takes back. */
export const VFS_OPPOSITES: Record<string, string> = {
  suid: 'nosuid',
  nosuid: 'suid',
  dev: 'nodev',
  nodev: 'dev',
  exec: 'noexec',
  noexec: 'exec',
  symfollow: 'nosymfollow',
  nosymfollow: 'symfollow',
  sync: 'async',
  async: 'sync',
};

function vfs(options: MountOptions, word: string): void {
  options.vfs = options.vfs.filter((other) => other !== word && other !== VFS_OPPOSITES[word]);
  options.vfs.push(word);
}

/** Words without a value. */
const PLAIN: Record<string, Apply> = {
  // Done by remount.ts, before options are parsed.
  remount: () => {},
  ro: (options) => Object.assign(options, { readOnly: true, readWrite: false }),
  rw: (options) => Object.assign(options, { readOnly: false, readWrite: true }),
  norecovery: set('noRecovery', true),
  noload: set('noRecovery', true),
  allow_other: set('allowOther', true),
  allow_root: set('allowRoot', true),
  auto_unmount: set('autoUnmount', true),
  nodiratime: (options) => {
    if (options.atime !== 'noatime') options.atime = 'nodiratime';
  },
  nouid32: policy('ids16', true),
  default_permissions: set('defaultPermissions', true),
  auto_da_alloc: set('flushesReplacing', true),
  noauto_da_alloc: set('flushesReplacing', false),
  acl: set('acl', true),
  noacl: set('acl', false),
  noatime: set('atime', 'noatime'),
  relatime: set('atime', 'relatime'),
  atime: set('atime', 'relatime'),
  norelatime: set('atime', 'strictatime'),
  strictatime: set('atime', 'strictatime'),
  nostrictatime: set('atime', 'relatime'),
  grpid: policy('groupOfDirectory', true),
  bsdgroups: policy('groupOfDirectory', true),
  nogrpid: policy('groupOfDirectory', false),
  sysvgroups: policy('groupOfDirectory', false),
  discard: policy('discards', true),
  nodiscard: policy('discards', false),
  quota: policy('userLimits', true),
  usrquota: policy('userLimits', true),
  grpquota: policy('groupLimits', true),
  prjquota: policy('projectLimits', true),
  noquota: (options) => Object.assign(options.policy, { userLimits: false, groupLimits: false, projectLimits: false }),
  nombcache: policy('sharesXattrs', false),
  no_mbcache: policy('sharesXattrs', false),
  minixdf: set('countMetadata', true),
  bsddf: set('countMetadata', false),
  user_xattr: set('userXattr', true),
  nouser_xattr: set('userXattr', false),
  dirsync: set('dirsync', true),
  io_uring: set('ioUring', true),
  noio_uring: set('ioUring', false),
  abort: set('abort', true),
  fakeroot(options) {
    options.fakeroot = true;
    vfs(options, 'nosuid');
    vfs(options, 'nodev');
  },
  // Taken back: no quota file is named.
  usrjquota: (options) => nameQuotaFile(options, 'usrjquota', ''),
  grpjquota: (options) => nameQuotaFile(options, 'grpjquota', ''),
  // fuse2fs: everybody, and everything a disk may hold.
  kernel: (options) => {
    options.allowOther = true;
    vfs(options, 'suid');
    vfs(options, 'dev');
  },
};
for (const word of Object.keys(VFS_OPPOSITES)) PLAIN[word] = (options) => vfs(options, word);

const UNIT_BYTES: Record<string, number> = { k: 1 << 10, m: 1 << 20, g: 1 << 30 };

/** Words with a value. */
const VALUED: Record<string, Apply> = {
  data: (options, value) => {
    // Data always reaches the device before the metadata that makes it visible is logged: writeback would gain nothing.
    options.policy.journalsData = oneOf('data', value, ['journal', 'ordered', 'writeback']) === 'journal';
  },
  commit: (options, value) => {
    const seconds = integer('commit', value, 0, 86_400);
    options.commitIntervalMs = seconds === 0 ? undefined : seconds * 1000;
  },
  errors: (options, value) => {
    options.errors = oneOf('errors', value, ['continue', 'remount-ro', 'panic'] as const);
  },
  data_err: (options, value) => {
    options.dataErrorAborts = oneOf('data_err', value, ['ignore', 'abort']) === 'abort';
  },
  resuid: (options, value) => {
    options.policy.resuid = integer('resuid', value, 0, MAX_ID);
  },
  resgid: (options, value) => {
    options.policy.resgid = integer('resgid', value, 0, MAX_ID);
  },
  max_dir_size_kb: (options, value) => {
    const kib = integer('max_dir_size_kb', value, 0, Number.MAX_SAFE_INTEGER / 1024);
    options.policy.maxDirectoryBytes = kib === 0 ? Number.POSITIVE_INFINITY : kib * 1024;
  },
  debug_want_extra_isize: (options, value) => {
    options.policy.wantExtraIsize = integer('debug_want_extra_isize', value, 4, 0xffff);
  },
  uid: (options, value) => {
    options.uids = { all: integer('uid', value, 0, MAX_ID) };
  },
  gid: (options, value) => {
    options.gids = { all: integer('gid', value, 0, MAX_ID) };
  },
  uidmap: (options, value) => {
    options.uids = [...rangesOf(options.uids), idRange('uidmap', value)];
  },
  gidmap: (options, value) => {
    options.gids = [...rangesOf(options.gids), idRange('gidmap', value)];
  },
  part: (options, value) => {
    options.part = name('part', value);
  },
  overlay: (options, value) => {
    options.overlayFile = name('overlay', value);
  },
  lockfile: (options, value) => {
    options.lockFile = name('lockfile', value);
  },
  oom_score_adj: (options, value) => {
    if (!/^-?\d+$/.test(value) || Math.abs(Number(value)) > 1000)
      throw new OptionError(`oom_score_adj=${value}: a number from -1000 to 1000 is expected`);
    options.oomScoreAdj = Number(value);
  },
  // In units of 1 KiB, as for the kernel.
  sb: (options, value) => {
    options.superblockAt = integer('sb', value, 1, Number.MAX_SAFE_INTEGER / 1024) * 1024;
  },
  offset: (options, value) => {
    options.offsetBytes = integer('offset', value, 0, Number.MAX_SAFE_INTEGER);
  },
  sizelimit: (options, value) => {
    options.sizeLimitBytes = integer('sizelimit', value, 1, Number.MAX_SAFE_INTEGER);
  },
  cache_size: (options, value) => {
    const [, number, unit] = /^(\d+)([kmg]?)$/i.exec(value) ?? [];
    const bytes = Number(number) * (UNIT_BYTES[unit?.toLowerCase()] ?? 1);
    if (!(bytes > 0 && bytes <= 2 ** 36)) throw new OptionError(`cache_size=${value}: a size up to 64g is expected`);
    // fuse2fs takes less; there is no working with it here.
    options.cacheBytes = Math.max(bytes, 1 << 20);
  },
  jqfmt: (_options, value) => {
    oneOf('jqfmt', value, ['vfsold', 'vfsv0', 'vfsv1']);
  },
  usrjquota: (options, value) => nameQuotaFile(options, 'usrjquota', value),
  grpjquota: (options, value) => nameQuotaFile(options, 'grpjquota', value),
  subtype: (options, value) => {
    options.subtype = value;
  },
  journal_path: (options, value) => {
    options.journalPaths.push(name('journal_path', value));
  },
  journal_dev: (options, value) => {
    const number = parseDeviceNumber(value);
    if (number === null) throw new OptionError(`journal_dev=${value}: not MAJOR:MINOR and not a device number`);
    options.journalDevices.push(number);
  },
  fsname: (options, value) => {
    options.fsname = name('fsname', value);
  },
};
VALUED.auto_da_alloc = (options, value) => {
  options.flushesReplacing = integer('auto_da_alloc', value, 0, 1) === 1;
};
/** Labels for all files, from SELinux and Smack. */
for (const word of 'context fscontext defcontext rootcontext smackfsdef smackfsfloor smackfshat smackfsroot smackfstransmute'.split(
  ' ',
)) {
  VALUED[word] = (options, value) => {
    options.labels.push(`${word}=${value}`);
  };
}
/** mount(8) keeps `offset` and `sizelimit` in fstab for itself and makes a loop device; these spellings reach us. */
VALUED.image_offset = VALUED.offset;
VALUED.image_sizelimit = VALUED.sizelimit;

/** Every word that does something. */
export const HONOURED: readonly string[] = [...new Set([...Object.keys(PLAIN), ...Object.keys(VALUED)])];

const MAX_ID = 0xfffffffe;

/** IMAGE:HOST:COUNT, as in /proc/self/uid_map. */
function idRange(word: string, value: string): IdRange {
  const [, image, host, count] = /^(\d+):(\d+):(\d+)$/.exec(value) ?? [];
  if (image === undefined)
    throw new OptionError(`${word}=${value}: IMAGE:HOST:COUNT is expected, as in ${word}=0:1000:1`);
  return { image: Number(image), host: Number(host), count: Number(count) };
}

const rangesOf = (mapping: IdMapping): readonly IdRange[] => (mapping !== null && !('all' in mapping) ? mapping : []);

function integer(word: string, value: string, min: number, max: number): number {
  const number = /^\d+$/.test(value) ? Number(value) : Number.NaN;
  if (!(number >= min && number <= max))
    throw new OptionError(`${word}=${value}: a whole number from ${min} is expected`);
  return number;
}

function oneOf<T extends string>(word: string, value: string, allowed: readonly T[]): T {
  const found = allowed.find((one) => one === value);
  if (found === undefined) throw new OptionError(`${word}=${value}: one of ${allowed.join(', ')} is expected`);
  return found;
}

/** An empty name takes back an earlier one. */
function nameQuotaFile(options: MountOptions, word: string, value: string): void {
  options.namedQuotaFiles = options.namedQuotaFiles.filter((other) => !other.startsWith(`${word}=`));
  if (value !== '') options.namedQuotaFiles.push(`${word}=${value}`);
}

function name(word: string, value: string): string {
  if (value === '') throw new OptionError(`${word}= needs a value`);
  return value;
}

/** Commas separate; `\,` is a comma. */
export function splitWords(text: string): string[] {
  return text
    .split(/(?<!\\),/)
    .map((word) => word.replaceAll('\\,', ',').trim())
    .filter((word) => word !== '');
}

/**
 * Later words win over earlier ones. Throws {@link OptionError} naming the first word that is unknown, refused or
 * malformed; `sloppy` (mount -s) lets unknown ones pass.
 */
export function parseMountOptions(lists: readonly string[], { sloppy = false } = {}): MountOptions {
  const options: MountOptions = {
    readOnly: false,
    readWrite: false,
    noRecovery: false,
    atime: 'relatime',
    offsetBytes: 0,
    allowOther: false,
    allowRoot: false,
    autoUnmount: false,
    defaultPermissions: false,
    acl: true,
    subtype: 'ext4d',
    journalPaths: [],
    journalDevices: [],
    namedQuotaFiles: [],
    policy: {},
    countMetadata: false,
    userXattr: true,
    dirsync: false,
    ioUring: false,
    flushesReplacing: true,
    dataErrorAborts: false,
    abort: false,
    fakeroot: false,
    uids: null,
    gids: null,
    vfs: [],
    labels: [],
    ignored: [],
  };
  for (const word of lists.flatMap(splitWords)) {
    const at = word.indexOf('=');
    const key = at < 0 ? word : word.slice(0, at);
    const value = at < 0 ? '' : word.slice(at + 1);
    if (at < 0 && Object.hasOwn(PLAIN, key)) PLAIN[key](options, '');
    else if (at >= 0 && Object.hasOwn(VALUED, key)) VALUED[key](options, value);
    else if (IGNORED.has(word) || (IGNORED.has(key) && !Object.hasOwn(REFUSED, key)) || /^x-/i.test(word)) {
      if (at >= 0 && Object.hasOwn(IGNORED_NUMBERS, key)) integer(key, value, 0, IGNORED_NUMBERS[key]);
      options.ignored.push(word);
    } else if (Object.hasOwn(REFUSED, key)) {
      throw new OptionError(`mount option ${word} is not supported: ${REFUSED[key]}`);
    } else if (sloppy) options.ignored.push(word);
    else throw new OptionError(unknown(word, key));
  }
  return options;
}

function unknown(word: string, key: string): string {
  if (Object.hasOwn(VALUED, key)) return `mount option ${key} needs a value: ${key}=...`;
  if (Object.hasOwn(PLAIN, key)) return `mount option ${key} takes no value`;
  return `unknown mount option: ${word}; the known ones: ext4d help mount`;
}
