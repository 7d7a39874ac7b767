# Inside User Mode Linux: tests of the upstream checkout XFSTESTS_DIR, named in TESTS (separated by commas), with ext4d as ext4, on
# disks a (tests) and b (scratch, for device-mapper). KERNEL=1: with this kernel's own ext4, to compare.
here=$(cd "$(dirname "$0")/.." && pwd)
modprobe -d /mnt/modules overlay
mkdir -p /run/upper /run/work /run/test /run/scratch /run/results
# A mount.ext4 in /usr/sbin, seen in here only.
mount -t overlay -o lowerdir=/usr/sbin,upperdir=/run/upper,workdir=/run/work overlay /usr/sbin || exit 1
[ -n "$KERNEL" ] || ln -sf "$here/helpers/mount.ext4" /usr/sbin/mount.ext4
[ -n "$KERNEL" ] || export PATH="$here/helpers:$PATH"
export EXT4D_MOUNTS=/run/mounts
: >$EXT4D_MOUNTS
mkfs.ext4 -q -F /dev/ubda || exit 1
cat >/run/local.config <<CONFIG
export FSTYP=ext4 TEST_DEV=/dev/ubda TEST_DIR=/run/test SCRATCH_DEV=/dev/ubdb SCRATCH_MNT=/run/scratch
export RESULT_BASE=/run/results LOGWRITES_DEV=/dev/ubdc
CONFIG
cd "$XFSTESTS_DIR" || exit 1
HOST_OPTIONS=/run/local.config ./check ${TESTS//,/ }
code=$?
for name in ${TESTS//,/ }; do
  [ ! -s "/run/results/$name.out.bad" ] || diff -u "tests/$name.out" "/run/results/$name.out.bad" | head -40
  [ $code = 0 ] || tail -40 "/run/results/$name.full" 2>/dev/null
done
echo "ext4d was mounted $(wc -l <$EXT4D_MOUNTS) times"
[ -n "$KERNEL" ] || [ -s $EXT4D_MOUNTS ] || exit 1
exit $code
