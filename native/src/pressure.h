// Pressure stall information: the kernel says when tasks wait for memory (Documentation/accounting/psi.rst).
#pragma once

#include <napi.h>
#include <uv.h>

namespace ext4d {

class Pressure {
 public:
  Pressure(Napi::Env env, uv_loop_t* loop) : env_(env), loop_(loop) {}

  // Calls back whenever `trigger` holds in the pressure file; the process is not kept alive by it. 0 or -errno.
  int Watch(const char* path, const char* trigger, Napi::Function callback);
  void Stop();

 private:
  struct Watcher {
    uv_poll_t handle;
    Napi::Env env;
    int fd;
    Napi::FunctionReference callback;
  };

  static void Ready(uv_poll_t* handle, int status, int events);

  Napi::Env env_;
  uv_loop_t* loop_;
  Watcher* watcher_ = nullptr;
};

}  // namespace ext4d
