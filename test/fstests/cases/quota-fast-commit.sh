# needs: uml 64
# Fast commits of a kernel that keeps quotas: they hold no counts, so e2fsck, which counts again, judges those that
# ext4d's replay comes to.
. "$(dirname "$0")/../lib.sh"
modprobe -d /mnt/modules quota_v2 || skip "this kernel has no quota_v2"
chmod 755 "$SCRATCH"

DISK=/dev/ubda
IMAGE=/dev/shm/image
as() { setpriv --reuid "$1" --regid "$2" --clear-groups bash -c "cd $MNT/d && $3"; }
tree() { (cd "$MNT" && find . ! -name lost+found -printf '%y %m %n %U %G %s %p\n' | sort; find . -type f -exec sha256sum {} + | sort); }

for features in quota,project quota,project,bigalloc; do
  mke2fs -q -F -t ext4 -b 1024 -J size=4 -O fast_commit,$features -E quotatype=usrquota:grpquota:prjquota $DISK || fail mke2fs
  mount -i -t ext4 -o usrquota,grpquota,prjquota,commit=600 $DISK "$MNT" || fail "the kernel does not mount $features"
  mkdir "$MNT/d" && chmod 777 "$MNT/d"
  for user in $(seq 1000 1020); do as $user $user "head -c 50000 /dev/urandom >old$user"; done
  sync -f "$MNT"
  for user in $(seq 1000 1020); do
    as $user $((user + 50)) "head -c $((user * 20)) /dev/urandom >new$user && sync new$user && truncate -s 3000 old$user && sync old$user"
  done
  chown 5:6 "$MNT/d/old1001" "$MNT/d/new1002" && sync "$MNT/d/old1001" "$MNT/d/new1002"
  rm "$MNT/d/old1003" "$MNT/d/new1004" && as 1005 1005 "head -c 9000 /dev/urandom >>old1005 && sync old1005"
  # Past the cache, which has what is not committed.
  dd if=$DISK of=$IMAGE bs=1M iflag=direct status=none || fail dd
  (cd "$MNT" && tree) >"$SCRATCH/want"
  umount "$MNT"
  node "$EXT4D" journal --json $IMAGE | node -e '
    const { fastCommits } = JSON.parse(require("fs").readFileSync(0));
    console.log(`${fastCommits.length} fast commits`);
    process.exitCode = fastCommits.length > 10 ? 0 : 1' || fail "the kernel did not commit fast ($features)"
  node "$EXT4D" replay $IMAGE || [ $? = 1 ] || fail replay
  must_be_clean $IMAGE
  mount -i -t ext4 -o loop,ro $IMAGE "$MNT" || fail "the kernel does not mount what was replayed"
  (cd "$MNT" && tree) >"$SCRATCH/got"
  umount "$MNT"
  diff "$SCRATCH/want" "$SCRATCH/got" || fail "the replay leads elsewhere ($features)"
done
