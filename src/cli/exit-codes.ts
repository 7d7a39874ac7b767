/** Every exit code of every command, and what it means: help, manual pages and README say what stands here. */

/** mount, umount and the mount helper: as mount(8). Its 16 (mtab) and 64 (some mounts failed) cannot happen. */
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

/** Commands that look into an image: as fsck(8). */
export const ImageExit = {
  OK: 0,
  /** replay: the image was dirty and is recovered. */
  RECOVERED: 1,
  /** The image or its log is corrupt, or uses what is not supported; nothing was written. */
  CORRUPT: 4,
  /** The image could not be opened, read or written. */
  OPERATIONAL: 8,
  USAGE: 16,
} as const;

export const CrashtestExit = { KEPT: 0, BROKEN: 1, OPERATIONAL: 8, USAGE: 16, INTERRUPTED: 128 } as const;

export const DemoExit = { OK: 0, LOST: 1, SYSTEM: 2 } as const;

export interface ExitCode {
  readonly code: number;
  readonly meaning: string;
}

const MOUNT: readonly ExitCode[] = [
  { code: MountExit.OK, meaning: 'done' },
  { code: MountExit.USAGE, meaning: 'wrong arguments or options, or no permission' },
  { code: MountExit.SYSTEM, meaning: 'the system lacks something: /dev/fuse, fusermount3, a compiler' },
  { code: MountExit.BUG, meaning: 'a bug of ext4d' },
  { code: MountExit.INTERRUPTED, meaning: 'interrupted before it was mounted' },
  { code: MountExit.FAILURE, meaning: 'not mounted; not unmounted, or not left clean' },
];

const LOOKING: readonly ExitCode[] = [
  { code: ImageExit.CORRUPT, meaning: 'corrupt, or not supported; nothing was written' },
  { code: ImageExit.OPERATIONAL, meaning: 'the image could not be opened, read or written' },
  { code: ImageExit.USAGE, meaning: 'wrong arguments' },
];

const FREEZING = MOUNT.filter(
  ({ code }) => code === MountExit.OK || code === MountExit.USAGE || code === MountExit.BUG,
);

export type CommandName =
  | 'mount'
  | 'umount'
  | 'freeze'
  | 'thaw'
  | 'replay'
  | 'journal'
  | 'info'
  | 'check'
  | 'quota'
  | 'crashtest'
  | 'demo';

export const EXIT_CODES: Readonly<Record<CommandName | 'mount.fuse.ext4d', readonly ExitCode[]>> = {
  mount: MOUNT,
  'mount.fuse.ext4d': MOUNT,
  umount: MOUNT.filter(({ code }) => code !== MountExit.INTERRUPTED),
  freeze: [
    ...FREEZING,
    { code: MountExit.FAILURE, meaning: 'not frozen; or COMMAND could not be run, or thawed after' },
  ],
  thaw: [...FREEZING, { code: MountExit.FAILURE, meaning: 'not thawed' }],
  replay: [
    { code: ImageExit.OK, meaning: 'nothing to do' },
    { code: ImageExit.RECOVERED, meaning: 'recovered; with -n: there is something to recover' },
    ...LOOKING,
  ],
  journal: [{ code: ImageExit.OK, meaning: 'shown' }, ...LOOKING],
  info: [{ code: ImageExit.OK, meaning: 'shown' }, ...LOOKING],
  check: [
    { code: ImageExit.OK, meaning: 'no contradictions' },
    { code: ImageExit.CORRUPT, meaning: 'contradictions, corrupt, or not supported; nothing was written' },
    ...LOOKING.slice(1),
  ],
  quota: [{ code: ImageExit.OK, meaning: 'done' }, ...LOOKING],
  crashtest: [
    { code: CrashtestExit.KEPT, meaning: 'all promises are kept' },
    { code: CrashtestExit.BROKEN, meaning: 'some are broken' },
    { code: CrashtestExit.OPERATIONAL, meaning: 'it could not be tested' },
    { code: CrashtestExit.USAGE, meaning: 'wrong arguments' },
    { code: CrashtestExit.INTERRUPTED, meaning: 'and the number of the signal: interrupted' },
  ],
  demo: [
    { code: DemoExit.OK, meaning: 'nothing was lost' },
    { code: DemoExit.LOST, meaning: 'something was lost, or the demonstration could not be made' },
    { code: DemoExit.SYSTEM, meaning: 'the system lacks something' },
  ],
};
