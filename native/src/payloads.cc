#include "payloads.h"

#include <errno.h>
#include <linux/fuse.h>
#include <unistd.h>

#include <utility>

#include "args.h"
#include "modules.h"
#include "state.h"

namespace ext4d {

namespace {

constexpr size_t kHead = sizeof(fuse_in_header) + sizeof(fuse_write_in);

// A write of dirty pages. The kernel passes these by reference; pages of a caller of direct I/O it would copy first.
bool IsLargeWriteback(const uint8_t* request, size_t length) {
  if (length < kHead + kLeastSpliced) return false;
  auto* header = reinterpret_cast<const fuse_in_header*>(request);
  auto* in = reinterpret_cast<const fuse_write_in*>(request + sizeof(fuse_in_header));
  return header->opcode == FUSE_WRITE && (in->write_flags & FUSE_WRITE_CACHE) != 0 && in->size == length - kHead;
}

}  // namespace

ssize_t Payloads::Read(int fuse_fd, uint8_t* slot, size_t slot_length) {
  if (!aside_.empty()) Release(slot);
  if (expected_) return ReadAside(fuse_fd, slot, slot_length);
  ssize_t got = read(fuse_fd, slot, slot_length);
  if (got < 0) return -errno;
  expected_ = IsLargeWriteback(slot, static_cast<size_t>(got));
  return got;
}

ssize_t Payloads::ReadAside(int fuse_fd, uint8_t* slot, size_t slot_length) {
  expected_ = false;
  std::shared_ptr<TransferPipe> pipe = TakePipe(slot_length);
  if (pipe == nullptr) return Read(fuse_fd, slot, slot_length);
  ssize_t got = pipe->PutMessage(fuse_fd, slot_length);
  if (got < 0) {
    empty_.push_back(std::move(pipe));
    expected_ = got == -EAGAIN || got == -EINTR || got == -ENOENT;
    return got;
  }
  const size_t length = static_cast<size_t>(got);
  const size_t head = length < kHead ? length : kHead;
  int error = pipe->Take(slot, head);
  if (error == 0 && IsLargeWriteback(slot, length)) {
    expected_ = true;
    aside_[slot] = std::move(pipe);
    return got;
  }
  if (error == 0) error = pipe->Take(slot + head, length - head);
  if (error != 0) pipe->Close();
  empty_.push_back(std::move(pipe));
  return error == 0 ? got : error;
}

std::shared_ptr<TransferPipe> Payloads::TakePipe(size_t bytes) {
  std::shared_ptr<TransferPipe> pipe;
  if (!empty_.empty()) {
    pipe = std::move(empty_.back());
    empty_.pop_back();
  } else if (may_have_more_) {
    pipe = std::make_shared<TransferPipe>();
  } else {
    return nullptr;
  }
  if (pipe->Open(bytes)) return pipe;
  may_have_more_ = false;
  return nullptr;
}

std::shared_ptr<TransferPipe> Payloads::Of(const uint8_t* slot) const {
  auto it = aside_.find(slot);
  return it == aside_.end() ? nullptr : it->second;
}

int Payloads::Fetch(uint8_t* slot) {
  std::shared_ptr<TransferPipe> pipe = Of(slot);
  int error = pipe == nullptr ? 0 : pipe->Take(slot + kHead, pipe->held());
  Release(slot);
  return error;
}

void Payloads::Forget(const uint8_t* slot) { aside_.erase(slot); }

void Payloads::Release(const uint8_t* slot) {
  auto it = aside_.find(slot);
  if (it == aside_.end()) return;
  if (it->second->held() > 0) it->second->Close();
  empty_.push_back(std::move(it->second));
  aside_.erase(it);
}

namespace {

// payloadAside(slot) -> true if the data of the write in `slot` is not in it, but where writeData and fetchPayload find it
Napi::Value PayloadAside(const Napi::CallbackInfo& info) {
  Bytes slot;
  if (!BytesArg(info, 0, &slot)) return info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), StateOf(info.Env())->payloads.Of(slot.data) != nullptr);
}

// fetchPayload(slot) -> 0 or -errno: the data of the write in `slot` is in it now
Napi::Value FetchPayload(const Napi::CallbackInfo& info) {
  Bytes slot;
  if (!BytesArg(info, 0, &slot)) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), StateOf(info.Env())->payloads.Fetch(slot.data));
}

// forgetPayload(slot): before `slot` is given up
Napi::Value ForgetPayload(const Napi::CallbackInfo& info) {
  Bytes slot;
  if (BytesArg(info, 0, &slot)) StateOf(info.Env())->payloads.Forget(slot.data);
  return info.Env().Undefined();
}

}  // namespace

void RegisterPayloads(Napi::Env env, Napi::Object exports) {
  exports.Set("payloadAside", Napi::Function::New<PayloadAside>(env, "payloadAside"));
  exports.Set("fetchPayload", Napi::Function::New<FetchPayload>(env, "fetchPayload"));
  exports.Set("forgetPayload", Napi::Function::New<ForgetPayload>(env, "forgetPayload"));
}

}  // namespace ext4d
