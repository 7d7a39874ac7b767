#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "args.h"
#include "modules.h"
#include "state.h"

namespace ext4d {

namespace {

const int kLongestWaitMilliseconds = 50;
// Calls before the event loop looks after everything else.
const int kTurns = 64;
}  // namespace

bool ServedAtOnce(State* state, int fuse_fd, int waited_fd, const uint8_t* request, size_t length) {
  Company& company = state->company;
  if (company.Expected()) company.Meet(waited_fd, *reinterpret_cast<const fuse_in_header*>(request));
  FastPath* fast_path = state->FastPathOf(fuse_fd);
  return fast_path != nullptr && fast_path->Serve(request, length);
}

int Pollers::Start(int fd, Napi::Function callback, int aside) {
  if (pollers_.count(fd) != 0) return -EEXIST;
  auto* poller = new Poller{{}, env_, Napi::Persistent(callback), aside};
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

bool Pollers::IsActive(int fd) {
  auto it = pollers_.find(fd);
  return it != pollers_.end() && uv_is_active(reinterpret_cast<uv_handle_t*>(&it->second->handle));
}

void Pollers::ServeNow(int fd) {
  struct pollfd event = {fd, POLLIN, 0};
  auto it = pollers_.find(fd);
  if (it != pollers_.end() && poll(&event, 1, 0) > 0) CallJs(env_, it->second->callback);
}

// Waits until `fd` can be read; false if that takes too long, or if the event loop is wanted for something else first.
bool Pollers::WaitForMore(Poller* poller, int fd, int64_t patience_microseconds) {
  State* state = StateOf(poller->env);
  RingChannel* ring = poller->aside < 0 ? nullptr : state->RingOf(poller->aside);
  // Answers given over other rings: whoever gets them may be the one to ask next.
  for (auto& [fuse_fd, each] : state->rings) {
    if (each.get() != ring) each->Flush();
  }
  uv_update_time(loop_);
  int timeout = uv_backend_timeout(loop_);
  if (timeout == 0 || state->background.AnyDone()) return false;
  struct pollfd events[2] = {{fd, POLLIN, 0}, {uv_backend_fd(loop_), POLLIN, 0}};
  if (state->company.Useful()) {
    // A timer close by costs more than all the rest: it would have to be set in hardware.
    if (timeout < 0 || timeout > kLongestWaitMilliseconds) timeout = kLongestWaitMilliseconds;
    if (ring != nullptr) return ring->WaitForRequest(events[1].fd, timeout);
    return poll(events, 2, timeout) > 0 && events[0].revents != 0;
  }
  if (ring != nullptr) ring->Flush();
  // Looking again instead of sleeping saves the wake-up of an idle processor, which costs more than most requests; the
  // processor is given to anyone else who wants it meanwhile.
  int64_t deadline = MonotonicMicroseconds() + patience_microseconds;
  do {
    int ready = poll(events, 2, 0);
    if (ready > 0) return events[0].revents != 0;
    sched_yield();
  } while (MonotonicMicroseconds() < deadline);
  return false;
}

// A connection that has ended shows as an error here; the read that follows learns ENODEV. Between two calls everything
// that JavaScript had put off runs: answers among it, that a caller waits for before it asks again.
void Pollers::Ready(uv_poll_t* handle, int status, int events) {
  auto* poller = static_cast<Poller*>(handle->data);
  State* state = StateOf(poller->env);
  uv_os_fd_t fd = -1;
  uv_fileno(reinterpret_cast<uv_handle_t*>(handle), &fd);
  // What comes there is in no hurry.
  const int aside = poller->aside >= 0 && state->pollers.IsActive(poller->aside) ? poller->aside : -1;
  if (aside >= 0) state->pollers.Pause(aside, true);
  for (int turn = 0; turn < kTurns; turn++) {
    if (poller->callback.IsEmpty()) break;
    double patience = CallJs(poller->env, poller->callback);
    state->company.Expect(patience > 0);
    // Stopped or paused meanwhile.
    if (!(patience > 0) || !uv_is_active(reinterpret_cast<uv_handle_t*>(handle))) break;
    if (!state->pollers.WaitForMore(poller, fd, static_cast<int64_t>(patience))) break;
  }
  if (aside < 0) return;
  state->pollers.Pause(aside, false);
  // Its turn: where the ring is never quiet the event loop would always find that first.
  state->pollers.ServeNow(aside);
}

namespace {

// openFuse() -> fd of a new, unmounted connection
Napi::Value OpenFuse(const Napi::CallbackInfo& info) {
  int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
  return Answer(info.Env(), fd < 0 ? -errno : fd);
}

// pollStart(fd, callback, aside): calls back whenever `fd` can be read, or has failed. The callback returns the microseconds for
// which more is worth waiting for, 0 if it is not. If `fd` is that of a ring, `aside` is its connection, which is not
// looked at while requests come over the ring; otherwise -1.
Napi::Value PollStart(const Napi::CallbackInfo& info) {
  int fd;
  if (!FdArg(info, 0, &fd)) return info.Env().Undefined();
  if (!info[1].IsFunction()) return Refuse(info.Env(), "expected a function");
  double aside;
  if (!IntegerArg(info, 2, -1, 2147483647.0, &aside)) return info.Env().Undefined();
  Pollers& pollers = StateOf(info.Env())->pollers;
  return Answer(info.Env(), pollers.Start(fd, info[1].As<Napi::Function>(), static_cast<int>(aside)));
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

// fuseRead(fd, slot) -> length of the request now in `slot`, except for the data of some writes (payloadAside); 0 = none is
// there, -EINTR = those that were there have been answered, others may wait
Napi::Value FuseRead(const Napi::CallbackInfo& info) {
  int fd;
  Bytes slot;
  if (!FdArg(info, 0, &fd) || !BytesArg(info, 1, &slot)) return info.Env().Undefined();
  State* state = StateOf(info.Env());
  for (int served = 0; served < kServedAtOnce;) {
    ssize_t got = state->payloads.Read(fd, slot.data, slot.length);
    // ENOENT: the request was interrupted before it could be read.
    if (got == -EINTR || got == -ENOENT) continue;
    if (got < 0) return Answer(info.Env(), got == -EAGAIN ? 0 : static_cast<double>(got));
    if (!ServedAtOnce(state, fd, fd, slot.data, static_cast<size_t>(got))) {
      return Answer(info.Env(), static_cast<double>(got));
    }
    served++;
  }
  return Answer(info.Env(), -EINTR);
}

// True if the answer goes back over a ring, as its request came.
bool AnsweredOverRing(Napi::Env env, int fd, const Bytes& head, const Bytes& rest) {
  RingChannel* ring = StateOf(env)->RingOf(fd);
  fuse_out_header header;
  if (ring == nullptr || head.length < sizeof(header)) return false;
  memcpy(&header, head.data, sizeof(header));
  if (rest.length > 0) return ring->Answer(header, rest.data, rest.length);
  return ring->Answer(header, head.data + sizeof(header), head.length - sizeof(header));
}

// fuseWrite(fd, reply, offset, length)
Napi::Value FuseWrite(const Napi::CallbackInfo& info) {
  int fd;
  Bytes reply;
  if (!FdArg(info, 0, &fd) || !SliceArg(info, 1, &reply)) return info.Env().Undefined();
  if (AnsweredOverRing(info.Env(), fd, reply, {nullptr, 0})) return Answer(info.Env(), 0);
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
  if (AnsweredOverRing(info.Env(), fd, header, payload)) return Answer(info.Env(), 0);
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
