/**
 * The words after -o: what the server honours, what the kernel's VFS does for it, what is harmless to ignore, and what
 * is refused by name. ext4's own words behave as in the kernel wherever they change what is stored.
 */
import { OptionError } from './args.js';

export interface MountOptions {
  readOnly: boolean;
  /** Asked for by `rw`: then it is an error, not a fallback, if only reading is possible. */
  readWrite: boolean;
  noRecovery: boolean;
  /** Undefined: the default. */
  commitIntervalMs?: number;
  /** Undefined: what the superblock says. */
  errors?: 'continue' | 'remount-ro' | 'panic';
  atime: 'noatime' | 'relatime' | 'strictatime';
  /** Where the filesystem starts in the image. */
  offsetBytes: number;
  /** How much of the image belongs to it; undefined: all that follows. */
  sizeLimitBytes?: number;
  /** Memory for cached metadata; undefined: the default. */
  cacheBytes?: number;
  allowOther: boolean;
  defaultPermissions: boolean;
  /** POSIX ACLs are enforced and inherited. */
  acl: boolean;
  subtype: string;
  /** data=journal. Default: as the superblock says. */
  journalsData?: boolean;
  /** Where an external journal may be: the one with the right UUID is taken. */
  journalPaths: string[];
  fsname?: string;
  /** Generic words for mount(2) or fusermount3, the later of two opposites only. */
  vfs: string[];
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

/** Words that the VFS handles; each names the one it takes back. */
const VFS_OPPOSITES: Record<string, string> = {
  suid: 'nosuid',
  nosuid: 'suid',
  dev: 'nodev',
  nodev: 'dev',
  exec: 'noexec',
  noexec: 'exec',
  sync: 'async',
  async: 'sync',
};

function vfs(options: MountOptions, word: string): void {
  options.vfs = options.vfs.filter((other) => other !== word && other !== VFS_OPPOSITES[word]);
  options.vfs.push(word);
}

/** Words without a value. */
const PLAIN: Record<string, Apply> = {
  ro: (options) => Object.assign(options, { readOnly: true, readWrite: false }),
  rw: (options) => Object.assign(options, { readOnly: false, readWrite: true }),
  norecovery: set('noRecovery', true),
  noload: set('noRecovery', true),
  allow_other: set('allowOther', true),
  default_permissions: set('defaultPermissions', true),
  acl: set('acl', true),
  noacl: set('acl', false),
  noatime: set('atime', 'noatime'),
  relatime: set('atime', 'relatime'),
  atime: set('atime', 'relatime'),
  norelatime: set('atime', 'strictatime'),
  strictatime: set('atime', 'strictatime'),
  nostrictatime: set('atime', 'relatime'),
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
    options.journalsData = oneOf('data', value, ['journal', 'ordered', 'writeback']) === 'journal';
  },
  commit: (options, value) => {
    const seconds = integer('commit', value, 0, 86_400);
    options.commitIntervalMs = seconds === 0 ? undefined : seconds * 1000;
  },
  errors: (options, value) => {
    options.errors = oneOf('errors', value, ['continue', 'remount-ro', 'panic'] as const);
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
    if (!(bytes >= 1 << 20 && bytes <= 2 ** 36)) {
      throw new OptionError(`cache_size=${value}: a size from 1m to 64g is expected`);
    }
    options.cacheBytes = bytes;
  },
  subtype: (options, value) => {
    options.subtype = value;
  },
  journal_path: (options, value) => {
    options.journalPaths.push(name('journal_path', value));
  },
  fsname: (options, value) => {
    options.fsname = name('fsname', value);
  },
};
/** mount(8) keeps `offset` and `sizelimit` in fstab for itself and makes a loop device; these spellings reach us. */
VALUED.image_offset = VALUED.offset;
VALUED.image_sizelimit = VALUED.sizelimit;

/** Means nothing here, or is so anyway. A word here never weakens or changes what is stored. */
const IGNORED = new Set([
  // mount(8), fstab, systemd
  ...'defaults auto noauto user nouser users nousers owner noowner group nogroup _netdev _rnetdev nofail loop'.split(
    ' ',
  ),
  ...'silent loud mand nomand iversion noiversion i_version diratime nodiratime lazytime nolazytime comment'.split(' '),
  ...'uhelper helper symfollow'.split(' '),
  // FUSE: nothing else changes the image, so kernel caches stay right
  ...'kernel_cache auto_cache no_default_opts nonempty big_writes large_read async_read'.split(' '),
  ...'splice_read splice_write splice_move atomic_o_trunc max_read max_write max_readahead blkdev blksize'.split(' '),
  ...'entry_timeout attr_timeout negative_timeout fuse2fs_debug'.split(' '),
  // ext4: defaults, or hints to an allocator and a log that work differently
  ...'delalloc nodelalloc barrier nobarrier journal_checksum nojournal_checksum journal_async_commit'.split(' '),
  ...'journal_ioprio min_batch_time max_batch_time auto_da_alloc noauto_da_alloc init_itable noinit_itable'.split(' '),
  ...'discard nodiscard block_validity noblock_validity dioread_lock dioread_nolock nodioread_nolock stripe'.split(' '),
  ...'inode_readahead_blks prefetch_block_bitmaps no_prefetch_block_bitmaps mb_optimize_scan'.split(' '),
  ...'nogrpid sysvgroups bsddf user_xattr debug warn_on_error nowarn_on_error nombcache no_mbcache'.split(' '),
  ...'noquota quota usrquota grpquota prjquota jqfmt usrjquota grpjquota buffered_iomap nobuffered_iomap'.split(' '),
  ...'oldalloc orlov bh nobh check nocheck reservation noreservation mblk_io_submit nomblk_io_submit'.split(' '),
  // what is refused below, spelled as its default
  'dax=never',
  'dax=inode',
  'data_err=ignore',
  'resuid=0',
  'resgid=0',
]);

/** Known, and not done: why. */
const REFUSED: Record<string, string> = {
  dax: 'FUSE cannot map the image as memory',
  remount: 'unmount, then mount with the new options',
  dirsync: 'changes of names are durable at fsync or within commit= seconds',
  data_err: 'a failed write of file data fails the fsync, not the journal',
  journal_dev: 'say journal_path=/dev/... instead; a journal that udev knows by its UUID is found by itself',
  nouser_xattr: 'extended attributes cannot be switched off',
  grpid: 'a new file gets the group of its creator, or of a setgid directory',
  bsdgroups: 'a new file gets the group of its creator, or of a setgid directory',
  minixdf: 'df leaves out metadata',
  nouid32: '16-bit owners are not supported',
  resuid: 'the reserve is for root',
  resgid: 'the reserve is for root',
  sb: 'a backup superblock cannot be mounted; repair with e2fsck -b',
  max_dir_size_kb: 'directories have no limit of their own',
  abort: 'it is for testing the kernel',
  inlinecrypt: 'encryption is not supported',
  test_dummy_encryption: 'encryption is not supported',
  directio: 'the image is read and written through the page cache',
  direct_io: 'the image is read and written through the page cache',
  fakeroot: 'owners are checked as they are stored',
  lockfile: 'the image itself is locked while it is mounted',
  allow_root: 'only allow_other exists',
  auto_unmount: 'a killed server leaves a dead mount: ext4d umount removes it',
  uid: 'owners are shown as they are stored',
  gid: 'owners are shown as they are stored',
  umask: 'modes are shown as they are stored',
  fmask: 'modes are shown as they are stored',
  dmask: 'modes are shown as they are stored',
};

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
    defaultPermissions: false,
    acl: true,
    subtype: 'ext4d',
    journalPaths: [],
    vfs: [],
    ignored: [],
  };
  for (const word of lists.flatMap(splitWords)) {
    const at = word.indexOf('=');
    const key = at < 0 ? word : word.slice(0, at);
    const value = at < 0 ? '' : word.slice(at + 1);
    if (at < 0 && Object.hasOwn(PLAIN, key)) PLAIN[key](options, '');
    else if (at >= 0 && Object.hasOwn(VALUED, key)) VALUED[key](options, value);
    else if (IGNORED.has(word) || (IGNORED.has(key) && !Object.hasOwn(REFUSED, key)) || /^x-/i.test(word)) {
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
  return `unknown mount option: ${word}`;
}
