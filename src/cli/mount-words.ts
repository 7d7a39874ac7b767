/** Mount options that have no effect here, and those that are refused, each with the reason. */

/** Means nothing here, or is so anyway. A word here never weakens or changes what is stored. */
export const IGNORED: ReadonlySet<string> = new Set([
  // mount(8), fstab, systemd
  ...'defaults auto noauto user nouser users nousers owner noowner group nogroup _netdev _rnetdev nofail loop'.split(
    ' ',
  ),
  ...'silent loud mand nomand iversion noiversion i_version diratime lazytime nolazytime comment'.split(' '),
  ...'uhelper helper'.split(' '),
  // fuse2fs, fuse4fs: the log is committed and storage flushed when ext4 does it, through the page cache
  ...'directio direct iomap iomap_cache noiomap_cache timing flush_interval'.split(' '),
  // libfuse: how its own loop and its own tables work
  ...'intr intr_signal use_ino readdir_ino hard_remove noforget remember ac_attr_timeout sync_read no_remote_lock'.split(
    ' ',
  ),
  ...'no_remote_posix_lock no_remote_flock noauto_cache clone_fd max_idle_threads max_threads parallel_direct_writes'.split(
    ' ',
  ),
  // FUSE: nothing else changes the image, so kernel caches stay right
  ...'kernel_cache auto_cache no_default_opts nonempty big_writes large_read async_read'.split(' '),
  ...'splice_read splice_write splice_move atomic_o_trunc max_read max_write max_readahead blkdev blksize'.split(' '),
  ...'entry_timeout attr_timeout negative_timeout fuse2fs_debug'.split(' '),
  // ext4: defaults, or hints to an allocator and a log that work differently
  ...'delalloc nodelalloc barrier nobarrier journal_checksum nojournal_checksum journal_async_commit'.split(' '),
  ...'journal_ioprio min_batch_time max_batch_time init_itable noinit_itable'.split(' '),
  ...'block_validity noblock_validity dioread_lock dioread_nolock nodioread_nolock stripe'.split(' '),
  ...'inode_readahead_blks prefetch_block_bitmaps no_prefetch_block_bitmaps mb_optimize_scan'.split(' '),
  ...'debug warn_on_error nowarn_on_error journal'.split(' '),
  ...'fc_debug_force fc_debug_max_replay'.split(' '),
  ...'buffered_iomap nobuffered_iomap'.split(' '),
  ...'oldalloc orlov bh nobh check nocheck reservation noreservation mblk_io_submit nomblk_io_submit'.split(' '),
  // what is refused below, spelled as its default
  'dax=never',
  'dax=inode',
]);

/** Of the words above those whose value is a number, and the largest. */
export const IGNORED_NUMBERS: Readonly<Record<string, number>> = {
  barrier: 1,
  journal_ioprio: 7,
  min_batch_time: 0xffffffff,
  max_batch_time: 0xffffffff,
  init_itable: 0xffffffff,
  stripe: 0xffffffff,
  inode_readahead_blks: 1 << 30,
  mb_optimize_scan: 1,
  fc_debug_max_replay: 0xffffffff,
};

/** Known, and not done: why. */
export const REFUSED: Readonly<Record<string, string>> = {
  dax: 'FUSE cannot map the image as memory: leave it out',
  inlinecrypt: 'encryption is not supported: leave it out',
  test_dummy_encryption: 'encryption is not supported: leave it out',
  direct_io: 'the image is read and written through the page cache: leave it out',
  umask: 'modes are shown as they are stored: leave it out',
  fmask: 'modes are shown as they are stored: leave it out',
  dmask: 'modes are shown as they are stored: leave it out',
  setuid: 'mount as that user, who then needs to read and write the image: leave it out',
  drop_privileges: 'mount as an ordinary user instead: leave it out',
};

/** Those of the words that ask for something other than what is so anyway, but for ro, rw and remount. */
export function changes(words: readonly string[]): string[] {
  const isIgnored = (word: string) => IGNORED.has(word) || IGNORED.has(word.split('=')[0]) || /^x-/i.test(word);
  return words.filter((word) => !['remount', 'ro', 'rw'].includes(word) && !isIgnored(word));
}
