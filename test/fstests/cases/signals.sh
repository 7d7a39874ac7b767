# needs: root
# However the server ends, the image mounts again with what was synced. SIGTERM and SIGINT end it clean.
. "$(dirname "$0")/../lib.sh"
IMAGE=$SCRATCH/image
LIST=$SCRATCH/list

for signal in TERM INT HUP KILL ABRT OOM; do
  rm -f "$IMAGE"
  truncate -s 64M "$IMAGE"
  mke2fs -q -F -t ext4 "$IMAGE" || fail mke2fs
  : >"$LIST"
  mount_ext4d "$IMAGE" || fail mount
  fill_all "$LIST" 1 20 16 >/dev/null
  cp -r /usr/share/doc/apt "$MNT"/
  if [ "$signal" = OOM ]; then
    # Out of memory for its cgroup, or where there is none of version 2, the same kill by hand.
    echo 1000 >/proc/$SERVER/oom_score_adj
    group=/sys/fs/cgroup/ext4d-oom-$$
    if mkdir "$group" 2>/dev/null && [ -e "$group/memory.max" ]; then
      echo $SERVER >"$group/cgroup.procs"
      echo 0 >"$group/memory.max"
      for i in $(seq 100); do kill -0 $SERVER 2>/dev/null || break; ls -lR "$MNT" >/dev/null 2>&1 & sleep 0.1; done
      kill -0 $SERVER 2>/dev/null && kill -9 $SERVER
      wait 2>/dev/null
      rmdir "$group" 2>/dev/null
    else
      rmdir "$group" 2>/dev/null
      kill -9 $SERVER
    fi
  else
    kill -s $signal $SERVER
  fi
  for i in $(seq 200); do kill -0 $SERVER 2>/dev/null || break; sleep 0.05; done
  kill -0 $SERVER 2>/dev/null && fail "the server survived SIG$signal"
  wait $SERVER 2>/dev/null
  SERVER=
  umount -l "$MNT" 2>/dev/null
  case $signal in TERM | INT | HUP) must_be_clean "$IMAGE" ;; esac
  mount_ext4d "$IMAGE" || fail "mount after SIG$signal"
  must_be_there "$LIST" 16
  umount_ext4d || fail "unmount after SIG$signal"
  must_be_clean "$IMAGE"
  echo "SIG$signal: passed"
done
