#include "transfer_pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

namespace ext4d {

namespace {

constexpr size_t kPageBytes = 4096;
// For headers, and for segments that begin or end inside a page.
constexpr size_t kSparePages = 8;

}  // namespace

bool TransferPipe::Open(size_t bytes) {
  if (read_end_ >= 0 && bytes <= room_) return true;
  Close();
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return false;
  // Each page takes a place, however little of it is used. The kernel rounds up, and says no above its limit.
  int wanted = static_cast<int>((bytes / kPageBytes + kSparePages) * kPageBytes);
  if (fcntl(ends[1], F_SETPIPE_SZ, wanted) < wanted) {
    close(ends[0]);
    close(ends[1]);
    return false;
  }
  read_end_ = ends[0];
  write_end_ = ends[1];
  room_ = bytes;
  return true;
}

void TransferPipe::Close() {
  if (read_end_ < 0) return;
  close(read_end_);
  close(write_end_);
  read_end_ = write_end_ = -1;
  held_ = 0;
}

int TransferPipe::Put(const void* data, size_t length) {
  ssize_t put = write(write_end_, data, length);
  if (put < 0) return -errno;
  held_ += static_cast<size_t>(put);
  return static_cast<size_t>(put) == length ? 0 : -EIO;
}

int TransferPipe::Take(void* data, size_t length) {
  for (auto* into = static_cast<char*>(data); length > 0;) {
    ssize_t got = read(read_end_, into, length);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got < 0 ? -errno : -EIO;
    into += got;
    held_ -= static_cast<size_t>(got);
    length -= static_cast<size_t>(got);
  }
  return 0;
}

// Never waits for room in the pipe: nobody would make it.
int TransferPipe::PutFrom(int fd, off_t offset, size_t length) {
  while (length > 0) {
    ssize_t moved = splice(fd, &offset, write_end_, nullptr, length, SPLICE_F_NONBLOCK);
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) return moved < 0 ? -errno : -EIO;
    held_ += static_cast<size_t>(moved);
    length -= static_cast<size_t>(moved);
  }
  return 0;
}

int TransferPipe::TakeTo(int fd, off_t offset, size_t length) {
  while (length > 0) {
    ssize_t moved = splice(read_end_, nullptr, fd, &offset, length, 0);
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) return moved < 0 ? -errno : -EIO;
    held_ -= static_cast<size_t>(moved);
    length -= static_cast<size_t>(moved);
  }
  return 0;
}

int TransferPipe::TakeMessage(int fd, size_t length) {
  ssize_t moved = splice(read_end_, nullptr, fd, nullptr, length, 0);
  if (moved < 0) return -errno;
  held_ -= static_cast<size_t>(moved);
  return static_cast<size_t>(moved) == length ? 0 : -EIO;
}

ssize_t TransferPipe::PutMessage(int fd, size_t longest) {
  ssize_t moved = splice(fd, nullptr, write_end_, nullptr, longest, 0);
  if (moved < 0) return -errno;
  held_ += static_cast<size_t>(moved);
  return moved;
}

}  // namespace ext4d
