// File data between the device and /dev/fuse. JavaScript decides which device bytes a request means; the bytes
// themselves never enter it.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include "args.h"
#include "io.h"
#include "modules.h"
#include "state.h"
#include "transfer_pipe.h"

namespace ext4d {
namespace {

// struct fuse_out_header
struct OutHeader {
  uint32_t len;
  int32_t error;
  uint64_t unique;
};

struct Segment {
  off_t offset;  // -1: zeroes
  size_t length;
};

// The largest reply: fs.fuse.max_pages_limit may allow more than we negotiate, never more than this.
constexpr double kMaxTransfer = 32.0 * 1024 * 1024;

// Page-aligned scratch memory of one thread.
class Scratch {
 public:
  ~Scratch() { free(data_); }
  uint8_t* Reserve(size_t length) {
    if (length <= capacity_) return data_;
    free(data_);
    data_ = nullptr;
    capacity_ = 0;
    void* memory = nullptr;
    size_t rounded = (length + 0xffff) & ~static_cast<size_t>(0xffff);
    if (posix_memalign(&memory, 4096, rounded) != 0) return nullptr;
    data_ = static_cast<uint8_t*>(memory);
    capacity_ = rounded;
    return data_;
  }

 private:
  uint8_t* data_ = nullptr;
  size_t capacity_ = 0;
};

// Segments are pairs [device offset or -1, length]. Throws and returns false when they are not.
bool ReadSegments(const Napi::CallbackInfo& info, size_t index, bool holes, std::vector<Segment>* out, size_t* total) {
  const double* numbers;
  size_t available;
  double count;
  if (!NumbersArg(info, index, &numbers, &available)) return false;
  if (!IntegerArg(info, index + 1, 0, static_cast<double>(available / 2), &count)) return false;
  double sum = 0;
  out->reserve(static_cast<size_t>(count));
  for (size_t i = 0; i < static_cast<size_t>(count); i++) {
    double offset = numbers[2 * i];
    double length = numbers[2 * i + 1];
    bool place = (holes && offset == -1) || (offset >= 0 && offset <= kMaxSafeInteger - kMaxTransfer);
    if (!place || !(length >= 0 && length <= kMaxTransfer)) {
      Refuse(info.Env(), "a segment is out of range");
      return false;
    }
    sum += length;
    out->push_back({static_cast<off_t>(offset), static_cast<size_t>(length)});
  }
  if (sum > kMaxTransfer) {
    Refuse(info.Env(), "the segments are too long");
    return false;
  }
  *total = static_cast<size_t>(sum);
  return true;
}

// The reply in pages of the device's page cache. False: nothing has been sent.
bool ReplyInPages(int fuse_fd, uint64_t unique, int device_fd, const std::vector<Segment>& segments, size_t total) {
  static thread_local TransferPipe pipe;
  if (total < kLeastSpliced) return false;
  for (const Segment& segment : segments) {
    if (segment.offset < 0) return false;
  }
  if (!pipe.Open(total)) return false;
  OutHeader header = {static_cast<uint32_t>(sizeof(header) + total), 0, unique};
  int error = pipe.Put(&header, sizeof(header));
  for (size_t i = 0; i < segments.size() && error == 0; i++) {
    error = pipe.PutFrom(device_fd, segments[i].offset, segments[i].length);
  }
  if (error == 0) error = pipe.TakeMessage(fuse_fd, header.len);
  if (error != 0) pipe.Close();
  // Nobody waits for it any more, or the connection has ended.
  return error == 0 || error == -ENOENT || error == -ENODEV;
}

int ReadAll(int device_fd, const std::vector<Segment>& segments, uint8_t* into) {
  for (const Segment& segment : segments) {
    int error = 0;
    if (segment.offset < 0) memset(into, 0, segment.length);
    else error = ReadFully(device_fd, into, segment.length, segment.offset);
    if (error != 0) return error;
    into += segment.length;
  }
  return 0;
}

// Sends what the segments hold as the reply to `unique`, or the error met instead. Returns that error, or 0.
int64_t ReadAndReply(int fuse_fd, uint64_t unique, int device_fd, const std::vector<Segment>& segments, size_t total) {
  if (ReplyInPages(fuse_fd, unique, device_fd, segments, total)) return 0;
  static thread_local Scratch scratch;
  uint8_t* data = scratch.Reserve(total);
  const int error = data == nullptr ? -ENOMEM : ReadAll(device_fd, segments, data);
  OutHeader header;
  header.len = static_cast<uint32_t>(sizeof(header) + (error == 0 ? total : 0));
  header.error = error;
  header.unique = unique;
  struct iovec vectors[2] = {{&header, sizeof(header)}, {data, total}};
  ssize_t put = writev(fuse_fd, vectors, error == 0 && total > 0 ? 2 : 1);
  // ENOENT: nobody waits for it any more. ENODEV: unmounted; the next read of the connection says so.
  if (put < 0 && error == 0 && errno != ENOENT && errno != ENODEV) return -errno;
  return error;
}

// The same where the request came over a ring: its slot takes the bytes.
int64_t ReadIntoSlot(RingChannel* ring, RingChannel::Slot* slot, int device_fd, const std::vector<Segment>& segments,
                     size_t total) {
  const int error = ReadAll(device_fd, segments, RingChannel::PayloadOf(slot));
  ring->Send(slot, error, error == 0 ? total : 0);
  return error;
}

struct ReadArgs {
  int fuse_fd;
  uint64_t unique;
  int device_fd;
  std::vector<Segment> segments;
  size_t total;
  RingChannel* ring;
  RingChannel::Slot* slot;

  int64_t Serve() const {
    if (slot != nullptr) return ReadIntoSlot(ring, slot, device_fd, segments, total);
    return ReadAndReply(fuse_fd, unique, device_fd, segments, total);
  }
};

bool ParseRead(const Napi::CallbackInfo& info, ReadArgs* out) {
  double unique;
  if (!FdArg(info, 0, &out->fuse_fd) || !IntegerArg(info, 1, 0, kMaxSafeInteger, &unique) ||
      !FdArg(info, 2, &out->device_fd) || !ReadSegments(info, 3, true, &out->segments, &out->total)) {
    return false;
  }
  out->unique = static_cast<uint64_t>(unique);
  out->ring = StateOf(info.Env())->RingOf(out->fuse_fd);
  out->slot = out->ring == nullptr ? nullptr : out->ring->SlotOf(out->unique);
  if (out->slot != nullptr && out->total > out->ring->payload_bytes()) {
    Refuse(info.Env(), "the segments are longer than the answer may be");
    return false;
  }
  return true;
}

// readReplySync(fuseFd, unique, deviceFd, segments, count) -> 0 or -errno, which has been replied
Napi::Value ReadReplySync(const Napi::CallbackInfo& info) {
  static thread_local ReadArgs args;
  args.segments.clear();
  if (!ParseRead(info, &args)) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(args.Serve()));
}

// readReply(fuseFd, unique, deviceFd, segments, count) -> job number
Napi::Value ReadReply(const Napi::CallbackInfo& info) {
  auto args = std::make_shared<ReadArgs>();
  if (!ParseRead(info, args.get())) return info.Env().Undefined();
  uint32_t id = StateOf(info.Env())->background.Submit(
      Lane::kReads,
      [args]() { return args->Serve(); },
      Napi::Value());
  return Napi::Number::New(info.Env(), id);
}

// The data of a write, from the pipe it waits in. `into` has room for it, for a device that takes no pages.
int64_t WritePages(TransferPipe* pipe, int device_fd, const std::vector<Segment>& segments, uint8_t* into) {
  for (const Segment& segment : segments) {
    const size_t before = pipe->held();
    int error = pipe->TakeTo(device_fd, segment.offset, segment.length);
    if (error == -EINVAL && pipe->held() == before) {
      error = pipe->Take(into, segment.length);
      if (error == 0) error = WriteFully(device_fd, into, segment.length, segment.offset);
    }
    if (error != 0) return error;
  }
  return 0;
}

// writeData(deviceFd, slot, offset, length, segments, count, aside) -> job number. The bytes of `slot`, or those that wait
// aside of it, go to the segments in order; `slot` must not change until the job is done.
Napi::Value WriteData(const Napi::CallbackInfo& info) {
  int device_fd;
  Bytes bytes;
  auto segments = std::make_shared<std::vector<Segment>>();
  size_t total;
  if (!FdArg(info, 0, &device_fd) || !SliceArg(info, 1, &bytes) ||
      !ReadSegments(info, 4, false, segments.get(), &total)) {
    return info.Env().Undefined();
  }
  if (total > bytes.length) return Refuse(info.Env(), "the segments are longer than the data");
  uint8_t* data = bytes.data;
  State* state = StateOf(info.Env());
  std::shared_ptr<TransferPipe> pipe;
  if (info[6].ToBoolean().Value()) {
    Bytes slot;
    if (!BytesArg(info, 1, &slot)) return info.Env().Undefined();
    pipe = state->payloads.Of(slot.data);
    if (pipe == nullptr || total > pipe->held()) return Refuse(info.Env(), "the segments are longer than the data");
  }
  uint32_t id = state->background.Submit(
      Lane::kWrites,
      [device_fd, data, segments, pipe]() -> int64_t {
        if (pipe != nullptr) return WritePages(pipe.get(), device_fd, *segments, data);
        size_t done = 0;
        for (const Segment& segment : *segments) {
          int error = WriteFully(device_fd, data + done, segment.length, segment.offset);
          if (error != 0) return error;
          done += segment.length;
        }
        return 0;
      },
      info[1]);
  return Napi::Number::New(info.Env(), id);
}

// notify(fuseFd, message, offset, length) -> job number. A notification may wait until the kernel has written back
// what it invalidates, and this process serves those writes: so never on the JavaScript thread or a data thread.
Napi::Value Notify(const Napi::CallbackInfo& info) {
  int fuse_fd;
  Bytes bytes;
  if (!FdArg(info, 0, &fuse_fd) || !SliceArg(info, 1, &bytes)) return info.Env().Undefined();
  auto message = std::make_shared<std::vector<uint8_t>>(bytes.data, bytes.data + bytes.length);
  uint32_t id = StateOf(info.Env())->background.Submit(
      Lane::kControl,
      [fuse_fd, message]() -> int64_t {
        return write(fuse_fd, message->data(), message->size()) < 0 ? -errno : 0;
      },
      Napi::Value());
  return Napi::Number::New(info.Env(), id);
}

}  // namespace

void RegisterDataPath(Napi::Env env, Napi::Object exports) {
  exports.Set("readReplySync", Napi::Function::New<ReadReplySync>(env, "readReplySync"));
  exports.Set("readReply", Napi::Function::New<ReadReply>(env, "readReply"));
  exports.Set("writeData", Napi::Function::New<WriteData>(env, "writeData"));
  exports.Set("notify", Napi::Function::New<Notify>(env, "notify"));
}

}  // namespace ext4d
