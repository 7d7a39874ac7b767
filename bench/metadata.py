"""Work with names and small files on a mounted directory: `metadata.py NAME DIRECTORY` prints operations per second.

Each finds what the one before it left. In Python, whose stat(2) asks for no more than most programs do: Node's asks for
birth times as well, which FUSE has a request of its own for.
"""
import os
import subprocess
import sys
import time

FILES = 5000
DIRECTORIES = 10


def each_file(root, prefix, visit):
    for d in range(DIRECTORIES):
        for i in range(FILES // DIRECTORIES):
            visit(f"{root}/d{d}/{prefix}{i}")


def create(root):
    for d in range(DIRECTORIES):
        os.mkdir(f"{root}/d{d}")
    each_file(root, "f", lambda path: os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)))


def stat(root):
    each_file(root, "f", os.stat)


def readdir_stat(root):
    for d in range(DIRECTORIES):
        with os.scandir(f"{root}/d{d}") as entries:
            for entry in entries:
                entry.stat()


def rename(root):
    each_file(root, "f", lambda path: os.rename(path, path.replace("/f", "/g")))


def unlink(root):
    each_file(root, "g", os.unlink)
    for d in range(DIRECTORIES):
        os.rmdir(f"{root}/d{d}")


def small4k(root):
    data = b"x" * 4096
    os.mkdir(f"{root}/s")
    for i in range(FILES):
        fd = os.open(f"{root}/s/f{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        os.write(fd, data)
        os.close(fd)
    # Until it is written: a page cache takes it at any speed.
    subprocess.run(["sync", "-f", root], check=True)


WORK = {work.__name__: work for work in (create, stat, readdir_stat, rename, unlink, small4k)}

if __name__ == "__main__":
    _, name, root = sys.argv
    started = time.perf_counter()
    WORK[name](root)
    print(FILES / (time.perf_counter() - started))
