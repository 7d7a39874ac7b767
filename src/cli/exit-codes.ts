/** Exit codes of mount, umount and the mount helper: those of mount(8). */
export const MountExit = {
  OK: 0,
  /** Wrong arguments or options, or no permission. */
  USAGE: 1,
  /** The machine lacks something: /dev/fuse, fusermount3, memory, processes. */
  SYSTEM: 2,
  /** A bug of this program. */
  BUG: 4,
  INTERRUPTED: 8,
  /** The image cannot be mounted, or the mount not ended. */
  FAILURE: 32,
} as const;
