/** The mount options that do something, for people: `ext4d help mount`. Tests compare it with what is parsed. */

export interface MountOptionText {
  /** Words that belong together, with what their values are. */
  readonly words: string;
  readonly text: string;
}

export const OPTION_TEXTS: readonly MountOptionText[] = [
  {
    words: 'ro, rw',
    text: 'read-only: a dirty log is replayed in memory, the image is not touched. Without rw, what can only be read is mounted read-only, with a warning; with it that is an error',
  },
  {
    words: 'remount',
    text: 'with ro what is mounted becomes read-only and its image clean, with rw writable again; nosuid, nodev, noexec, nosymfollow, sync and their opposites change, too. Nothing else does',
  },
  { words: 'norecovery, noload', text: 'do not replay; a dirty log then needs ro' },
  { words: 'sb=BLOCK', text: 'read by a copy of the superblock, at BLOCK of 1 KiB; nothing is written' },
  { words: 'commit=SECONDS', text: 'most time that a change waits for its commit (5)' },
  {
    words: 'data=MODE',
    text: 'journal: file data goes through the log. ordered (default), writeback: it reaches the device before the metadata that shows it',
  },
  {
    words: 'errors=ACTION',
    text: 'when corruption is found: continue, remount-ro, or panic, which ends the server. Default: what the superblock says',
  },
  {
    words: 'auto_da_alloc, noauto_da_alloc',
    text: 'a file that takes the place of another by rename is written back first, or not (auto_da_alloc): after a crash there is the old content or the new',
  },
  { words: 'data_err=ACTION', text: 'abort: the journal is, when file data could not be written. Or ignore (default)' },
  {
    words: 'offset=BYTES, sizelimit=BYTES, image_offset=BYTES, image_sizelimit=BYTES',
    text: 'the filesystem is that part of the image. In fstab only the longer spellings: mount(8) keeps the others for itself',
  },
  { words: 'part=N|LABEL|UUID', text: 'the filesystem is in that partition of a disk image (GPT or MBR)' },
  {
    words: 'overlay=FILE',
    text: 'writes go to FILE, which is sparse and belongs to this image; the image is only read',
  },
  {
    words: 'journal_path=DEVICE',
    text: 'where an external journal is; may be given more than once, the UUID decides. One that udev knows is found anyway',
  },
  {
    words: 'journal_dev=MAJOR:MINOR',
    text: 'the same by number, also in one as the kernel encodes it (0x810 is 8:16)',
  },
  { words: 'cache_size=N[kmg]', text: 'memory for metadata that can be read again, at least 1m, at most 64g' },
  {
    words: 'usrjquota=FILE, grpjquota=FILE, jqfmt=FORMAT',
    text: 'accepted, with a warning: quota files among the others are not kept right',
  },
  {
    words: 'usrquota, quota, grpquota, prjquota, noquota',
    text: 'limits of the hidden quota files hold, for all but root; usage is counted in any case',
  },
  {
    words: 'nombcache, no_mbcache',
    text: 'equal attribute blocks, and equal values in inodes of their own, are not shared',
  },
  { words: 'acl, noacl', text: 'POSIX ACLs are enforced and inherited, or not (acl)' },
  { words: 'user_xattr, nouser_xattr', text: 'user.* attributes exist, or not (user_xattr)' },
  {
    words: 'noatime, nodiratime, relatime, strictatime, atime, norelatime, nostrictatime',
    text: 'as for any filesystem (relatime)',
  },
  { words: 'allow_other', text: 'not only who mounts may enter. Not root: needs user_allow_other in /etc/fuse.conf' },
  { words: 'allow_root', text: 'besides who mounts, root may enter. Same condition' },
  { words: 'default_permissions', text: 'root: the same as allow_other. Otherwise permissions are checked anyway' },
  { words: 'kernel', text: 'the same as allow_other,suid,dev' },
  {
    words: 'uid=N, gid=N',
    text: 'everything is shown as theirs; what they make belongs to the owner of its directory',
  },
  {
    words: 'uidmap=IMAGE:HOST:COUNT, gidmap=IMAGE:HOST:COUNT',
    text: 'owners from IMAGE on are shown as HOST and following, and stored the other way round. May be repeated. No ACLs then, as with uid=, gid=',
  },
  { words: 'fakeroot', text: 'no permission checks: whoever may enter acts as root. Forces nosuid,nodev' },
  {
    words: 'grpid, bsdgroups, nogrpid, sysvgroups',
    text: 'whether a new file gets the group of its directory. Default: what the superblock says',
  },
  { words: 'resuid=N, resgid=N', text: 'who may use the reserved blocks. Default: what the superblock says' },
  {
    words: 'discard, nodiscard',
    text: 'freed blocks become holes of the image, or are discarded by the device, once that is durable',
  },
  {
    words: 'io_uring, noio_uring',
    text: 'requests come over io_uring, where the kernel offers that (Linux 6.14, /sys/module/fuse/parameters/enable_uring), or by /dev/fuse alone (noio_uring)',
  },
  { words: 'dirsync', text: 'a change of a name is durable when it is answered' },
  { words: 'debug_want_extra_isize=N', text: 'room for fields behind the first 128 bytes of inodes, old ones too' },
  { words: 'max_dir_size_kb=N', text: 'a directory does not grow beyond that (0: no limit)' },
  { words: 'nouid32', text: 'owners have 16 bits' },
  { words: 'minixdf, bsddf', text: 'df counts metadata as used space, or not (bsddf)' },
  {
    words: 'nosuid, nodev, noexec, nosymfollow, sync, suid, dev, exec, symfollow, async',
    text: 'as for any filesystem (nosymfollow: root only). sync: every write is followed by an fsync',
  },
  { words: 'auto_unmount', text: 'the mount goes away by itself when its server was killed' },
  {
    words: 'context=LABEL, fscontext=LABEL, defcontext=LABEL, rootcontext=LABEL',
    text: 'labels of SELinux, where it is on. Root only',
  },
  {
    words: 'smackfsdef=LABEL, smackfsfloor=LABEL, smackfshat=LABEL, smackfsroot=LABEL, smackfstransmute=LABEL',
    text: 'labels of Smack, where it is on. Root only',
  },
  { words: 'lockfile=PATH', text: 'is there for as long as the image is in use; must not be there before' },
  { words: 'oom_score_adj=N', text: 'of the server, -1000 to 1000' },
  {
    words: 'subtype=NAME, fsname=NAME',
    text: "what mount tables show: fuse.NAME (ext4d), and the source (the image's path)",
  },
  { words: 'abort', text: 'act as if the journal had been aborted: for tests' },
];

/** "offset" of "offset=BYTES". */
export const wordsOf = ({ words }: MountOptionText): string[] => words.split(', ').map((word) => word.split('=')[0]);
