// Reads and writes of blocks that MappingCache knows, answered without JavaScript by the thread that read the request. What is
// written to unwritten blocks is reported, for the engine to convert them, many at once and before it looks at the file. A read that has to wait for the disk while others are waiting for this thread goes to one beside it.
#pragma once

#include <napi.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "mapping_cache.h"
#include "ring_channel.h"

namespace ext4d {

struct State;

class FastPath {
 public:
  // `unconverted` is where JavaScript sees how many ranges wait to be taken.
  FastPath(const State* state, int fuse_fd, int device_fd, uint64_t block_size, double* unconverted, Napi::ObjectReference owner)
      : state_(state),
        fuse_fd_(fuse_fd),
        device_fd_(device_fd),
        block_size_(block_size),
        unconverted_(unconverted),
        owner_(std::move(owner)) {}
  // Answers what is under way.
  ~FastPath();

  // True if the request has been answered, or is going to be. On the JavaScript thread.
  bool Serve(const uint8_t* request, size_t length);
  int fuse_fd() const { return fuse_fd_; }
  // Writes that have reached the device; counted before they are answered.
  uint64_t writes() const { return writes_.load(); }

  // A range that was unwritten and has data now.
  struct Written {
    uint64_t ino;
    uint64_t offset;
    uint64_t length;
  };
  // Those written since the last call.
  std::vector<Written> TakeWritten();

  MappingCache cache;

 private:
  // Ranges that wait to be taken, at most.
  static const size_t kMostWritten = 4096;
  static const int kMostPieces = 8;
  static const size_t kMostBytes = 64 << 10;
  static const size_t kMostThreads = 4;

  struct Transfer {
    uint64_t unique;
    // Where it came in, and the ring that is of; null if it came by /dev/fuse.
    RingChannel* ring;
    RingChannel::Slot* slot;
    int count;
    Piece pieces[kMostPieces];
    size_t bytes;
    MappingCache::Entry* pinned;
  };

  bool Read(const uint8_t* request, size_t length);
  bool Write(const uint8_t* request, size_t length);
  Transfer Begin(uint64_t unique) const;
  // Another thread reads, and answers.
  void Delegate(const Transfer& transfer, MappingCache::Entry* entry);
  bool MoreWaiting() const;
  // 0 or -errno; -EAGAIN if that would mean waiting, for the disk, and it may not.
  int ReadPieces(const Transfer& transfer, uint8_t* into, bool may_wait);
  int WritePieces(const Transfer& transfer, const uint8_t* from);
  void NoteWritten(MappingCache::Entry* entry, uint64_t offset, uint64_t length);
  void Reply(const Transfer& transfer, int error, const void* payload, size_t length);
  void Run();

  const State* const state_;
  const int fuse_fd_;
  const int device_fd_;
  const uint64_t block_size_;
  std::vector<Written> written_;
  double* unconverted_;
  Napi::ObjectReference owner_;  // of the memory behind unconverted_
  std::atomic<uint64_t> writes_{0};
  // Reading without waiting for the disk: false once the file has said that it cannot.
  std::atomic<bool> nowait_{true};

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Transfer> queue_;
  std::vector<std::thread> threads_;
  size_t idle_ = 0;
  bool stopping_ = false;
};

}  // namespace ext4d
