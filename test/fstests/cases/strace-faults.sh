# needs: root strace
# The live server, with errors and kills put under it by strace: the Nth write, the Nth flush, all from the Nth on. fsync
# must report what it could not do, reads go on, and the next mount finds everything that was synced.
. "$(dirname "$0")/../lib.sh"
IMAGE=$SCRATCH/image
LIST=$SCRATCH/list

run_with() {
  local inject=$1 options=${2:-}
  rm -f "$IMAGE"
  truncate -s 64M "$IMAGE"
  mke2fs -q -F -t ext4 "$IMAGE" || fail mke2fs
  : >"$LIST"
  mount_ext4d "$IMAGE" "$options" || fail mount
  fill_all "$LIST" 1 3 16 >/dev/null
  strace -f -qq -p "$SERVER" -e "trace=${inject%%:*}" -e "inject=$inject" -o "$SCRATCH/strace" &
  TRACER=$!
  sleep 0.3
  fill "$LIST" 10 12 16 >"$SCRATCH/filled" 2>&1
  if [ "$options" = errors=panic ]; then
    wait "$SERVER"
    [ $? -eq 134 ] || fail "$inject: errors=panic, and the server goes on or ends in another way"
  elif kill -0 "$SERVER" 2>/dev/null; then
    # From the image, not from the page cache. What was synced is there, whatever fails.
    echo 1 >/proc/sys/vm/drop_caches
    must_be_there "$LIST" 16 >/dev/null
    grep -q INJECTED "$SCRATCH/strace" || fail "$inject: it never happened"
  fi
  case $inject in *:error=*+) [ "$(wc -l <"$LIST")" -lt 15 ] || fail "$inject: fsync told nobody" ;; esac
  kill "$TRACER" 2>/dev/null
  wait "$TRACER" 2>/dev/null
  kill_ext4d
  mount_ext4d "$IMAGE" || fail "$inject: mount"
  must_be_there "$LIST" 16 >/dev/null
  umount_ext4d || fail "$inject: unmount"
  must_be_clean "$IMAGE"
  echo "$inject${options:+, $options}: $(cat "$SCRATCH/filled"), all of those found again"
}

for when in 1 2 3 5 8 13; do
  run_with "fdatasync:error=EIO:when=$when"
  run_with "pwritev:error=EIO:when=$when"
  run_with "pwritev,pwrite64:signal=KILL:when=$when"
done
run_with "fdatasync:error=EIO:when=2+"
run_with "pwrite64:error=EIO:when=3+"
run_with "pwritev:error=ENOSPC:when=4+"
run_with "fdatasync:error=EIO:when=2" errors=panic
