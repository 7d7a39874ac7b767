#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "args.h"
#include "modules.h"
#include "state.h"

namespace ext4d {

int Pollers::Start(int fd, Napi::Function callback) {
  if (pollers_.count(fd) != 0) return -EEXIST;
  auto* poller = new Poller{{}, env_, Napi::Persistent(callback)};
  int status = uv_poll_init(loop_, &poller->handle, fd);
  if (status != 0) {
    delete poller;
    return status;
  }
  poller->handle.data = poller;
  pollers_.emplace(fd, poller);
  return uv_poll_start(&poller->handle, UV_READABLE, Ready);
}

int Pollers::Pause(int fd, bool paused) {
  auto it = pollers_.find(fd);
  if (it == pollers_.end()) return -EBADF;
  uv_poll_t* handle = &it->second->handle;
  return paused ? uv_poll_stop(handle) : uv_poll_start(handle, UV_READABLE, Ready);
}

void Pollers::Stop(int fd) {
  auto it = pollers_.find(fd);
  if (it == pollers_.end()) return;
  Poller* poller = it->second;
  pollers_.erase(it);
  poller->callback.Reset();
  uv_poll_stop(&poller->handle);
  uv_close(reinterpret_cast<uv_handle_t*>(&poller->handle),
           [](uv_handle_t* handle) { delete static_cast<Poller*>(handle->data); });
}

void Pollers::StopAll() {
  while (!pollers_.empty()) Stop(pollers_.begin()->first);
}

// A connection that has ended shows as an error here; the read that follows learns ENODEV.
void Pollers::Ready(uv_poll_t* handle, int status, int events) {
  auto* poller = static_cast<Poller*>(handle->data);
  if (!poller->callback.IsEmpty()) CallJs(poller->env, poller->callback);
}

namespace {

// From one request to the next in a busy stream, with the time that the answer takes.
const int64_t kCompanyLastsMicroseconds = 300;
const int kLongestWaitMilliseconds = 50;

Napi::Value Answer(Napi::Env env, double result) { return Napi::Number::New(env, result); }

// openFuse() -> fd of a new, unmounted connection
Napi::Value OpenFuse(const Napi::CallbackInfo& info) {
  int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
  return Answer(info.Env(), fd < 0 ? -errno : fd);
}

// pollStart(fd, callback): calls back whenever `fd` can be read, or has failed
Napi::Value PollStart(const Napi::CallbackInfo& info) {
  int fd;
  if (!FdArg(info, 0, &fd)) return info.Env().Undefined();
  if (!info[1].IsFunction()) return Refuse(info.Env(), "expected a function");
  return Answer(info.Env(), StateOf(info.Env())->pollers.Start(fd, info[1].As<Napi::Function>()));
}

// pollPause(fd, paused)
Napi::Value PollPause(const Napi::CallbackInfo& info) {
  int fd;
  if (!FdArg(info, 0, &fd)) return info.Env().Undefined();
  return Answer(info.Env(), StateOf(info.Env())->pollers.Pause(fd, info[1].ToBoolean().Value()));
}

// pollStop(fd): before the fd is closed
Napi::Value PollStop(const Napi::CallbackInfo& info) {
  int fd;
  if (!FdArg(info, 0, &fd)) return info.Env().Undefined();
  StateOf(info.Env())->pollers.Stop(fd);
  return info.Env().Undefined();
}

// Waits until `fd` can be read; false if the event loop is wanted for something else first.
bool WaitForRequest(int fd, uv_loop_t* loop) {
  int timeout = uv_backend_timeout(loop);
  if (timeout == 0) return false;
  // A timer close by costs more than all the rest: it would have to be set in hardware.
  if (timeout < 0 || timeout > kLongestWaitMilliseconds) timeout = kLongestWaitMilliseconds;
  struct pollfd events[2] = {{fd, POLLIN, 0}, {uv_backend_fd(loop), POLLIN, 0}};
  return poll(events, 2, timeout) > 0 && events[0].revents != 0;
}

// fuseRead(fd, slot, patience) -> length of the request now in `slot`, 0 = none came in time.
// Without patience it returns at once. With patience, and where company helps, it waits as long as the event loop has
// nothing else to do. Otherwise it looks again and again for `patience` microseconds: that saves the wake-up of an idle
// processor, which costs more than most requests; the processor is given to anyone else who wants it meanwhile.
Napi::Value FuseRead(const Napi::CallbackInfo& info) {
  int fd;
  Bytes slot;
  double patience;
  if (!FdArg(info, 0, &fd) || !BytesArg(info, 1, &slot) || !IntegerArg(info, 2, 0, 10000, &patience)) {
    return info.Env().Undefined();
  }
  State* state = StateOf(info.Env());
  bool in_company = patience > 0 && state->company.Useful();
  bool waited = false;
  int64_t deadline = 0;
  for (;;) {
    ssize_t got = read(fd, slot.data, slot.length);
    if (got >= 0) {
      if (patience > 0 && state->company.WantsToKnowQueue()) {
        struct pollfd next = {fd, POLLIN, 0};
        state->company.NoteQueue(poll(&next, 1, 0) > 0);
      }
      if (in_company) {
        state->company.Until(MonotonicMicroseconds() + kCompanyLastsMicroseconds);
        state->company.Meet(reinterpret_cast<const fuse_in_header*>(slot.data)->pid);
      }
      return Answer(info.Env(), static_cast<double>(got));
    }
    // ENOENT: the request was interrupted before it could be read.
    if (errno == EINTR || errno == ENOENT) continue;
    if (errno != EAGAIN) return Answer(info.Env(), -errno);
    if (patience == 0 || waited) return Answer(info.Env(), 0);
    if (in_company) {
      if (!WaitForRequest(fd, state->pollers.loop())) return Answer(info.Env(), 0);
      waited = true;
      continue;
    }
    int64_t now = MonotonicMicroseconds();
    if (deadline == 0) deadline = now + static_cast<int64_t>(patience);
    if (now >= deadline) return Answer(info.Env(), 0);
    sched_yield();
  }
}

// fuseWrite(fd, reply, offset, length)
Napi::Value FuseWrite(const Napi::CallbackInfo& info) {
  int fd;
  Bytes reply;
  if (!FdArg(info, 0, &fd) || !SliceArg(info, 1, &reply)) return info.Env().Undefined();
  ssize_t put = write(fd, reply.data, reply.length);
  return Answer(info.Env(), put < 0 ? -errno : 0);
}

// fuseWritev(fd, header, offset, length, payload, offset, length)
Napi::Value FuseWritev(const Napi::CallbackInfo& info) {
  int fd;
  Bytes header, payload;
  if (!FdArg(info, 0, &fd) || !SliceArg(info, 1, &header) || !SliceArg(info, 4, &payload)) {
    return info.Env().Undefined();
  }
  struct iovec vectors[2] = {{header.data, header.length}, {payload.data, payload.length}};
  ssize_t put = writev(fd, vectors, payload.length > 0 ? 2 : 1);
  return Answer(info.Env(), put < 0 ? -errno : 0);
}

}  // namespace

void RegisterChannel(Napi::Env env, Napi::Object exports) {
  exports.Set("openFuse", Napi::Function::New<OpenFuse>(env, "openFuse"));
  exports.Set("pollStart", Napi::Function::New<PollStart>(env, "pollStart"));
  exports.Set("pollPause", Napi::Function::New<PollPause>(env, "pollPause"));
  exports.Set("pollStop", Napi::Function::New<PollStop>(env, "pollStop"));
  exports.Set("fuseRead", Napi::Function::New<FuseRead>(env, "fuseRead"));
  exports.Set("fuseWrite", Napi::Function::New<FuseWrite>(env, "fuseWrite"));
  exports.Set("fuseWritev", Napi::Function::New<FuseWritev>(env, "fuseWritev"));
}

}  // namespace ext4d
