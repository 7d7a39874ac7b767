#include "fast_path.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "args.h"
#include "io.h"
#include "modules.h"
#include "state.h"

namespace ext4d {

namespace {

int64_t WallClockSeconds() {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  return now.tv_sec;
}

}  // namespace

bool FastPath::Serve(const uint8_t* request, size_t length) {
  if (length < sizeof(fuse_in_header)) return false;
  switch (reinterpret_cast<const fuse_in_header*>(request)->opcode) {
    case FUSE_READ: return Read(request, length);
    case FUSE_WRITE: return Write(request, length);
    default: return false;
  }
}

bool FastPath::Read(const uint8_t* request, size_t length) {
  if (length < sizeof(fuse_in_header) + sizeof(fuse_read_in)) return false;
  auto* header = reinterpret_cast<const fuse_in_header*>(request);
  auto* in = reinterpret_cast<const fuse_read_in*>(request + sizeof(fuse_in_header));
  if (in->size > kMostBytes) return false;
  MappingCache::Entry* entry = cache.Find(header->nodeid);
  if (entry == nullptr || entry->file.read_until <= WallClockSeconds()) return false;
  Transfer transfer = Begin(header->unique);
  if (in->offset >= entry->file.size) {
    Reply(transfer, 0, nullptr, 0);
    return true;
  }
  transfer.bytes = std::min<uint64_t>(in->size, entry->file.size - in->offset);
  transfer.count = MappingCache::Map(*entry, in->offset, transfer.bytes, transfer.pieces, kMostPieces);
  if (transfer.count == 0 || MappingCache::HasUnwritten(*entry, in->offset, transfer.bytes)) return false;
  uint8_t buffer[kMostBytes];
  uint8_t* data = transfer.slot == nullptr ? buffer : RingChannel::PayloadOf(transfer.slot);
  int error = ReadPieces(transfer, data, false);
  if (error == -EAGAIN) {
    // The disk is needed. With nothing else to do meanwhile this thread waits for it; another one would come too late.
    if (MoreWaiting()) {
      Delegate(transfer, entry);
      return true;
    }
    error = ReadPieces(transfer, data, true);
  }
  if (error != 0) return false;
  Reply(transfer, 0, data, transfer.bytes);
  return true;
}

bool FastPath::Write(const uint8_t* request, size_t length) {
  const size_t kArgs = sizeof(fuse_in_header) + sizeof(fuse_write_in);
  if (length < kArgs) return false;
  auto* header = reinterpret_cast<const fuse_in_header*>(request);
  auto* in = reinterpret_cast<const fuse_write_in*>(request + sizeof(fuse_in_header));
  if (in->size == 0 || in->size > kMostBytes || length < kArgs + in->size) return false;
  if ((in->write_flags & FUSE_WRITE_KILL_SUIDGID) != 0 || (in->flags & O_DSYNC) != 0) return false;
  MappingCache::Entry* entry = cache.Find(header->nodeid);
  if (entry == nullptr || in->offset > entry->file.size || in->size > entry->file.size - in->offset) return false;
  if (!((in->write_flags & FUSE_WRITE_CACHE) != 0 ? entry->file.writeback : entry->file.write)) return false;
  Transfer transfer = Begin(header->unique);
  transfer.bytes = in->size;
  transfer.count = MappingCache::Map(*entry, in->offset, in->size, transfer.pieces, kMostPieces);
  if (transfer.count == 0) return false;
  bool converts = MappingCache::HasUnwritten(*entry, in->offset, in->size);
  // Of a block of which only a part is written the rest has to be zeroed first.
  if (converts && ((in->offset | in->size) % block_size_ != 0 || written_.size() >= kMostWritten)) return false;
  // What was written of it is written again: by JavaScript, which knows how to report an error.
  if (WritePieces(transfer, request + kArgs) != 0) return false;
  if (converts) NoteWritten(entry, in->offset, in->size);
  fuse_write_out out = {in->size, 0};
  Reply(transfer, 0, &out, sizeof(out));
  return true;
}

void FastPath::NoteWritten(MappingCache::Entry* entry, uint64_t offset, uint64_t length) {
  const uint64_t ino = entry->file.ino;
  cache.MarkWritten(entry, offset, length);
  if (!written_.empty() && written_.back().ino == ino && written_.back().offset + written_.back().length == offset) {
    written_.back().length += length;
  } else {
    written_.push_back({ino, offset, length});
  }
  *unconverted_ = static_cast<double>(written_.size());
}

std::vector<FastPath::Written> FastPath::TakeWritten() {
  *unconverted_ = 0;
  return std::exchange(written_, {});
}

FastPath::Transfer FastPath::Begin(uint64_t unique) const {
  Transfer transfer{};
  transfer.unique = unique;
  transfer.ring = state_->RingOf(fuse_fd_);
  if (transfer.ring != nullptr) transfer.slot = transfer.ring->SlotOf(unique);
  return transfer;
}

bool FastPath::MoreWaiting() const {
  const RingChannel* ring = state_->RingOf(fuse_fd_);
  struct pollfd next = {ring == nullptr ? fuse_fd_ : ring->fd(), POLLIN, 0};
  return poll(&next, 1, 0) > 0;
}

int FastPath::ReadPieces(const Transfer& transfer, uint8_t* into, bool may_wait) {
  for (int i = 0; i < transfer.count; i++) {
    const Piece& piece = transfer.pieces[i];
    if (may_wait || !nowait_.load(std::memory_order_relaxed)) {
      int error = ReadFully(device_fd_, into, piece.length, static_cast<off_t>(piece.device_offset));
      if (error != 0) return error;
    } else {
      struct iovec vector = {into, piece.length};
      ssize_t got = preadv2(device_fd_, &vector, 1, static_cast<off_t>(piece.device_offset), RWF_NOWAIT);
      // A file that cannot say is asked in the ordinary way from now on.
      if (got < 0 && errno == EOPNOTSUPP) nowait_.store(false);
      if (got != static_cast<ssize_t>(piece.length)) return -EAGAIN;
    }
    into += piece.length;
  }
  return 0;
}

int FastPath::WritePieces(const Transfer& transfer, const uint8_t* from) {
  for (int i = 0; i < transfer.count; i++) {
    const Piece& piece = transfer.pieces[i];
    int error = WriteFully(device_fd_, from, piece.length, static_cast<off_t>(piece.device_offset));
    if (error != 0) return error;
    from += piece.length;
  }
  writes_.fetch_add(1);
  return 0;
}

// An answer that nobody waits for any more is nobody's loss; the end of the connection shows when it is read.
void FastPath::Reply(const Transfer& transfer, int error, const void* payload, size_t length) {
  if (transfer.slot != nullptr) {
    uint8_t* place = RingChannel::PayloadOf(transfer.slot);
    if (place != payload) memcpy(place, payload, length);
    transfer.ring->Send(transfer.slot, error, length);
    return;
  }
  fuse_out_header header = {static_cast<uint32_t>(sizeof(fuse_out_header) + length), error, transfer.unique};
  struct iovec vectors[2] = {{&header, sizeof(header)}, {const_cast<void*>(payload), length}};
  while (writev(fuse_fd_, vectors, length > 0 ? 2 : 1) < 0 && errno == EINTR) {
  }
}

void FastPath::Delegate(const Transfer& transfer, MappingCache::Entry* entry) {
  cache.Pin(entry);
  std::lock_guard<std::mutex> lock(mutex_);
  queue_.push_back(transfer);
  queue_.back().pinned = entry;
  if (idle_ > 0) {
    wake_.notify_one();
  } else if (threads_.size() < kMostThreads) {
    // Signals are for the JavaScript thread.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    threads_.emplace_back([this]() { Run(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
}

void FastPath::Run() {
  std::vector<uint8_t> data(kMostBytes);
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    idle_++;
    wake_.wait(lock, [this]() { return stopping_ || !queue_.empty(); });
    idle_--;
    if (queue_.empty()) return;
    Transfer transfer = queue_.front();
    queue_.pop_front();
    lock.unlock();
    uint8_t* into = transfer.slot == nullptr ? data.data() : RingChannel::PayloadOf(transfer.slot);
    int error = ReadPieces(transfer, into, true);
    // Before the answer: whoever has it may expect that the file is let go.
    cache.Unpin(transfer.pinned);
    Reply(transfer, error, into, error == 0 ? transfer.bytes : 0);
    lock.lock();
  }
}

FastPath::~FastPath() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

namespace {

// fastPathStart(fuseFd, deviceFd, blockSize, unconverted)
Napi::Value FastPathStart(const Napi::CallbackInfo& info) {
  int fuse_fd, device_fd;
  double block_size;
  const double* unconverted;
  size_t count;
  if (!FdArg(info, 0, &fuse_fd) || !FdArg(info, 1, &device_fd) ||
      !IntegerArg(info, 2, 1, kMaxSafeInteger, &block_size) || !NumbersArg(info, 3, &unconverted, &count)) {
    return info.Env().Undefined();
  }
  if (count != 1) return Refuse(info.Env(), "expected room for one number");
  StateOf(info.Env())->fast_paths[fuse_fd] =
      std::make_unique<FastPath>(StateOf(info.Env()), fuse_fd, device_fd, static_cast<uint64_t>(block_size),
                                 const_cast<double*>(unconverted), Napi::Persistent(info[3].As<Napi::Object>()));
  return info.Env().Undefined();
}

// fastPathStop(fuseFd): what is under way is answered first
Napi::Value FastPathStop(const Napi::CallbackInfo& info) {
  int fuse_fd;
  if (FdArg(info, 0, &fuse_fd)) StateOf(info.Env())->fast_paths.erase(fuse_fd);
  return info.Env().Undefined();
}

FastPath* FastPathArg(const Napi::CallbackInfo& info) {
  int fuse_fd;
  if (!FdArg(info, 0, &fuse_fd)) return nullptr;
  FastPath* path = StateOf(info.Env())->FastPathOf(fuse_fd);
  if (path == nullptr) Refuse(info.Env(), "no fast path for this connection");
  return path;
}

// fastPathWritten(fuseFd) -> Float64Array of [ino, offset, length] for each range that was unwritten and has data now
Napi::Value FastPathWritten(const Napi::CallbackInfo& info) {
  FastPath* path = FastPathArg(info);
  if (path == nullptr) return info.Env().Undefined();
  std::vector<FastPath::Written> written = path->TakeWritten();
  auto numbers = Napi::Float64Array::New(info.Env(), written.size() * 3);
  for (size_t i = 0; i < written.size(); i++) {
    numbers[3 * i] = static_cast<double>(written[i].ino);
    numbers[3 * i + 1] = static_cast<double>(written[i].offset);
    numbers[3 * i + 2] = static_cast<double>(written[i].length);
  }
  return numbers;
}

// mappingLearn(fuseFd, numbers): [ino, size, read_until, writeback, write, file_offset, length, device_offset, unwritten]
Napi::Value MappingLearn(const Napi::CallbackInfo& info) {
  FastPath* path = FastPathArg(info);
  const double* numbers;
  size_t count;
  if (path == nullptr || !NumbersArg(info, 1, &numbers, &count)) return info.Env().Undefined();
  for (size_t i = 0; i < 9; i++) {
    if (count != 9 || !(numbers[i] >= 0 && numbers[i] <= kMaxSafeInteger)) {
      return Refuse(info.Env(), "expected nine numbers, none of them negative");
    }
  }
  MappingCache::File file = {static_cast<uint64_t>(numbers[0]), static_cast<uint64_t>(numbers[1]),
                             static_cast<int64_t>(numbers[2]), numbers[3] != 0, numbers[4] != 0};
  path->cache.Learn(file, static_cast<uint64_t>(numbers[5]), static_cast<uint64_t>(numbers[6]),
                    static_cast<uint64_t>(numbers[7]), numbers[8] != 0);
  return info.Env().Undefined();
}

// mappingForget(fuseFd, ino): 0 for every file. Waits until nobody reads it any more.
Napi::Value MappingForget(const Napi::CallbackInfo& info) {
  FastPath* path = FastPathArg(info);
  double ino;
  if (path == nullptr || !IntegerArg(info, 1, 0, kMaxSafeInteger, &ino)) return info.Env().Undefined();
  if (ino == 0) path->cache.ForgetAll();
  else path->cache.Forget(static_cast<uint64_t>(ino));
  return info.Env().Undefined();
}

// fastWrites(fuseFd) -> how many writes have reached the device so far
Napi::Value FastWrites(const Napi::CallbackInfo& info) {
  FastPath* path = FastPathArg(info);
  if (path == nullptr) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(path->writes()));
}

}  // namespace

void RegisterFastPath(Napi::Env env, Napi::Object exports) {
  exports.Set("fastPathStart", Napi::Function::New<FastPathStart>(env, "fastPathStart"));
  exports.Set("fastPathStop", Napi::Function::New<FastPathStop>(env, "fastPathStop"));
  exports.Set("mappingLearn", Napi::Function::New<MappingLearn>(env, "mappingLearn"));
  exports.Set("mappingForget", Napi::Function::New<MappingForget>(env, "mappingForget"));
  exports.Set("fastPathWritten", Napi::Function::New<FastPathWritten>(env, "fastPathWritten"));
  exports.Set("fastWrites", Napi::Function::New<FastWrites>(env, "fastWrites"));
}

}  // namespace ext4d
