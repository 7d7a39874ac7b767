# needs: uml 200
# dm-flakey: the device drops every write from one moment on, as a power cut does, or fails them. What was synced before is
# there after a remount; nothing that fsync refused counts. The idea of generic/475 and of the log group.
. "$(dirname "$0")/../lib.sh"
ROUNDS=${ROUNDS:-4}
SECTORS=$((160 * 2048))
more_cleanup() { dmsetup remove --noudevsync --retry flakey 2>/dev/null; }
works="0 $SECTORS flakey /dev/ubda 0 3600 0"
drops="0 $SECTORS flakey /dev/ubda 0 0 3600 1 drop_writes"
fails="0 $SECTORS flakey /dev/ubda 0 0 3600 1 error_writes"

for round in $(seq "$ROUNDS"); do
  dm flakey "$works"
  mke2fs -q -F -t ext4 -E nodiscard /dev/mapper/flakey || fail mke2fs
  LIST=$SCRATCH/list$round
  : >"$LIST"
  mount_ext4d /dev/mapper/flakey || fail mount
  fill_all "$LIST" 1 40 64
  # Unsynced work under way when the device goes.
  (cp -r /usr/share/doc/adduser /usr/share/doc/apt "$MNT"/ 2>/dev/null; mkdir -p "$MNT"/d/e/f; mv "$MNT"/file1 "$MNT"/d/) 2>/dev/null
  mv "$MNT"/d/file1 "$MNT"/file1
  if [ $((round % 2)) = 0 ]; then kind=$fails; else kind=$drops; fi
  dm_reload flakey "$kind" --nolockfs
  # A device that drops writes lies: what it calls synced is no promise. One that fails them must not.
  fill "$SCRATCH/unreliable" 100 10 64
  kill_ext4d
  [ "$kind" = "$drops" ] || [ ! -s "$SCRATCH/unreliable" ] || fail "fsync succeeded on a device that fails all writes"
  rm -f "$SCRATCH/unreliable"
  dm_reload flakey "$works"
  blockdev --flushbufs /dev/mapper/flakey
  mount_ext4d /dev/mapper/flakey || fail "mount after the device came back"
  must_be_there "$LIST" 64
  fill_all "$LIST" 200 5 64
  umount_ext4d || fail unmount
  must_be_clean /dev/mapper/flakey
  more_cleanup
  echo "round $round: passed"
done
