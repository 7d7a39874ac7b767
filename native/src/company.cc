#include "company.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace ext4d {

int64_t MonotonicMicroseconds() {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1000000 + now.tv_nsec / 1000;
}

namespace {

// From one request to the next in a busy stream, with the time that the answer takes.
const int64_t kLastsMicroseconds = 300;

inline void Relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// execve holds the process's exec_update_lock while it unmaps and closes what does not outlive it, and /proc/TID/stat waits
// for that lock. Looking at a caller who sends FLUSH, or what goes with it, from there would be a deadlock: only requests
// that execve does not send then are good for it.
bool MayBeLookedAt(uint32_t opcode) {
  switch (opcode) {
    case FUSE_LOOKUP:
    case FUSE_OPEN:
    case FUSE_READ:
    case FUSE_WRITE:
    case FUSE_CREATE:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_UNLINK:
    case FUSE_RMDIR:
    case FUSE_RENAME:
    case FUSE_RENAME2:
    case FUSE_FSYNC:
    case FUSE_READDIRPLUS: return true;
    default: return false;
  }
}

// Field 39 of /proc/TID/stat, counted from behind the name, which may hold anything. -1: unknown.
int LastProcessorOf(uint32_t tid) {
  char text[1024];
  snprintf(text, sizeof(text), "/proc/%u/stat", tid);
  int fd = open(text, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t length = read(fd, text, sizeof(text) - 1);
  close(fd);
  if (length <= 0) return -1;
  text[length] = 0;
  char* field = strrchr(text, ')');
  for (int number = 2; field != nullptr && number < 39; number++) field = strchr(field + 1, ' ');
  return field == nullptr ? -1 : atoi(field + 1);
}

}  // namespace

bool Company::Useful() {
  if (use_ == Use::kUnknown) {
    CPU_ZERO(&allowed_);
    bool two = sched_getaffinity(0, sizeof(allowed_), &allowed_) == 0 && CPU_COUNT(&allowed_) == 2;
    use_ = two ? Use::kYes : Use::kNo;
  }
  return use_ == Use::kYes && crowd_ < kCrowd;
}

void Company::Meet(int fd, const fuse_in_header& request) {
  met_++;
  if (met_ % kRequestsPerLook == 0) {
    // Another one waits already: they are not asked one after the other.
    struct pollfd next = {fd, POLLIN, 0};
    if (poll(&next, 1, 0) > 0) crowd_ += crowd_ < 2 * kCrowd ? 1 : 0;
    else if (crowd_ > 0) crowd_--;
  }
  if (!Useful()) return;
  Until(MonotonicMicroseconds() + kLastsMicroseconds);
  if (request.pid != 0 && met_ % kRequestsPerMeeting == 0 && MayBeLookedAt(request.opcode)) MoveTo(request.pid);
}

void Company::Until(int64_t microseconds) {
  until_.store(microseconds, std::memory_order_relaxed);
  if (!thread_.joinable()) {
    // Signals are for the JavaScript thread.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::thread([this]() { Run(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  } else if (asleep_.load()) {
    std::lock_guard<std::mutex> lock(mutex_);
    wake_.notify_one();
  }
}

void Company::MoveTo(uint32_t caller_tid) {
  int there = LastProcessorOf(caller_tid);
  int tid = thread_tid_.load();
  if (there < 0 || tid == 0 || !CPU_ISSET(there, &allowed_)) return;
  if (there != sched_getcpu()) {
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(there, &only);
    sched_setaffinity(0, sizeof(only), &only);
    sched_setaffinity(0, sizeof(allowed_), &allowed_);
  }
  cpu_set_t others = allowed_;
  CPU_CLR(there, &others);
  if (kept_from_ != there && sched_setaffinity(tid, sizeof(others), &others) == 0) kept_from_ = there;
}

void Company::Run() {
  pid_t tid = static_cast<pid_t>(syscall(SYS_gettid));
  setpriority(PRIO_PROCESS, static_cast<id_t>(tid), 19);
  thread_tid_.store(tid);
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    while (MonotonicMicroseconds() < until_.load(std::memory_order_relaxed)) {
      for (int i = 0; i < 32; i++) Relax();
    }
    asleep_.store(true);
    wake_.wait(lock, [this]() {
      return stopping_ || MonotonicMicroseconds() < until_.load(std::memory_order_relaxed);
    });
    asleep_.store(false);
  }
}

Company::~Company() {
  if (!thread_.joinable()) return;
  until_.store(0);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

}  // namespace ext4d
