"""What a mounted filesystem lets programs do: one line "name yes" or "name no" for each row of docs/COMPARISON.md."""

import ctypes
import os
import subprocess
import sys

ROOT = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_SYMLINK_FOLLOW = -100, 0x400


def check(result):
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def path(name):
    return os.path.join(ROOT, name)


def make(name, data=b"x" * 300_000):
    with open(path(name), "wb") as file:
        file.write(data)
        os.fsync(file.fileno())
    return path(name)


def command(*words):
    if subprocess.run(words, capture_output=True).returncode != 0:
        raise OSError(0, words[0])


def rename(*all_flags):
    for flags in all_flags:
        old, new = make("old"), path("new%d" % flags)
        if flags == 2:
            make("new2")
        check(libc.renameat2(AT_FDCWD, old.encode(), AT_FDCWD, new.encode(), flags))


def tmpfile():
    fd = os.open(ROOT, os.O_TMPFILE | os.O_RDWR)
    link = "/proc/self/fd/%d" % fd
    check(libc.linkat(AT_FDCWD, link.encode(), AT_FDCWD, path("linked").encode(), AT_SYMLINK_FOLLOW))
    os.close(fd)


def seek():
    with open(path("sparse"), "wb") as file:
        file.write(b"x" * 4096)
        file.truncate(1 << 20)
        os.fsync(file.fileno())
        if os.lseek(file.fileno(), 0, os.SEEK_HOLE) >= 1 << 20:
            raise OSError(0, "no hole is found")


def fallocate(*modes):
    for mode in modes:
        fd = os.open(make("allocated"), os.O_RDWR)
        try:
            check(libc.fallocate(fd, mode, ctypes.c_long(65536), ctypes.c_long(65536)))
        finally:
            os.close(fd)


def birth():
    shown = subprocess.run(["stat", "-c", "%w", make("born")], capture_output=True, text=True).stdout.strip()
    if shown in ("-", ""):
        raise OSError(0, "no birth time")


def attributes():
    file = make("attributes")
    for name in ("user.a", "trusted.a", "security.a"):
        os.setxattr(file, name, b"1")
    command("setfacl", "-m", "u:1234:rw", file)


def flags():
    file = make("flags")
    command("chattr", "+i", file)
    command("chattr", "-i", file)
    command("lsattr", file)


def deleted():
    fd = os.open(make("deleted"), os.O_RDWR)
    os.unlink(path("deleted"))
    left = os.listdir(ROOT)
    os.close(fd)
    if any("fuse_hidden" in name for name in left):
        raise OSError(0, "a name is left")


def freeze():
    command("fsfreeze", "-f", ROOT)
    command("fsfreeze", "-u", ROOT)


PROBES = {
    "renameat2:": lambda: rename(1, 2, 4),
    "O_TMPFILE": tmpfile,
    "Deleted files": deleted,
    "SEEK_HOLE": seek,
    "fallocate: default": lambda: fallocate(0, 1, 3),
    "fallocate: ZERO_RANGE": lambda: fallocate(0x10, 0x11),
    "fallocate: COLLAPSE_RANGE": lambda: fallocate(8, 0x20),
    "statx: birth time": birth,
    "Attributes:": attributes,
    "chattr": flags,
    "fstrim": lambda: command("fstrim", ROOT),
    "Freeze": freeze,
}

for name, probe in PROBES.items():
    try:
        probe()
        print(name + "\tyes\t")
    except OSError as error:
        print(name + "\tno\t" + str(error))
