/**
 * The FUSE wire format, version 7 (include/uapi/linux/fuse.h): structures as tables, numbers under their kernel names.
 * All fields are in the host's byte order; this program runs on little-endian machines only.
 */
import { constants } from 'node:fs';
import { bytes, type Field, layout, le16, le32, le64 } from '../codec/layout.js';

export const FUSE_KERNEL_VERSION = 7;
/** The newest minor whose structures are described here. */
export const FUSE_KERNEL_MINOR_VERSION = 44;
/** The oldest kernel that is served: 5.4 speaks 7.31. */
export const FUSE_MINOR_REQUIRED = 31;

export const FUSE_ROOT_ID = 1;

/** Signed 64 bits as a number, exact within 2^53: times before 1970. */
const sle64 = (offset: number): Field => ({
  ...le64(offset),
  get: (view, base) => view.getUint32(base + offset, true) + view.getInt32(base + offset + 4, true) * 0x1_0000_0000,
});

export const IN_HEADER = layout('fuse_in_header', 40, {
  len: le32(0),
  opcode: le32(4),
  unique: le64(8),
  nodeid: le64(16),
  uid: le32(24),
  gid: le32(28),
  pid: le32(32),
  total_extlen: le16(36),
  padding: bytes(38, 2),
});

export const OUT_HEADER = layout('fuse_out_header', 16, { len: le32(0), error: le32(4), unique: le64(8) });

export const ATTR = layout('fuse_attr', 88, {
  ino: le64(0),
  size: le64(8),
  blocks: le64(16),
  atime: sle64(24),
  mtime: sle64(32),
  ctime: sle64(40),
  atimensec: le32(48),
  mtimensec: le32(52),
  ctimensec: le32(56),
  mode: le32(60),
  nlink: le32(64),
  uid: le32(68),
  gid: le32(72),
  rdev: le32(76),
  blksize: le32(80),
  flags: le32(84),
});

export const ENTRY_OUT = layout('fuse_entry_out', 128, {
  nodeid: le64(0),
  generation: le64(8),
  entry_valid: le64(16),
  attr_valid: le64(24),
  entry_valid_nsec: le32(32),
  attr_valid_nsec: le32(36),
  attr: bytes(40, 88),
});

export const ATTR_OUT = layout('fuse_attr_out', 104, {
  attr_valid: le64(0),
  attr_valid_nsec: le32(8),
  dummy: le32(12),
  attr: bytes(16, 88),
});

export const INIT_IN = layout('fuse_init_in', 64, {
  major: le32(0),
  minor: le32(4),
  max_readahead: le32(8),
  flags: le32(12),
  flags2: le32(16),
  unused: bytes(20, 44),
});
/** Before 7.36 the request ends here. */
export const INIT_IN_COMPAT_SIZE = 16;

export const INIT_OUT = layout('fuse_init_out', 64, {
  major: le32(0),
  minor: le32(4),
  max_readahead: le32(8),
  flags: le32(12),
  max_background: le16(16),
  congestion_threshold: le16(18),
  max_write: le32(20),
  time_gran: le32(24),
  max_pages: le16(28),
  map_alignment: le16(30),
  flags2: le32(32),
  max_stack_depth: le32(36),
  request_timeout: le16(40),
  unused: bytes(42, 22),
});

export const FORGET_IN = layout('fuse_forget_in', 8, { nlookup: le64(0) });
export const BATCH_FORGET_IN = layout('fuse_batch_forget_in', 8, { count: le32(0), dummy: le32(4) });
export const FORGET_ONE = layout('fuse_forget_one', 16, { nodeid: le64(0), nlookup: le64(8) });

export const GETATTR_IN = layout('fuse_getattr_in', 16, { getattr_flags: le32(0), dummy: le32(4), fh: le64(8) });
export const FUSE_GETATTR_FH = 1;

export const ACCESS_IN = layout('fuse_access_in', 8, { mask: le32(0), padding: le32(4) });
/** In its mask: X_OK. */
export const MAY_EXEC = 1;

export const SETATTR_IN = layout('fuse_setattr_in', 88, {
  valid: le32(0),
  padding: le32(4),
  fh: le64(8),
  size: le64(16),
  lock_owner: le64(24),
  atime: sle64(32),
  mtime: sle64(40),
  ctime: sle64(48),
  atimensec: le32(56),
  mtimensec: le32(60),
  ctimensec: le32(64),
  mode: le32(68),
  unused4: le32(72),
  uid: le32(76),
  gid: le32(80),
  unused5: le32(84),
});

export const MKNOD_IN = layout('fuse_mknod_in', 16, {
  mode: le32(0),
  rdev: le32(4),
  umask: le32(8),
  padding: le32(12),
});
export const MKDIR_IN = layout('fuse_mkdir_in', 8, { mode: le32(0), umask: le32(4) });
export const RENAME_IN = layout('fuse_rename_in', 8, { newdir: le64(0) });
export const RENAME2_IN = layout('fuse_rename2_in', 16, { newdir: le64(0), flags: le32(8), padding: le32(12) });
export const LINK_IN = layout('fuse_link_in', 8, { oldnodeid: le64(0) });

export const OPEN_IN = layout('fuse_open_in', 8, { flags: le32(0), open_flags: le32(4) });
export const CREATE_IN = layout('fuse_create_in', 16, {
  flags: le32(0),
  mode: le32(4),
  umask: le32(8),
  open_flags: le32(12),
});
export const OPEN_OUT = layout('fuse_open_out', 16, { fh: le64(0), open_flags: le32(8), padding: le32(12) });
export const RELEASE_IN = layout('fuse_release_in', 24, {
  fh: le64(0),
  flags: le32(8),
  release_flags: le32(12),
  lock_owner: le64(16),
});

export const READ_IN = layout('fuse_read_in', 40, {
  fh: le64(0),
  offset: le64(8),
  size: le32(16),
  read_flags: le32(20),
  lock_owner: le64(24),
  flags: le32(32),
  padding: le32(36),
});
export const WRITE_IN = layout('fuse_write_in', 40, {
  fh: le64(0),
  offset: le64(8),
  size: le32(16),
  write_flags: le32(20),
  lock_owner: le64(24),
  flags: le32(32),
  padding: le32(36),
});
export const WRITE_OUT = layout('fuse_write_out', 8, { size: le32(0), padding: le32(4) });

export const STATFS_OUT = layout('fuse_statfs_out', 80, {
  blocks: le64(0),
  bfree: le64(8),
  bavail: le64(16),
  files: le64(24),
  ffree: le64(32),
  bsize: le32(40),
  namelen: le32(44),
  frsize: le32(48),
  padding: le32(52),
  spare: bytes(56, 24),
});

export const FSYNC_IN = layout('fuse_fsync_in', 16, { fh: le64(0), fsync_flags: le32(8), padding: le32(12) });

/** With FUSE_SETXATTR_EXT; without it the request ends after `flags`. */
export const SETXATTR_IN = layout('fuse_setxattr_in', 16, {
  size: le32(0),
  flags: le32(4),
  setxattr_flags: le32(8),
  padding: le32(12),
});
export const SETXATTR_IN_COMPAT_SIZE = 8;
export const GETXATTR_IN = layout('fuse_getxattr_in', 8, { size: le32(0), padding: le32(4) });
export const GETXATTR_OUT = layout('fuse_getxattr_out', 8, { size: le32(0), padding: le32(4) });

export const FALLOCATE_IN = layout('fuse_fallocate_in', 32, {
  fh: le64(0),
  offset: le64(8),
  length: le64(16),
  mode: le32(24),
  padding: le32(28),
});
export const BMAP_IN = layout('fuse_bmap_in', 16, { block: le64(0), blocksize: le32(8), padding: le32(12) });
export const BMAP_OUT = layout('fuse_bmap_out', 8, { block: le64(0) });
export const LSEEK_IN = layout('fuse_lseek_in', 24, {
  fh: le64(0),
  offset: le64(8),
  whence: le32(16),
  padding: le32(20),
});
export const IOCTL_IN = layout('fuse_ioctl_in', 32, {
  fh: le64(0),
  flags: le32(8),
  cmd: le32(12),
  arg: le64(16),
  in_size: le32(24),
  out_size: le32(28),
});
export const IOCTL_OUT = layout('fuse_ioctl_out', 16, {
  result: le32(0),
  flags: le32(4),
  in_iovs: le32(8),
  out_iovs: le32(12),
});
export const LSEEK_OUT = layout('fuse_lseek_out', 8, { offset: le64(0) });

export const DIRENT = layout('fuse_dirent', 24, { ino: le64(0), off: le64(8), namelen: le32(16), type: le32(20) });

export const STATX_IN = layout('fuse_statx_in', 24, {
  getattr_flags: le32(0),
  reserved: le32(4),
  fh: le64(8),
  sx_flags: le32(16),
  sx_mask: le32(20),
});
export const SX_TIME = layout('fuse_sx_time', 16, { tv_sec: sle64(0), tv_nsec: le32(8), __reserved: le32(12) });
export const STATX = layout('fuse_statx', 256, {
  mask: le32(0),
  blksize: le32(4),
  attributes: le64(8),
  nlink: le32(16),
  uid: le32(20),
  gid: le32(24),
  mode: le16(28),
  __spare0: bytes(30, 2),
  ino: le64(32),
  size: le64(40),
  blocks: le64(48),
  attributes_mask: le64(56),
  atime: bytes(64, 16),
  btime: bytes(80, 16),
  ctime: bytes(96, 16),
  mtime: bytes(112, 16),
  rdev_major: le32(128),
  rdev_minor: le32(132),
  dev_major: le32(136),
  dev_minor: le32(140),
  __spare2: bytes(144, 112),
});
export const STATX_OUT = layout('fuse_statx_out', 288, {
  attr_valid: le64(0),
  attr_valid_nsec: le32(8),
  flags: le32(12),
  spare: bytes(16, 16),
  stat: bytes(32, 256),
});

export const NOTIFY_INVAL_INODE_OUT = layout('fuse_notify_inval_inode_out', 24, {
  ino: le64(0),
  off: sle64(8),
  len: sle64(16),
});
export const FUSE_NOTIFY_INVAL_INODE = 2;

/** INIT flags, low word. */
export const FUSE_ASYNC_READ = 1 << 0;
export const FUSE_EXPORT_SUPPORT = 1 << 4;
export const FUSE_ATOMIC_O_TRUNC = 1 << 3;
export const FUSE_BIG_WRITES = 1 << 5;
export const FUSE_DONT_MASK = 1 << 6;
export const FUSE_DO_READDIRPLUS = 1 << 13;
export const FUSE_READDIRPLUS_AUTO = 1 << 14;
export const FUSE_ASYNC_DIO = 1 << 15;
export const FUSE_WRITEBACK_CACHE = 1 << 16;
export const FUSE_PARALLEL_DIROPS = 1 << 18;
export const FUSE_POSIX_ACL = 1 << 20;
export const FUSE_MAX_PAGES = 1 << 22;
export const FUSE_CACHE_SYMLINKS = 1 << 23;
export const FUSE_HAS_IOCTL_DIR = 1 << 11;
export const FUSE_NO_OPENDIR_SUPPORT = 1 << 24;
export const FUSE_HANDLE_KILLPRIV_V2 = 1 << 28;
export const FUSE_SETXATTR_EXT = 1 << 29;
export const FUSE_INIT_EXT = 1 << 30;
/** INIT flags, high word (`flags2`). */
export const FUSE_DIRECT_IO_ALLOW_MMAP = 1 << (36 - 32);
export const FUSE_NO_EXPORT_SUPPORT = 1 << (38 - 32);
export const FUSE_OVER_IO_URING = 1 << (41 - 32);

export const FOPEN_KEEP_CACHE = 1 << 1;
export const FOPEN_PARALLEL_DIRECT_WRITES = 1 << 6;

export const FUSE_OPEN_KILL_SUIDGID = 1 << 0;
export const FUSE_WRITE_CACHE = 1 << 0;
export const FUSE_WRITE_KILL_SUIDGID = 1 << 2;
export const FUSE_SETXATTR_ACL_KILL_SGID = 1 << 0;

export const FATTR_MODE = 1 << 0;
export const FATTR_UID = 1 << 1;
export const FATTR_GID = 1 << 2;
export const FATTR_SIZE = 1 << 3;
export const FATTR_ATIME = 1 << 4;
export const FATTR_MTIME = 1 << 5;
export const FATTR_ATIME_NOW = 1 << 7;
export const FATTR_MTIME_NOW = 1 << 8;
export const FATTR_CTIME = 1 << 10;
export const FATTR_KILL_SUIDGID = 1 << 11;

/** open(2) flags as requests carry them (asm-generic, which x86, arm64 and riscv share). */
export const O_WRONLY = 0o1;
export const O_ACCMODE = 0o3;
export const O_RDONLY = 0;
export const O_TRUNC = 0o1000;
export const O_APPEND = 0o2000;
export const O_DSYNC = 0o10000;
/** Its number depends on the machine. */
export const { O_DIRECT } = constants;

/** STATX_BASIC_STATS | STATX_BTIME */
export const STATX_BASIC_STATS = 0x7ff;
export const STATX_BTIME = 0x800;
