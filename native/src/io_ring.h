// An io_uring of this process: the system calls, and the two queues that it shares with the kernel. For commands to
// /dev/fuse, which need entries of 128 bytes. Only the thread that opened it uses it.
#pragma once

#include <linux/io_uring.h>

#include <cstddef>
#include <cstdint>

namespace ext4d {

// struct io_uring_sqe as IORING_SETUP_SQE128 lays it out: the command has 80 bytes.
struct WideEntry {
  io_uring_sqe sqe;
  uint8_t more_command[64];
};

class IoRing {
 public:
  IoRing() = default;
  IoRing(const IoRing&) = delete;
  IoRing& operator=(const IoRing&) = delete;
  ~IoRing();

  // With room for so many submissions at a time, and for so many completions: 0 or -errno.
  int Open(unsigned submissions, unsigned completions);
  int fd() const { return fd_; }

  // A zeroed entry to fill in; it is submitted by the next Enter. Null if Enter has to be called first.
  WideEntry* NewEntry();
  bool AnyNew() const { return unsubmitted_ > 0; }
  // Submits, and waits until so many completions are there; -1: for as long as it takes. 0 or -errno, -ETIME among them.
  int Enter(unsigned completions, int timeout_milliseconds);
  // The oldest completion, null if none is there. It is gone with Done.
  const io_uring_cqe* Completion() const;
  void Done();
  // Completions for which there was no room wait for the next Enter.
  bool Overflowed() const;

 private:
  int fd_ = -1;
  uint8_t* rings_ = nullptr;
  size_t rings_bytes_ = 0;
  WideEntry* entries_ = nullptr;
  size_t entries_bytes_ = 0;
  unsigned mask_ = 0;
  unsigned unsubmitted_ = 0;
  uint32_t tail_ = 0;
  uint32_t* sq_head_ = nullptr;
  uint32_t* sq_tail_ = nullptr;
  uint32_t* sq_flags_ = nullptr;
  uint32_t* cq_head_ = nullptr;
  uint32_t* cq_tail_ = nullptr;
  uint32_t cq_mask_ = 0;
  io_uring_cqe* completions_ = nullptr;
};

}  // namespace ext4d
