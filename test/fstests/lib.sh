# For the cases: where things are, and how a case ends. Sourced by each; the case runs as root, with bash.
set -u
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
EXT4D=$(cd "$HERE/../.." && pwd)/bin/ext4d
export PATH="$PATH:/usr/sbin:/sbin"
SCRATCH=$(mktemp -d "${CASE_SCRATCH:-/tmp}/ext4d-case-XXXXXX")
MNT=$SCRATCH/mnt
mkdir "$MNT"

cleanup() {
  umount -l "$MNT" 2>/dev/null
  [ -z "${SERVER:-}" ] || kill -9 "$SERVER" 2>/dev/null
  type -t more_cleanup >/dev/null && more_cleanup
  rm -rf "$SCRATCH"
}
trap cleanup EXIT

fail() {
  echo "FAILED: $*"
  exit 1
}

# Why this machine cannot run the case. The runner counts it as skipped, and fails where nothing may be.
skip() {
  echo "SKIPPED: $*"
  exit 77
}

# mount_ext4d IMAGE-OR-DEVICE [options]: in the foreground of its own process, so that it can be killed by its pid.
mount_ext4d() {
  node "$EXT4D" mount -f ${2:+-o "$2"} "$1" "$MNT" >>"$SCRATCH/server.log" 2>&1 &
  SERVER=$!
  for _ in $(seq 400); do
    mountpoint -q "$MNT" && return 0
    kill -0 "$SERVER" 2>/dev/null || { cat "$SCRATCH/server.log"; return 1; }
    sleep 0.05
  done
  fail "not mounted after 20 s"
}

umount_ext4d() {
  umount "$MNT" || return 1
  wait "$SERVER"
  SERVER=
}

# The server is gone as if it had never answered; what it had not written is lost. Writers meet ENOTCONN until all of them
# have ended; only then is the mount taken away, or they would write into the directory below it.
kill_ext4d() {
  kill -9 "$SERVER" 2>/dev/null
  wait 2>/dev/null
  umount -l "$MNT" 2>/dev/null
  SERVER=
}

must_be_clean() {
  e2fsck -fn "$1" >"$SCRATCH/e2fsck.log" 2>&1 || { cat "$SCRATCH/e2fsck.log"; fail "e2fsck -fn $1"; }
}

fill() { node "$HERE/synced.mjs" fill "$MNT" "$@"; }
# Like fill, and all COUNT of them have to be synced.
fill_all() {
  local before=$(wc -l <"$1")
  fill "$@"
  [ $(($(wc -l <"$1") - before)) = "$3" ] || fail "not all of $3 files could be written and synced"
}
must_be_there() {
  [ -s "$1" ] || fail "nothing was synced, so nothing is shown"
  node "$HERE/synced.mjs" verify "$MNT" "$@" || fail "fsynced files are lost"
}

# Device-mapper tables, in sectors of 512 bytes.
dm() {
  local name=$1 table=$2
  dmsetup create "$name" --noudevsync --table "$table" && dmsetup mknodes "$name"
}

dm_reload() {
  dmsetup suspend ${3:-} "$1" && dmsetup load "$1" --table "$2" && dmsetup resume "$1"
}
