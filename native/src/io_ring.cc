#include "io_ring.h"

#include <errno.h>
#include <linux/time_types.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

namespace ext4d {

namespace {

// Newer than the headers of some systems that this is built on: of Linux 5.19 and 6.0.
const unsigned kSetupCoopTaskrun = 1u << 8;
const unsigned kSetupSqe128 = 1u << 10;
const unsigned kSetupSingleIssuer = 1u << 12;

// What the kernel has to do in this thread waits for its next system call. Not IORING_SETUP_DEFER_TASKRUN: with that nobody
// who polls the descriptor is told.
const unsigned kFlags = kSetupSqe128 | kSetupSingleIssuer | kSetupCoopTaskrun;

template <typename T>
T* At(uint8_t* base, uint32_t offset) {
  return reinterpret_cast<T*>(base + offset);
}

}  // namespace

int IoRing::Open(unsigned submissions, unsigned completions) {
  io_uring_params params = {};
  params.flags = kFlags | IORING_SETUP_CQSIZE;
  params.cq_entries = completions;
  fd_ = static_cast<int>(syscall(SYS_io_uring_setup, submissions, &params));
  if (fd_ < 0) return -errno;
  const unsigned needed = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP;
  if ((params.features & needed) != needed) return -EOPNOTSUPP;
  const size_t sq_end = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
  const size_t cq_end = params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe);
  rings_bytes_ = std::max(sq_end, cq_end);
  entries_bytes_ = params.sq_entries * sizeof(WideEntry);
  const int protection = PROT_READ | PROT_WRITE;
  void* rings = mmap(nullptr, rings_bytes_, protection, MAP_SHARED | MAP_POPULATE, fd_, IORING_OFF_SQ_RING);
  if (rings == MAP_FAILED) return -errno;
  rings_ = static_cast<uint8_t*>(rings);
  void* all = mmap(nullptr, entries_bytes_, protection, MAP_SHARED | MAP_POPULATE, fd_, IORING_OFF_SQES);
  if (all == MAP_FAILED) return -errno;
  entries_ = static_cast<WideEntry*>(all);
  mask_ = params.sq_entries - 1;
  sq_head_ = At<uint32_t>(rings_, params.sq_off.head);
  sq_tail_ = At<uint32_t>(rings_, params.sq_off.tail);
  sq_flags_ = At<uint32_t>(rings_, params.sq_off.flags);
  cq_head_ = At<uint32_t>(rings_, params.cq_off.head);
  cq_tail_ = At<uint32_t>(rings_, params.cq_off.tail);
  cq_mask_ = params.cq_entries - 1;
  completions_ = At<io_uring_cqe>(rings_, params.cq_off.cqes);
  // Entries are used in the order in which they lie.
  uint32_t* order = At<uint32_t>(rings_, params.sq_off.array);
  for (uint32_t i = 0; i < params.sq_entries; i++) order[i] = i;
  return 0;
}

IoRing::~IoRing() {
  if (rings_ != nullptr) munmap(rings_, rings_bytes_);
  if (entries_ != nullptr) munmap(entries_, entries_bytes_);
  if (fd_ >= 0) close(fd_);
}

WideEntry* IoRing::NewEntry() {
  if (tail_ - __atomic_load_n(sq_head_, __ATOMIC_ACQUIRE) > mask_) return nullptr;
  WideEntry* entry = &entries_[tail_ & mask_];
  memset(entry, 0, sizeof(*entry));
  tail_++;
  unsubmitted_++;
  return entry;
}

int IoRing::Enter(unsigned completions, int timeout_milliseconds) {
  __atomic_store_n(sq_tail_, tail_, __ATOMIC_RELEASE);
  __kernel_timespec time = {timeout_milliseconds / 1000, (timeout_milliseconds % 1000) * 1000000};
  io_uring_getevents_arg limits = {};
  limits.ts = reinterpret_cast<uint64_t>(&time);
  const bool limited = completions > 0 && timeout_milliseconds >= 0;
  long submitted = syscall(SYS_io_uring_enter, fd_, unsubmitted_, completions,
                           IORING_ENTER_GETEVENTS | (limited ? IORING_ENTER_EXT_ARG : 0u),
                           limited ? static_cast<void*>(&limits) : nullptr, limited ? sizeof(limits) : 0);
  const int error = submitted < 0 ? -errno : 0;
  // What has been submitted is not told where waiting failed.
  unsubmitted_ = tail_ - __atomic_load_n(sq_head_, __ATOMIC_ACQUIRE);
  return error;
}

const io_uring_cqe* IoRing::Completion() const {
  const uint32_t head = *cq_head_;
  if (head == __atomic_load_n(cq_tail_, __ATOMIC_ACQUIRE)) return nullptr;
  return &completions_[head & cq_mask_];
}

bool IoRing::Overflowed() const {
  return (__atomic_load_n(sq_flags_, __ATOMIC_RELAXED) & IORING_SQ_CQ_OVERFLOW) != 0;
}

void IoRing::Done() { __atomic_store_n(cq_head_, *cq_head_ + 1, __ATOMIC_RELEASE); }

}  // namespace ext4d
