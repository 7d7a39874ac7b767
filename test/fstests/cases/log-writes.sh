# needs: uml 100 64
# dm-log-writes records everything that reaches the disk under a mounted ext4d; the disk is then put back to every flush in
# turn, recovered and checked, by log-writes.judge.sh. The idea of generic/455, 457 and 482.
. "$(dirname "$0")/../lib.sh"
MIB=64
SECTORS=$((MIB * 2048))
more_cleanup() { dmsetup remove --noudevsync --retry logged 2>/dev/null; }

mke2fs -q -F -t ext4 -E nodiscard -J size=4 /dev/ubda "${MIB}M" || fail mke2fs
dd if=/dev/ubda of="$KEEP/base" bs=1M count=$MIB conv=sparse status=none
dm logged "0 $SECTORS log-writes /dev/ubda /dev/ubdb"
mount_ext4d /dev/mapper/logged || fail mount
LIST=$KEEP/list
: >"$LIST"
for turn in 1 2 3; do
  fill "$LIST" $((turn * 10)) 4 32
  dmsetup message logged 0 "mark synced-$(wc -l <"$LIST")"
  mkdir -p "$MNT"/d$turn/e
  cp -r /usr/share/doc/adduser "$MNT"/d$turn/
  mv "$MNT"/d$turn "$MNT"/e$turn
  rm -rf "$MNT"/e$((turn - 1))
done
fill "$LIST" 90 4 32
umount_ext4d || fail unmount
dmsetup message logged 0 "mark end"
more_cleanup
dd if=/dev/ubdb of="$KEEP/log" bs=1M conv=sparse status=none
