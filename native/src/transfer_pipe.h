// A pipe that holds one large transfer: pages of the device's page cache or of the kernel's request pass through it by
// reference, so that their bytes are copied once instead of twice.
#pragma once

#include <sys/types.h>

#include <cstddef>

namespace ext4d {

class TransferPipe {
 public:
  ~TransferPipe() { Close(); }

  // Makes it with room for `bytes` that begin anywhere in a page, and some more, unless it is there; false if this process
  // may not have a pipe as large.
  bool Open(size_t bytes);
  // Throws away what is in it.
  void Close();

  // Bytes in it.
  size_t held() const { return held_; }

  // All return 0, or -errno: then some of the bytes may have moved.
  int Put(const void* data, size_t length);
  int Take(void* data, size_t length);
  int PutFrom(int fd, off_t offset, size_t length);
  int TakeTo(int fd, off_t offset, size_t length);
  // In one piece, as a message.
  int TakeMessage(int fd, size_t length);
  // The next message of `fd`: how many bytes it has, or -errno.
  ssize_t PutMessage(int fd, size_t longest);

 private:
  size_t room_ = 0;
  size_t held_ = 0;
  int read_end_ = -1;
  int write_end_ = -1;
};

}  // namespace ext4d
