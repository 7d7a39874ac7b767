// Jobs for a block device: a list of writes and flushes, each done before the next begins. The order is what the
// journal's promises rest on, so nothing here reorders: writes are only joined when they are neighbours in the list
// and on the device.
#include <limits.h>

#include <memory>
#include <vector>

#include "args.h"
#include "flush_guard.h"
#include "io.h"
#include "modules.h"
#include "state.h"

namespace ext4d {
namespace {

struct Step {
  off_t offset;  // -1: flush
  uint8_t* data;
  size_t length;
};

int64_t RunSteps(int fd, FlushGuard* guard, uint64_t epoch, const std::vector<Step>& steps) {
  std::vector<struct iovec> vectors;
  for (size_t i = 0; i < steps.size();) {
    // What this job builds on may be lost: nothing that calls it durable may follow.
    if (guard->epoch() != epoch) return -EIO;
    if (steps[i].offset < 0) {
      int error = guard->Flush(fd, epoch);
      if (error != 0) return error;
      i++;
      continue;
    }
    off_t start = steps[i].offset;
    off_t end = start;
    vectors.clear();
    while (i < steps.size() && steps[i].offset == end && vectors.size() < IOV_MAX) {
      vectors.push_back({steps[i].data, steps[i].length});
      end += static_cast<off_t>(steps[i].length);
      i++;
    }
    int error = WriteVectorsFully(fd, vectors.data(), static_cast<int>(vectors.size()), start);
    if (error != 0) return error;
  }
  return 0;
}

// submitSteps(fd, offsets: Float64Array, buffers: (Uint8Array | null)[]) -> job number.
// offsets[i] is where buffers[i] goes, or -1 for a flush. The buffers must not change until the job is done.
Napi::Value SubmitSteps(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  int fd;
  const double* offsets;
  size_t count;
  if (!FdArg(info, 0, &fd) || !NumbersArg(info, 1, &offsets, &count)) return env.Undefined();
  if (!info[2].IsArray()) return Refuse(env, "expected an array of buffers");
  Napi::Array buffers = info[2].As<Napi::Array>();
  if (buffers.Length() < count) return Refuse(env, "fewer buffers than offsets");

  auto steps = std::make_shared<std::vector<Step>>();
  steps->reserve(count);
  bool flush_only = true;
  for (size_t i = 0; i < count; i++) {
    if (offsets[i] == -1) {
      steps->push_back({-1, nullptr, 0});
      continue;
    }
    flush_only = false;
    napi_value buffer = buffers.Get(static_cast<uint32_t>(i));
    bool is_typed_array = false;
    napi_typedarray_type type = napi_int8_array;
    void* data = nullptr;
    size_t length = 0;
    napi_is_typedarray(env, buffer, &is_typed_array);
    if (is_typed_array) napi_get_typedarray_info(env, buffer, &type, &length, &data, nullptr, nullptr);
    if (type != napi_uint8_array) return Refuse(env, "a write without a Uint8Array");
    if (!(offsets[i] >= 0 && offsets[i] + static_cast<double>(length) <= kMaxSafeInteger)) {
      return Refuse(env, "a write outside every device");
    }
    if (length > 0) steps->push_back({static_cast<off_t>(offsets[i]), static_cast<uint8_t*>(data), length});
  }
  // A flush alone is an fsync's: it need not queue behind a checkpoint.
  Lane lane = flush_only ? Lane::kReads : Lane::kJournal;
  std::shared_ptr<FlushGuard> guard = FlushGuardOf(fd);
  uint64_t epoch = guard->epoch();
  uint32_t id = StateOf(env)->background.Submit(
      lane, [fd, guard, epoch, steps]() { return RunSteps(fd, guard.get(), epoch, *steps); }, buffers);
  return Napi::Number::New(env, id);
}

// cancelJobs(fd): jobs submitted for it so far end with EIO at their next step
Napi::Value CancelJobs(const Napi::CallbackInfo& info) {
  int fd;
  if (!FdArg(info, 0, &fd)) return info.Env().Undefined();
  FlushGuardOf(fd)->Advance();
  return info.Env().Undefined();
}

}  // namespace

void RegisterJobs(Napi::Env env, Napi::Object exports) {
  exports.Set("cancelJobs", Napi::Function::New<CancelJobs>(env, "cancelJobs"));
  exports.Set("submitSteps", Napi::Function::New<SubmitSteps>(env, "submitSteps"));
}

}  // namespace ext4d
