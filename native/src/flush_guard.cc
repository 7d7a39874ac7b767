#include "flush_guard.h"

#include <errno.h>

#include <unordered_map>

#include "io.h"

namespace ext4d {
namespace {

std::mutex guards_mutex;
std::unordered_map<int, std::shared_ptr<FlushGuard>> guards;

}  // namespace

int FlushGuard::Flush(int fd, uint64_t epoch) {
  std::lock_guard<std::mutex> turn(mutex_);
  if (epoch_.load() != epoch) return -EIO;
  int error = FlushData(fd);
  if (error != 0) Advance();
  return error;
}

std::shared_ptr<FlushGuard> FlushGuardOf(int fd) {
  std::lock_guard<std::mutex> lock(guards_mutex);
  std::shared_ptr<FlushGuard>& guard = guards[fd];
  if (guard == nullptr) guard = std::make_shared<FlushGuard>();
  return guard;
}

void ForgetFlushGuard(int fd) {
  std::lock_guard<std::mutex> lock(guards_mutex);
  guards.erase(fd);
}

}  // namespace ext4d
