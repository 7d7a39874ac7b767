// Reads requests. The data of large writes from the kernel's page cache stays outside of the buffer the request is read
// into: its pages wait in a pipe, from where they go to the device.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "transfer_pipe.h"

namespace ext4d {

// Below this a copy costs less than passing pages.
constexpr size_t kLeastSpliced = 128 * 1024;

// On the JavaScript thread, but for the pipes, which may be emptied on another one.
class Payloads {
 public:
  // The next request: its length, or -errno. What was left aside of the one before it in this buffer is thrown away.
  ssize_t Read(int fuse_fd, uint8_t* slot, size_t slot_length);
  // Where the data of the write in the buffer is; null if it is in the buffer.
  std::shared_ptr<TransferPipe> Of(const uint8_t* slot) const;
  // Brings it into the buffer: 0 or -errno.
  int Fetch(uint8_t* slot);
  // No request is read into the buffer any more: its pipe is closed, as soon as nobody empties it.
  void Forget(const uint8_t* slot);

 private:
  ssize_t ReadAside(int fuse_fd, uint8_t* slot, size_t slot_length);
  void Release(const uint8_t* slot);
  // Null if none is free and this process may have no more of them.
  std::shared_ptr<TransferPipe> TakePipe(size_t bytes);

  // The last request was such a write: the next one probably is, too.
  bool expected_ = false;
  bool may_have_more_ = true;
  // With pipes that may have been emptied since: no more of them than buffers.
  std::unordered_map<const uint8_t*, std::shared_ptr<TransferPipe>> aside_;
  std::vector<std::shared_ptr<TransferPipe>> empty_;
};

}  // namespace ext4d
