// Requests of a FUSE connection over io_uring (Linux 6.14, module parameter enable_uring; fs/fuse/dev_uring.c). The kernel
// has a queue for each possible processor and puts a request into a buffer of the queue of its caller's; the answer goes
// back in the same buffer, and hands it back. FORGET and INTERRUPT, and what was asked before the queues were there, still
// come by /dev/fuse. An answer goes back the way its request came.
#pragma once

#include <linux/fuse.h>
#include <sys/uio.h>
#include <uv.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "io_ring.h"

namespace ext4d {

// On the JavaScript thread, unless said otherwise.
class RingChannel {
 public:
  // A buffer that a request comes in, and its answer goes back in.
  struct Slot {
    std::shared_ptr<uint8_t> memory;
    size_t number;
    uint16_t queue;
    uint64_t unique;
    // When its memory was last given back, as RingChannel counts that.
    uint32_t relieved;
    iovec parts[2];  // headers, payload: as registered
  };

  RingChannel(int fuse_fd, uv_loop_t* loop);
  RingChannel(const RingChannel&) = delete;
  RingChannel& operator=(const RingChannel&) = delete;
  ~RingChannel();

  // For payloads of that size: 0 or -errno.
  int Open(size_t payload_bytes);
  // Hands slots to the kernel, after INIT has been answered. From then on requests come this way. 0; an errno: the kernel
  // refuses, and goes on with /dev/fuse; -errno: it has not been asked for all, and waits for the rest before anything else.
  int Register();

  // Becomes readable when Next has something.
  int fd() const { return ring_.fd(); }
  // The slot of the next request; -EAGAIN: none is there.
  int Next();
  // Answers given so far are handed to the kernel.
  void Flush();
  // Waits for a request, and no longer than until `other_fd` can be read: true if a request is there.
  bool WaitForRequest(int other_fd, int timeout_milliseconds);
  size_t payload_bytes() const { return payload_bytes_; }
  // The request as /dev/fuse would have given it: header, structure and payload, one after the other.
  uint8_t* RequestIn(int slot) const { return slots_[static_cast<size_t>(slot)].memory.get() + kRequestAt; }
  size_t RequestBytes() const { return kPayloadAt - kRequestAt + payload_bytes_; }

  // The slot that this request came in; null: it came by /dev/fuse.
  Slot* SlotOf(uint64_t unique);
  // An answer, as for /dev/fuse: false if its request came by that.
  bool Answer(const fuse_out_header& header, const void* payload, size_t length);
  // Where the payload of the answer may be put before Send. On any thread.
  static uint8_t* PayloadOf(const Slot* slot) { return slot->memory.get() + kPayloadAt; }
  // The answer to the request in the slot, its payload in place. On any thread.
  void Send(Slot* slot, int error, size_t payload_length);

  // Its memory, which outlives this object.
  std::shared_ptr<uint8_t> MemoryOf(int slot) const { return slots_[static_cast<size_t>(slot)].memory; }
  size_t slot_count() const { return slots_.size(); }
  // Gives back the memory of each slot when that is handed to the kernel next: from then on the kernel may have put
  // something into it at any moment.
  void RelieveMemory() { relieved_++; }

 private:
  // In a slot: the headers, a page for whatever precedes the payload, the payload at a page.
  static constexpr size_t kPage = 4096;
  static constexpr size_t kPayloadAt = 2 * kPage;
  // With the structure of a WRITE between header and payload its data needs no copy.
  static constexpr size_t kRequestAt = kPayloadAt - sizeof(fuse_in_header) - sizeof(fuse_write_in);

  // A request may wait for others, so there has to be a free slot for these: the kernel gives a request to a slot that is
  // free when it comes, or else to the next that is handed back, not to a new one. So many may come at once, then. Their
  // memory is used when something is put into it, that of the last one handed back first.
  static constexpr size_t kFreeSlots = 64;

  bool AddSlot(uint16_t queue);
  void Take(Slot* slot);
  void HandBack(Slot* slot);
  // False: not now.
  bool Submit(Slot* slot, uint32_t command);
  void Lay(Slot* slot);
  void TakeSent();
  // The next completion of a slot: its number, or -EAGAIN. That of `other_fd` is taken, too.
  int TakeCompletion();

  const int fuse_fd_;
  IoRing ring_;
  size_t payload_bytes_ = 0;
  size_t slot_bytes_ = 0;
  // Where they are they stay.
  std::deque<Slot> slots_;
  // Of each queue: slots without a request.
  std::vector<size_t> free_;
  uint32_t relieved_ = 0;
  std::unordered_map<uint64_t, Slot*> by_unique_;
  bool watching_other_ = false;
  bool other_ready_ = false;
  // Before the event loop sleeps, answers are handed over; another thread's wake it for that.
  uv_prepare_t* prepare_;
  uv_async_t* async_;
  const uv_thread_t thread_;
  std::mutex mutex_;
  std::vector<Slot*> sent_;
  std::atomic<bool> any_sent_{false};
};

}  // namespace ext4d
