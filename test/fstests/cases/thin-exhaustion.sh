# needs: uml 320
# generic/347: a thin pool runs full under fsyncing writers, is extended, and everything that was synced is there.
# A real dm-thin pool; rounds alternate between an orderly unmount and a server killed while the pool is full.
. "$(dirname "$0")/../lib.sh"
ROUNDS=${ROUNDS:-3}
DATA_MIB=48 MORE_MIB=32 VOLUME_MIB=400 META_SECTORS=16384
echo 1 >/sys/module/dm_thin_pool/parameters/no_space_timeout

pool_table() { echo "0 $(($1 * 2048)) thin-pool /dev/mapper/meta /dev/mapper/data 128 0 1 skip_block_zeroing"; }
data_table() { echo "0 $(($1 * 2048)) linear /dev/ubda $META_SECTORS"; }
more_cleanup() { for name in thin pool data meta; do dmsetup remove --noudevsync --retry $name 2>/dev/null; done; }

passed=0
for round in $(seq "$ROUNDS"); do
  dd if=/dev/zero of=/dev/ubda bs=4k count=1 conv=notrunc status=none
  dm meta "0 $META_SECTORS linear /dev/ubda 0"
  dm data "$(data_table $DATA_MIB)"
  dm pool "$(pool_table $DATA_MIB)"
  dmsetup message pool 0 "create_thin 0"
  dm thin "0 $((VOLUME_MIB * 2048)) thin /dev/mapper/pool 0"
  mke2fs -q -F -t ext4 -E nodiscard -J size=8 /dev/mapper/thin || fail mke2fs
  LIST=$SCRATCH/list$round
  : >"$LIST"
  mount_ext4d /dev/mapper/thin || fail "mount"
  fill "$LIST" 1 60 1024
  [ "$(wc -l <"$LIST")" -gt 10 ] || fail "too little could be written"
  [ "$(wc -l <"$LIST")" -lt 60 ] || fail "the pool was never full"
  if [ $((round % 2)) = 0 ]; then kill_ext4d; fi
  dm_reload data "$(data_table $((DATA_MIB + MORE_MIB)))"
  dm_reload pool "$(pool_table $((DATA_MIB + MORE_MIB)))"
  if [ -n "$SERVER" ]; then
    # The pool has room again: what the server kept back is written now, or replayed at the next mount.
    fill "$LIST" 101 10 1024
    umount_ext4d || fail "unmount"
  fi
  mount_ext4d /dev/mapper/thin || fail "mount after the pool was extended"
  must_be_there "$LIST" 1024
  fill "$LIST" 201 5 1024
  umount_ext4d || fail "second unmount"
  must_be_clean /dev/mapper/thin
  [ "$(grep -c '^file20[1-5]$' "$LIST")" = 5 ] || fail "writing did not work again"
  more_cleanup
  passed=$((passed + 1))
  echo "round $round: passed"
done
echo "$passed of $ROUNDS rounds passed"
