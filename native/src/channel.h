// Waiting for requests on /dev/fuse with the event loop.
#pragma once

#include <napi.h>
#include <uv.h>

#include <cstddef>
#include <cstdint>
#include <unordered_map>

namespace ext4d {

struct State;

// Requests answered without JavaScript before it looks at the time again.
constexpr int kServedAtOnce = 16;

// A request that has just come, told by `waited_fd`: its caller is met, and it is answered here if it can be, which is true then.
bool ServedAtOnce(State* state, int fuse_fd, int waited_fd, const uint8_t* request, size_t length);

class Pollers {
 public:
  Pollers(Napi::Env env, uv_loop_t* loop) : env_(env), loop_(loop) {}

  // 0 or -errno.
  int Start(int fd, Napi::Function callback, int aside);
  int Pause(int fd, bool paused);
  void Stop(int fd);
  void StopAll();

 private:
  struct Poller {
    uv_poll_t handle;
    Napi::Env env;
    Napi::FunctionReference callback;
    // -1, or the connection whose requests come over the ring that is waited for.
    int aside;
  };

  // Whether it is looked at.
  bool IsActive(int fd);
  // Calls back once if it can be read now.
  void ServeNow(int fd);
  bool WaitForMore(Poller* poller, int fd, int64_t patience_microseconds);
  static void Ready(uv_poll_t* handle, int status, int events);

  Napi::Env env_;
  uv_loop_t* loop_;
  std::unordered_map<int, Poller*> pollers_;
};

}  // namespace ext4d
