#!/bin/bash
# Process 1 inside User Mode Linux, whose root is the machine's own file tree (hostfs). Its mounts are its own.
# On its command line: CASE, the script to run, and RESULT, the file that gets its exit code.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs mnt /mnt
mkdir -p /mnt/modules/lib
ln -s /usr/lib/uml/modules /mnt/modules/lib/modules
for module in dm-mod dm-thin-pool dm-flakey dm-log-writes fuse loop; do
  modprobe -d /mnt/modules "$module" || echo "no module $module"
done
# There is no udevd to wait for.
export DM_DISABLE_UDEV=1
bash "$CASE"
echo $? >"$RESULT"
sync
echo o >/proc/sysrq-trigger
sleep 60
