# needs: root
# What thin-exhaustion does, without device-mapper: a sparse image on a tmpfs that runs full and is enlarged.
. "$(dirname "$0")/../lib.sh"
ROUNDS=${ROUNDS:-2}
BACKING=$SCRATCH/backing
more_cleanup() { umount -l "$BACKING" 2>/dev/null; }

mkdir "$BACKING"
for round in $(seq "$ROUNDS"); do
  mount -t tmpfs -o size=48m tmpfs "$BACKING" || skip "no tmpfs can be mounted"
  IMAGE=$BACKING/image
  truncate -s 400M "$IMAGE"
  mke2fs -q -F -t ext4 -E nodiscard -J size=8 "$IMAGE" || fail mke2fs
  LIST=$SCRATCH/list$round
  : >"$LIST"
  mount_ext4d "$IMAGE" || fail mount
  fill "$LIST" 1 60 1024
  [ "$(wc -l <"$LIST")" -gt 10 ] || fail "too little could be written"
  [ "$(wc -l <"$LIST")" -lt 60 ] || fail "the backing store was never full"
  if [ $((round % 2)) = 0 ]; then kill_ext4d; fi
  mount -o remount,size=96m "$BACKING"
  if [ -n "$SERVER" ]; then
    fill "$LIST" 101 10 1024
    umount_ext4d || fail unmount
  fi
  mount_ext4d "$IMAGE" || fail "mount after the backing store was enlarged"
  must_be_there "$LIST" 1024
  fill "$LIST" 201 5 1024
  [ "$(grep -c '^file20[1-5]$' "$LIST")" = 5 ] || fail "writing did not work again"
  umount_ext4d || fail "second unmount"
  must_be_clean "$IMAGE"
  umount "$BACKING"
  echo "round $round: passed"
done
