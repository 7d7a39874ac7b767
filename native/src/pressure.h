// Pressure stall information: the kernel says when tasks wait for memory (Documentation/accounting/psi.rst).
#pragma once

#include <napi.h>
#include <uv.h>

#include <cstdint>
#include <vector>

namespace ext4d {

class Pressure {
 public:
  Pressure(Napi::Env env, uv_loop_t* loop) : env_(env), loop_(loop) {}

  // Calls back whenever `trigger` holds in the pressure file, but not when another call has just been made; the process is
  // not kept alive by it. Ends by itself when the file has gone, with its control group. 0 or -errno.
  int Watch(const char* path, const char* trigger, Napi::Function callback);
  void Stop();

 private:
  // A control group and the machine.
  static constexpr size_t kMostWatchers = 2;

  struct Watcher {
    uv_poll_t handle;
    Pressure* owner;
    int fd;
    Napi::FunctionReference callback;
  };

  static void Ready(uv_poll_t* handle, int status, int events);
  static void Close(Watcher* watcher);

  Napi::Env env_;
  uv_loop_t* loop_;
  std::vector<Watcher*> watchers_;
  uint64_t told_ = 0;  // when the last call ended, by uv_hrtime
};

}  // namespace ext4d
