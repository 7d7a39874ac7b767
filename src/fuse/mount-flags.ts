/** Flags of mount(2) (sys/mount.h). */
export const MS_RDONLY = 1;
export const MS_REMOUNT = 32;

/** Words of the mount table that are flags, but for ro. */
export const MOUNT_FLAGS = {
  nosuid: 2,
  nodev: 4,
  noexec: 8,
  sync: 16,
  dirsync: 128,
  nosymfollow: 256,
  noatime: 1024,
  nodiratime: 2048,
  relatime: 1 << 21,
} as const;
