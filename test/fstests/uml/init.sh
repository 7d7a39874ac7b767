#!/bin/bash
# Process 1 inside User Mode Linux, whose root is the machine's own file tree (hostfs). Its mounts are its own.
# On its command line: CASE, the script to run, and RESULT, the file that gets its exit code.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
off() { echo o >/proc/sysrq-trigger; sleep 60; }
# What is not mounted over here is the machine's own: a mount that fails must end it.
own() { mount -n -t "$1" "$1" "$2" || { echo "init: $2 cannot be mounted"; off; }; }
own proc /proc
own sysfs /sys
mountpoint -q /dev || own devtmpfs /dev
mkdir -p /dev/shm
own tmpfs /dev/shm
own tmpfs /run
own tmpfs /mnt
mkdir -p /mnt/modules/lib
ln -s /usr/lib/uml/modules /mnt/modules/lib/modules
for module in dm-mod dm-thin-pool dm-flakey dm-log-writes fuse loop; do
  modprobe -d /mnt/modules "$module" || echo "no module $module"
done
# There is no udevd to wait for.
export DM_DISABLE_UDEV=1
bash "$CASE"
echo $? >"$RESULT.new" && mv "$RESULT.new" "$RESULT"
sync
off
