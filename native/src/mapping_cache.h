// Where the bytes of files are on the device, as the engine last said: what the kernel's iomap cache is to fuse-iomap. It
// holds blocks, written or not, never a guess, and is used on the JavaScript thread only; what other threads do with a
// mapping pins the file meanwhile. The engine forgets a file here before it changes anything about it, and that waits for
// the pins: blocks are freed only when nobody is reading or writing them any more.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace ext4d {

struct Piece {
  uint64_t device_offset;
  uint64_t length;
};

class MappingCache {
 public:
  struct File {
    uint64_t ino;
    uint64_t size;
    // Reads before this second (CLOCK_REALTIME) leave atime alone; 0: reads are for the engine.
    int64_t read_until;
    // Overwrites by the page cache, and by the caller itself, change nothing but data.
    bool writeback;
    bool write;
  };

  // Adds [file_offset, file_offset + length) of a file to what is known. What is said of the file replaces what was,
  // except that permissions add up. Everything is forgotten when it is too much.
  void Learn(const File& file, uint64_t file_offset, uint64_t length, uint64_t device_offset, bool unwritten);
  void Forget(uint64_t ino);
  void ForgetAll();

  struct Entry {
    File file;
    struct Extent {
      uint64_t file_offset;
      uint64_t length;
      uint64_t device_offset;
    };
    std::vector<Extent> extents;  // sorted, disjoint
    // What of them reads as zeroes, whatever is on the device: [first, second), disjoint.
    std::map<uint64_t, uint64_t> unwritten;
    int pins = 0;                 // under mutex_
  };

  // nullptr if nothing is known. Valid until the next Learn, Forget or MarkWritten, or as long as it is pinned.
  Entry* Find(uint64_t ino);
  // Where [offset, offset + length) is: the number of pieces, 0 when not all of it is known, or in more than `most`.
  static int Map(const Entry& entry, uint64_t offset, uint64_t length, Piece* pieces, int most);

  static bool HasUnwritten(const Entry& entry, uint64_t offset, uint64_t length);
  // Everything is forgotten when what is left unwritten are too many ranges: the engine, which has them in fewer pieces, tells
  // them again.
  void MarkWritten(Entry* entry, uint64_t offset, uint64_t length);

  void Pin(Entry* entry);
  // From any thread.
  void Unpin(Entry* entry);

 private:
  // Unwritten ranges of all files, at most.
  static constexpr size_t kMostUnwritten = 1 << 16;

  void Cut(Entry* entry, uint64_t offset, uint64_t length);
  void ForgetTooMuch();
  void WaitForPins(Entry* entry);

  std::unordered_map<uint64_t, Entry> files_;
  size_t unwritten_ = 0;  // ranges of all files
  // The file asked for last: streams of requests are for one.
  Entry* last_ = nullptr;
  std::mutex mutex_;
  std::condition_variable unpinned_;
};

}  // namespace ext4d
