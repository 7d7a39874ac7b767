#include "ring_channel.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>

#include "args.h"
#include "modules.h"
#include "state.h"

namespace ext4d {

namespace {

// Of <linux/fuse.h> 7.42, and of <linux/io_uring.h> 5.19: newer than the headers of some systems that this is built on.
const uint8_t kOpUringCmd = 46;
const size_t kCommandAt = 48;
const uint32_t kRegister = 1;        // FUSE_IO_URING_CMD_REGISTER
const uint32_t kCommitAndFetch = 2;  // FUSE_IO_URING_CMD_COMMIT_AND_FETCH

struct EntInOut {  // struct fuse_uring_ent_in_out
  uint64_t flags;
  uint64_t commit_id;
  uint32_t payload_sz;
  uint32_t padding;
  uint64_t reserved;
};

struct ReqHeader {  // struct fuse_uring_req_header
  uint8_t in_out[128];
  uint8_t op_in[128];
  EntInOut ring_ent_in_out;
};

struct CmdReq {  // struct fuse_uring_cmd_req
  uint64_t flags;
  uint64_t commit_id;
  uint16_t qid;
  uint8_t padding[6];
};

// Tags of completions: the slot's number, or this.
const uint64_t kOther = UINT64_MAX;

const unsigned kSubmissions = 64;
const size_t kMostCompletions = 4096;

ReqHeader* HeaderOf(const RingChannel::Slot* slot) { return reinterpret_cast<ReqHeader*>(slot->memory.get()); }

// Numbers like "0-3,8" in a file of /sys/devices/system/cpu; empty if it cannot be read.
std::vector<unsigned> Processors(const char* path) {
  std::vector<unsigned> numbers;
  FILE* file = fopen(path, "re");
  if (file == nullptr) return numbers;
  unsigned first;
  while (fscanf(file, "%u", &first) == 1) {
    unsigned last = first;
    int after = fgetc(file);
    if (after == '-') {
      if (fscanf(file, "%u", &last) != 1) break;
      after = fgetc(file);
    }
    for (unsigned number = first; number <= last; number++) numbers.push_back(number);
    if (after != ',') break;
  }
  fclose(file);
  return numbers;
}

}  // namespace

RingChannel::RingChannel(int fuse_fd, uv_loop_t* loop)
    : fuse_fd_(fuse_fd), prepare_(new uv_prepare_t), async_(new uv_async_t), thread_(uv_thread_self()) {
  uv_prepare_init(loop, prepare_);
  prepare_->data = this;
  uv_prepare_start(prepare_, [](uv_prepare_t* handle) { static_cast<RingChannel*>(handle->data)->Flush(); });
  uv_unref(reinterpret_cast<uv_handle_t*>(prepare_));
  uv_async_init(loop, async_, [](uv_async_t*) {});
  uv_unref(reinterpret_cast<uv_handle_t*>(async_));
}

RingChannel::~RingChannel() {
  uv_close(reinterpret_cast<uv_handle_t*>(prepare_), [](uv_handle_t* handle) {
    delete reinterpret_cast<uv_prepare_t*>(handle);
  });
  uv_close(reinterpret_cast<uv_handle_t*>(async_), [](uv_handle_t* handle) {
    delete reinterpret_cast<uv_async_t*>(handle);
  });
}

int RingChannel::Open(size_t payload_bytes) {
  // num_possible_cpus(): processors that could be plugged in have a queue as well.
  const size_t queues = Processors("/sys/devices/system/cpu/possible").size();
  if (queues == 0 || queues > UINT16_MAX) return -EOPNOTSUPP;
  payload_bytes_ = (payload_bytes + kPage - 1) / kPage * kPage;
  slot_bytes_ = kPayloadAt + payload_bytes_ + kPage;
  free_.resize(queues);
  // More completions than these the kernel keeps for itself until there is room.
  const size_t completions = std::min<size_t>(queues * 2 * kFreeSlots, kMostCompletions);
  return ring_.Open(kSubmissions, static_cast<unsigned>(std::max<size_t>(completions, 2 * kSubmissions)));
}

int RingChannel::Register() {
  const std::vector<unsigned> online = Processors("/sys/devices/system/cpu/online");
  for (uint16_t queue = 0; queue < free_.size(); queue++) {
    const bool used = std::find(online.begin(), online.end(), queue) != online.end();
    while (free_[queue] < (used ? kFreeSlots : 1)) {
      if (!AddSlot(queue)) return -ENOMEM;
    }
  }
  int error = ring_.Enter(0, -1);
  if (error != 0) return error;
  if (ring_.AnyNew()) return -EAGAIN;
  // What the kernel refuses is complete at once. A queue without a slot would hold up every request.
  const io_uring_cqe* refused = ring_.Completion();
  if (refused == nullptr || refused->res >= 0) return 0;
  // A security module, before FUSE has heard of it.
  return refused->res == -EACCES || refused->res == -EPERM ? refused->res : -refused->res;
}

bool RingChannel::AddSlot(uint16_t queue) {
  const size_t bytes = slot_bytes_;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return false;
  std::shared_ptr<uint8_t> held(static_cast<uint8_t*>(memory), [bytes](uint8_t* all) { munmap(all, bytes); });
  slots_.push_back({held, slots_.size(), queue, 0, relieved_, {}});
  Slot* slot = &slots_.back();
  slot->parts[0] = {held.get(), sizeof(ReqHeader)};
  slot->parts[1] = {held.get() + kPayloadAt, payload_bytes_};
  if (!Submit(slot, kRegister)) {
    slots_.pop_back();
    return false;
  }
  free_[queue]++;
  return true;
}

void RingChannel::Take(Slot* slot) {
  slot->unique = reinterpret_cast<const fuse_in_header*>(HeaderOf(slot)->in_out)->unique;
  by_unique_[slot->unique] = slot;
  free_[slot->queue]--;
  while (free_[slot->queue] < kFreeSlots && AddSlot(slot->queue)) {
  }
}

void RingChannel::HandBack(Slot* slot) {
  by_unique_.erase(slot->unique);
  if (slot->relieved != relieved_) {
    slot->relieved = relieved_;
    const size_t kept = (HeaderOf(slot)->ring_ent_in_out.payload_sz + kPage - 1) / kPage * kPage;
    if (kept < payload_bytes_) madvise(PayloadOf(slot) + kept, payload_bytes_ - kept, MADV_DONTNEED);
  }
  if (Submit(slot, kCommitAndFetch)) {
    free_[slot->queue]++;
    return;
  }
  std::lock_guard<std::mutex> lock(mutex_);
  sent_.push_back(slot);
  any_sent_.store(true);
}

bool RingChannel::Submit(Slot* slot, uint32_t command) {
  WideEntry* entry = ring_.NewEntry();
  if (entry == nullptr) {
    ring_.Enter(0, -1);
    entry = ring_.NewEntry();
  }
  if (entry == nullptr) return false;
  entry->sqe.opcode = kOpUringCmd;
  entry->sqe.fd = fuse_fd_;
  entry->sqe.off = command;
  entry->sqe.user_data = slot->number;
  if (command == kRegister) {
    entry->sqe.addr = reinterpret_cast<uint64_t>(slot->parts);
    entry->sqe.len = 2;
  }
  CmdReq request = {};
  request.qid = slot->queue;
  request.commit_id = command == kRegister ? 0 : HeaderOf(slot)->ring_ent_in_out.commit_id;
  memcpy(reinterpret_cast<uint8_t*>(entry) + kCommandAt, &request, sizeof(request));
  return true;
}

// The kernel gives three parts: the header, the opcode's structure, and the rest, which is in place already for a WRITE.
void RingChannel::Lay(Slot* slot) {
  const ReqHeader* header = HeaderOf(slot);
  const auto* in = reinterpret_cast<const fuse_in_header*>(header->in_out);
  const size_t payload = std::min<size_t>(header->ring_ent_in_out.payload_sz, payload_bytes_);
  const size_t rest = sizeof(fuse_in_header) + payload;
  const size_t structure = in->len > rest ? std::min<size_t>(in->len - rest, sizeof(header->op_in)) : 0;
  uint8_t* request = slot->memory.get() + kRequestAt;
  uint8_t* after = request + sizeof(fuse_in_header) + structure;
  if (after != PayloadOf(slot)) memmove(after, PayloadOf(slot), payload);
  memcpy(request, in, sizeof(fuse_in_header));
  memcpy(request + sizeof(fuse_in_header), header->op_in, structure);
}

int RingChannel::TakeCompletion() {
  while (const io_uring_cqe* completion = ring_.Completion()) {
    const uint64_t tag = completion->user_data;
    const int result = completion->res;
    ring_.Done();
    if (tag == kOther) {
      watching_other_ = false;
      other_ready_ = true;
      continue;
    }
    Slot* slot = &slots_[tag];
    // The connection has ended: reading /dev/fuse says so.
    if (result < 0) continue;
    Take(slot);
    Lay(slot);
    return static_cast<int>(tag);
  }
  return -EAGAIN;
}

int RingChannel::Next() {
  int slot = TakeCompletion();
  if (slot != -EAGAIN || !ring_.Overflowed()) return slot;
  ring_.Enter(0, -1);
  return TakeCompletion();
}

bool RingChannel::WaitForRequest(int other_fd, int timeout_milliseconds) {
  TakeSent();
  other_ready_ = false;
  if (!watching_other_) {
    WideEntry* entry = ring_.NewEntry();
    if (entry == nullptr) return false;
    entry->sqe.opcode = IORING_OP_POLL_ADD;
    entry->sqe.fd = other_fd;
    entry->sqe.poll32_events = POLLIN;
    entry->sqe.user_data = kOther;
    watching_other_ = true;
  }
  for (;;) {
    const io_uring_cqe* completion = ring_.Completion();
    if (completion == nullptr) {
      if (other_ready_ || ring_.Enter(1, timeout_milliseconds) != 0) return false;
      continue;
    }
    if (completion->user_data != kOther) return completion->res >= 0;
    ring_.Done();
    watching_other_ = false;
    other_ready_ = true;
  }
}

RingChannel::Slot* RingChannel::SlotOf(uint64_t unique) {
  auto it = by_unique_.find(unique);
  return it == by_unique_.end() ? nullptr : it->second;
}

bool RingChannel::Answer(const fuse_out_header& header, const void* payload, size_t length) {
  Slot* slot = SlotOf(header.unique);
  if (slot == nullptr) return false;
  length = std::min(length, payload_bytes_);
  if (length > 0) memcpy(PayloadOf(slot), payload, length);
  Send(slot, header.error, length);
  return true;
}

void RingChannel::Send(Slot* slot, int error, size_t payload_length) {
  const fuse_out_header out = {static_cast<uint32_t>(sizeof(fuse_out_header) + payload_length), error, slot->unique};
  memcpy(HeaderOf(slot)->in_out, &out, sizeof(out));
  HeaderOf(slot)->ring_ent_in_out.payload_sz = static_cast<uint32_t>(payload_length);
  uv_thread_t here = uv_thread_self();
  if (uv_thread_equal(&here, &thread_) != 0) {
    HandBack(slot);
    return;
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    sent_.push_back(slot);
    any_sent_.store(true);
  }
  uv_async_send(async_);
}

void RingChannel::TakeSent() {
  if (!any_sent_.load(std::memory_order_relaxed)) return;
  std::vector<Slot*> sent;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    sent.swap(sent_);
    any_sent_.store(false);
  }
  for (Slot* slot : sent) HandBack(slot);
}

void RingChannel::Flush() {
  TakeSent();
  if (ring_.AnyNew()) ring_.Enter(0, -1);
  // The kernel was short of something: again, after a turn of the event loop.
  if (ring_.AnyNew() || any_sent_.load()) uv_async_send(async_);
}

namespace {

RingChannel* RingArg(const Napi::CallbackInfo& info) {
  int fuse_fd;
  if (!FdArg(info, 0, &fuse_fd)) return nullptr;
  RingChannel* ring = StateOf(info.Env())->RingOf(fuse_fd);
  if (ring == nullptr) Refuse(info.Env(), "no ring for this connection");
  return ring;
}

// ringOpen(fuseFd, payloadBytes) -> a descriptor to wait for requests with, or -errno
Napi::Value RingOpen(const Napi::CallbackInfo& info) {
  int fuse_fd;
  double payload_bytes;
  if (!FdArg(info, 0, &fuse_fd) || !IntegerArg(info, 1, 8192, 32.0 * 1024 * 1024, &payload_bytes)) {
    return info.Env().Undefined();
  }
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(info.Env(), &loop);
  auto ring = std::make_unique<RingChannel>(fuse_fd, loop);
  int error = ring->Open(static_cast<size_t>(payload_bytes));
  if (error != 0) return Answer(info.Env(), error);
  int fd = ring->fd();
  StateOf(info.Env())->rings[fuse_fd] = std::move(ring);
  return Answer(info.Env(), fd);
}

// ringRegister(fuseFd) -> 0, or what RingChannel::Register says
Napi::Value RingRegister(const Napi::CallbackInfo& info) {
  RingChannel* ring = RingArg(info);
  return ring == nullptr ? info.Env().Undefined() : Answer(info.Env(), ring->Register());
}

// ringNext(fuseFd) -> the slot of a request; -EAGAIN = none is there, -EINTR = those that were there have been answered,
// others may wait
Napi::Value RingNext(const Napi::CallbackInfo& info) {
  RingChannel* ring = RingArg(info);
  if (ring == nullptr) return info.Env().Undefined();
  State* state = StateOf(info.Env());
  const int fuse_fd = info[0].As<Napi::Number>().Int32Value();
  for (int served = 0; served < kServedAtOnce; served++) {
    int slot = ring->Next();
    if (slot < 0) return Answer(info.Env(), slot);
    const uint8_t* request = ring->RequestIn(slot);
    const size_t length = reinterpret_cast<const fuse_in_header*>(request)->len;
    if (!ServedAtOnce(state, fuse_fd, ring->fd(), request, length)) return Answer(info.Env(), slot);
  }
  return Answer(info.Env(), -EINTR);
}

// ringBytes(fuseFd, slot) -> what requests in that slot are read from, and what is written over by their answers
Napi::Value RingBytes(const Napi::CallbackInfo& info) {
  RingChannel* ring = RingArg(info);
  double slot;
  if (ring == nullptr || !IntegerArg(info, 1, 0, static_cast<double>(ring->slot_count()) - 1, &slot)) {
    return info.Env().Undefined();
  }
  auto* memory = new std::shared_ptr<uint8_t>(ring->MemoryOf(static_cast<int>(slot)));
  const size_t length = ring->RequestBytes();
  auto buffer = Napi::ArrayBuffer::New(
      info.Env(), ring->RequestIn(static_cast<int>(slot)), length,
      [](Napi::Env, void*, std::shared_ptr<uint8_t>* held) { delete held; }, memory);
  return Napi::Uint8Array::New(info.Env(), length, buffer, 0);
}

// ringRelieve(fuseFd)
Napi::Value RingRelieve(const Napi::CallbackInfo& info) {
  RingChannel* ring = RingArg(info);
  if (ring != nullptr) ring->RelieveMemory();
  return info.Env().Undefined();
}

// ringClose(fuseFd): when nothing of it is under way on another thread any more
Napi::Value RingClose(const Napi::CallbackInfo& info) {
  int fuse_fd;
  if (FdArg(info, 0, &fuse_fd)) StateOf(info.Env())->rings.erase(fuse_fd);
  return info.Env().Undefined();
}

}  // namespace

void RegisterRingChannel(Napi::Env env, Napi::Object exports) {
  exports.Set("ringOpen", Napi::Function::New<RingOpen>(env, "ringOpen"));
  exports.Set("ringRegister", Napi::Function::New<RingRegister>(env, "ringRegister"));
  exports.Set("ringNext", Napi::Function::New<RingNext>(env, "ringNext"));
  exports.Set("ringBytes", Napi::Function::New<RingBytes>(env, "ringBytes"));
  exports.Set("ringRelieve", Napi::Function::New<RingRelieve>(env, "ringRelieve"));
  exports.Set("ringClose", Napi::Function::New<RingClose>(env, "ringClose"));
}

}  // namespace ext4d
