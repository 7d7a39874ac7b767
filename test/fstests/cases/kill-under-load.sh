# needs: root
# The server is killed again and again under several writers; the next mount replays, and nothing that was fsynced is lost.
# ROUNDS, MKFS (options), FSSTRESS (a built fsstress of xfstests: it then runs as well).
. "$(dirname "$0")/../lib.sh"
ROUNDS=${ROUNDS:-4}
[ -e /dev/shm ] && IMAGE=$(mktemp /dev/shm/ext4d-kill-XXXXXX) || IMAGE=$SCRATCH/image
more_cleanup() { rm -f "$IMAGE"; }

truncate -s 400M "$IMAGE"
mke2fs -q -F -t ext4 ${MKFS:-} "$IMAGE" || fail mke2fs
total=0
for round in $(seq "$ROUNDS"); do
  mount_ext4d "$IMAGE" || fail "mount in round $round"
  rm -rf "$MNT"/file* "$MNT"/churn* "$MNT"/stress
  LISTS="$SCRATCH/small $SCRATCH/middle $SCRATCH/large"
  : >"$SCRATCH/small" >"$SCRATCH/middle" >"$SCRATCH/large"
  fill "$SCRATCH/small" 10000 3000 4 >/dev/null 2>&1 &
  fill "$SCRATCH/middle" 20000 500 64 >/dev/null 2>&1 &
  fill "$SCRATCH/large" 30000 100 512 >/dev/null 2>&1 &
  (
    for i in $(seq 50); do
      cp -r /usr/share/doc/apt "$MNT/churn$i" && mv "$MNT/churn$i" "$MNT/churned$i" && rm -rf "$MNT/churned$((i - 2))"
    done
  ) >/dev/null 2>&1 &
  [ -z "${FSSTRESS:-}" ] || { mkdir -p "$MNT/stress"; "$FSSTRESS" -d "$MNT/stress" -n 100000 -p 2 >/dev/null 2>&1 & }
  # On a slow machine the first fsync takes a while.
  for _ in $(seq 100); do [ -s "$SCRATCH/small" ] && break; sleep 0.1; done
  sleep "0.$((RANDOM % 900 + 100))"
  [ $((round % 3)) = 0 ] && sleep 1
  kill_ext4d
  mount_ext4d "$IMAGE" || fail "mount after the kill of round $round"
  node "$HERE/synced.mjs" verify "$MNT" "$SCRATCH/small" 4 || fail "round $round: small files lost"
  node "$HERE/synced.mjs" verify "$MNT" "$SCRATCH/middle" 64 || fail "round $round: middle files lost"
  node "$HERE/synced.mjs" verify "$MNT" "$SCRATCH/large" 512 || fail "round $round: large files lost"
  total=$((total + $(cat $LISTS | wc -l)))
  umount_ext4d || fail "unmount in round $round"
  must_be_clean "$IMAGE"
done
[ "$total" -gt 0 ] || fail "nothing was synced, so nothing is shown"
echo "$ROUNDS rounds, $total fsynced files, none lost, e2fsck content after each"
