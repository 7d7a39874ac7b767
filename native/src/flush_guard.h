// The kernel tells of a write that failed after it was accepted once per descriptor: to the flush that comes first. Other
// flushes then succeed, and jobs would go on as if what they wrote were durable. So flushes of a descriptor take turns,
// and one that fails ends every job that was submitted before that became known.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

namespace ext4d {

class FlushGuard {
 public:
  // Jobs remember the epoch they were submitted in.
  uint64_t epoch() const { return epoch_.load(); }
  // Jobs submitted so far end at their next step.
  void Advance() { epoch_.fetch_add(1); }
  // 0 or -errno; -EIO as well if the epoch is over.
  int Flush(int fd, uint64_t epoch);

 private:
  std::mutex mutex_;
  std::atomic<uint64_t> epoch_{0};
};

// One for each open descriptor.
std::shared_ptr<FlushGuard> FlushGuardOf(int fd);
void ForgetFlushGuard(int fd);

}  // namespace ext4d
