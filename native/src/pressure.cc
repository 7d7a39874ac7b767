#include "pressure.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

#include "args.h"
#include "modules.h"
#include "state.h"

namespace ext4d {

namespace {

constexpr uint64_t kLeastPauseNanoseconds = 1000000000;

// Whether an event is there cannot be asked: the event loop took it when it looked.
bool HasGone(int fd) {
  struct pollfd file = {fd, POLLPRI, 0};
  return poll(&file, 1, 0) > 0 && (file.revents & (POLLERR | POLLNVAL)) != 0;
}

}  // namespace

int Pressure::Watch(const char* path, const char* trigger, Napi::Function callback) {
  if (watchers_.size() == kMostWatchers) return -EBUSY;
  int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return -errno;
  // The NUL at its end belongs to it.
  if (write(fd, trigger, strlen(trigger) + 1) < 0) {
    int error = errno;
    close(fd);
    return -error;
  }
  auto* watcher = new Watcher{{}, this, fd, Napi::Persistent(callback)};
  int status = uv_poll_init(loop_, &watcher->handle, fd);
  if (status != 0) {
    close(fd);
    delete watcher;
    return status;
  }
  watcher->handle.data = watcher;
  watchers_.push_back(watcher);
  uv_unref(reinterpret_cast<uv_handle_t*>(&watcher->handle));
  return uv_poll_start(&watcher->handle, UV_PRIORITIZED, Ready);
}

void Pressure::Ready(uv_poll_t* handle, int status, int /*events*/) {
  auto* watcher = static_cast<Watcher*>(handle->data);
  Pressure* pressure = watcher->owner;
  // A file that has gone always looks as if there was an event, besides.
  if (status < 0 || HasGone(watcher->fd)) {
    auto& all = pressure->watchers_;
    all.erase(std::remove(all.begin(), all.end(), watcher), all.end());
    Close(watcher);
    return;
  }
  if (pressure->told_ != 0 && uv_hrtime() - pressure->told_ < kLeastPauseNanoseconds) return;
  CallJs(pressure->env_, watcher->callback);
  pressure->told_ = uv_hrtime();
}

void Pressure::Stop() {
  for (Watcher* watcher : std::exchange(watchers_, {})) Close(watcher);
}

void Pressure::Close(Watcher* watcher) {
  watcher->callback.Reset();
  uv_poll_stop(&watcher->handle);
  uv_close(reinterpret_cast<uv_handle_t*>(&watcher->handle), [](uv_handle_t* handle) {
    auto* closed = static_cast<Watcher*>(handle->data);
    close(closed->fd);
    delete closed;
  });
}

namespace {

// watchPressure(path, trigger, callback)
Napi::Value WatchPressure(const Napi::CallbackInfo& info) {
  std::string path, trigger;
  if (!StringArg(info, 0, &path) || !StringArg(info, 1, &trigger)) return info.Env().Undefined();
  if (!info[2].IsFunction()) return Refuse(info.Env(), "expected a function");
  Pressure& pressure = StateOf(info.Env())->pressure;
  return Napi::Number::New(info.Env(), pressure.Watch(path.c_str(), trigger.c_str(), info[2].As<Napi::Function>()));
}

}  // namespace

void RegisterPressure(Napi::Env env, Napi::Object exports) {
  exports.Set("watchPressure", Napi::Function::New<WatchPressure>(env, "watchPressure"));
}

}  // namespace ext4d
