// Keeps the second of two processors from idling while one caller after the other waits for short answers.
//
// A caller that is woken on an idle processor pays for that processor's wake-up, tens of microseconds in a virtual
// machine, on every request; left on the processor that answered it, it pays for a context switch. The scheduler prefers
// an idle processor as long as there is one. So, with exactly two, a thread of the lowest priority occupies the other:
// it yields to any work there is, and stops as soon as requests stop coming in quick succession. From time to time the
// server moves to its caller's processor; from there the scheduler has no reason to part them.
#pragma once

#include <linux/fuse.h>
#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

namespace ext4d {

int64_t MonotonicMicroseconds();

class Company {
 public:
  ~Company();

  // True where it helps: this process may use exactly two processors, and its callers are not asking all at once.
  bool Useful();
  // Whether requests are coming in quick succession.
  void Expect(bool more) { expected_ = more; }
  bool Expected() const { return expected_; }
  // This request has been read from `fd`: keeps company until the next, and now and then makes sure that its caller will
  // be met where it waits.
  void Meet(int fd, const fuse_in_header& request);

 private:
  static const uint32_t kRequestsPerMeeting = 32;
  static const uint32_t kRequestsPerLook = 4;
  static const int kCrowd = 4;

  void MoveTo(uint32_t caller_tid);
  // Keeps company until this time at least.
  void Until(int64_t microseconds);
  void Run();

  enum class Use { kUnknown, kYes, kNo };
  Use use_ = Use::kUnknown;
  cpu_set_t allowed_;
  bool expected_ = false;
  uint32_t met_ = 0;
  // How crowded it was lately, from 0 to 2 * kCrowd.
  int crowd_ = 0;
  int kept_from_ = -1;
  std::atomic<int> thread_tid_{0};
  std::thread thread_;
  std::atomic<int64_t> until_{0};
  std::atomic<bool> asleep_{false};
  bool stopping_ = false;
  std::mutex mutex_;
  std::condition_variable wake_;
};

}  // namespace ext4d
