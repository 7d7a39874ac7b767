#include "io.h"

#include <errno.h>
#include <unistd.h>

namespace ext4d {

int ReadFully(int fd, uint8_t* data, size_t length, off_t offset) {
  while (length > 0) {
    ssize_t got = pread(fd, data, length, offset);
    if (got < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    if (got == 0) return -EIO;
    data += got;
    offset += got;
    length -= static_cast<size_t>(got);
  }
  return 0;
}

int WriteFully(int fd, const uint8_t* data, size_t length, off_t offset) {
  while (length > 0) {
    ssize_t put = pwrite(fd, data, length, offset);
    if (put < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    if (put == 0) return -EIO;
    data += put;
    offset += put;
    length -= static_cast<size_t>(put);
  }
  return 0;
}

int WriteVectorsFully(int fd, struct iovec* vectors, int count, off_t offset) {
  while (count > 0) {
    ssize_t put = pwritev(fd, vectors, count, offset);
    if (put < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    if (put == 0) return -EIO;
    offset += put;
    size_t left = static_cast<size_t>(put);
    while (count > 0 && left >= vectors->iov_len) {
      left -= vectors->iov_len;
      vectors++;
      count--;
    }
    if (count > 0) {
      vectors->iov_base = static_cast<uint8_t*>(vectors->iov_base) + left;
      vectors->iov_len -= left;
    }
  }
  return 0;
}

int FlushData(int fd) {
  while (fdatasync(fd) != 0) {
    if (errno != EINTR) return -errno;
  }
  return 0;
}

}  // namespace ext4d
