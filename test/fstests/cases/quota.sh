# needs: uml 64
# Quotas, in turn kept by a kernel that has them and by ext4d: what repquota shows is what ext4d quota shows, limits that
# setquota sets are those that ext4d enforces, and e2fsck, which counts again, has nothing to say.
. "$(dirname "$0")/../lib.sh"
command -v setquota >/dev/null || skip "setquota is not installed (apt-get install quota)"
modprobe -d /mnt/modules quota_v2 || skip "this kernel has no quota_v2"

# For users: everything of it is made by root.
chmod 755 "$SCRATCH"
WORDS=usrquota,grpquota,prjquota
as() { setpriv --reuid "$1" --regid "$2" --clear-groups bash -c "cd $MNT/d && $3" 2>/dev/null; }
with_kernel() { mount -i -t ext4 -o "$WORDS" "$DISK" "$MNT" || fail "the kernel does not mount $DISK"; }

# Ids with what they use and may use, as the kernel, or ext4d, sees it: "u 1000 KiB soft hard inodes soft hard".
kernel_report() {
  local flag
  for flag in u g P; do
    repquota -vn$flag "$MNT" | awk -v flag="$flag" '/^#/ {
      sub("#", "", $1)
      # A grace time stands where there is one.
      soft = substr($2, 1, 1) == "+"; files = substr($2, 2, 1) == "+"
      at = 6 + soft
      print flag, $1, $3, $4, $5, $at, $(at + 1), $(at + 2) }'
  done | sort
}
ext4d_report() {
  node "$EXT4D" quota --json "$DISK" | node -e '
    const { quotas } = JSON.parse(require("fs").readFileSync(0));
    const flags = { user: "u", group: "g", project: "P" };
    const kib = (bytes) => Math.ceil(bytes / 1024);
    for (const { type, entries } of quotas)
      for (const { id, space, inodes } of entries)
        console.log(flags[type], id, kib(space.used), kib(space.soft), kib(space.hard), inodes.used, inodes.soft, inodes.hard);
  ' | sort
}
same_reports() {
  echo "$(cut -d" " -f1 /proc/uptime) $1"
  with_kernel
  kernel_report >"$SCRATCH/kernel"
  umount "$MNT"
  ext4d_report >"$SCRATCH/ext4d"
  grep -q "^u 0 " "$SCRATCH/kernel" || fail "repquota shows nothing"
  diff "$SCRATCH/kernel" "$SCRATCH/ext4d" || fail "the kernel (<) and ext4d (>) see other quotas: $1"
  must_be_clean "$DISK"
}

# Files, directories, links and attributes of many users, some of whom have nothing left afterwards.
churn() {
  local from=$1 user
  for user in $(seq "$from" 181 $((from + 900))); do
    as "$user" $((user + 1)) "
      mkdir d$user && for i in 1 2 3 4 5 6; do head -c \$((i * 7000)) /dev/zero >d$user/f\$i; done
      ln d$user/f1 d$user/l; ln -s $(printf 'x%.0s' $(seq 100)) d$user/s
      setfattr -n user.large -v $(printf 'x%.0s' $(seq 700)) d$user/f2
      for i in 1 2 4; do setfattr -n user.larger -v $(printf 'x%.0s' $(seq $((2000 + user)))) d$user/f\$i; done
      truncate -s 3000 d$user/f6; rm d$user/f3; fallocate -l 60000 d$user/f4; fallocate -p -o 8192 -l 8192 d$user/f5"
    [ $((user % 3)) != 0 ] || rm -rf "$MNT/d/d$user"
    [ $((user % 3)) != 1 ] || chown -R $((user * 1000)) "$MNT/d/d$user"
  done
  mkdir -p "$MNT/d/p$from"
  chattr -p $((from * 5)) +P "$MNT/d/p$from"
  mkdir "$MNT/d/p$from/e"
  head -c 50000 /dev/zero >"$MNT/d/p$from/e/f"
}

DISK=/dev/ubda
# With ea_inode larger values are charged to everyone who has them.
rounds() {
  mke2fs -q -F -t ext4 -b 1024 -O "$1" -E quotatype=usrquota:grpquota:prjquota $DISK || fail mke2fs
  with_kernel
  mkdir "$MNT/d" && chmod 777 "$MNT/d"
  churn 1000
  umount "$MNT"
  same_reports "after the kernel"

  mount_ext4d $DISK allow_other,default_permissions || fail mount
  rm -rf "$MNT"/d/d11*
  churn 3000
  umount_ext4d
  same_reports "after ext4d"

  with_kernel
  rm -rf "$MNT"/d/d3[0-4]*
  churn 5000
  setquota -u 777 500 700 10 12 "$MNT" && setquota -g 888 0 1000 0 0 "$MNT" && setquota -P 99 0 300 0 5 "$MNT" || fail setquota
  umount "$MNT"
  same_reports "after setquota"

  mount_ext4d $DISK allow_other,default_permissions,$WORDS || fail mount
  as 777 777 'head -c 600000 /dev/zero >user' || fail "a soft limit was taken for a hard one"
  as 777 777 'head -c 200000 /dev/zero >>user' && fail "the limit of user 777 does not hold"
  as 777 777 'for i in $(seq 11); do touch u$i || exit; done' || fail "12 inodes are allowed"
  as 777 777 'touch u12' && fail "the 13th inode is not refused"
  as 1 888 'head -c 900000 /dev/zero >group' || fail "900 KiB of 1000 are refused"
  as 2 888 'head -c 200000 /dev/zero >group2' && fail "the limit of group 888 does not hold"
  mkdir "$MNT/d/p" && chattr -p 99 +P "$MNT/d/p" && chmod 777 "$MNT/d/p"
  as 3 3 'head -c 400000 /dev/zero >p/f' && fail "the limit of project 99 does not hold"
  as 3 3 'ln group p/link' && fail "a link between projects was made"
  umount_ext4d
  same_reports "after the limits"

  with_kernel
  as 777 777 'head -c 50000 /dev/zero >>user' && fail "the kernel lets user 777 go on"
  rm -rf "$MNT"/d/*
  umount "$MNT"
  same_reports "after all was removed"
}

rounds quota,project
rounds quota,project,ea_inode
