// What a daemon needs of the system besides I/O.
#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "args.h"
#include "modules.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

namespace ext4d {
namespace {

// syslog(priority, line): 3 = error, 4 = warning, 5 = notice, 6 = info
Napi::Value Syslog(const Napi::CallbackInfo& info) {
  double priority;
  std::string line;
  if (!IntegerArg(info, 0, 0, 7, &priority) || !StringArg(info, 1, &line)) return info.Env().Undefined();
  static bool opened = false;
  if (!opened) {
    openlog("ext4d", LOG_PID | LOG_NDELAY, LOG_DAEMON);
    opened = true;
  }
  syslog(LOG_DAEMON | static_cast<int>(priority), "%s", line.c_str());
  return info.Env().Undefined();
}

// detachStdio(): descriptors 0 to 2 become /dev/null, so that nobody waits for the daemon to close them
Napi::Value DetachStdio(const Napi::CallbackInfo& info) {
  int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null_fd < 0) return Napi::Number::New(info.Env(), -errno);
  for (int fd = 0; fd <= 2; fd++) dup2(null_fd, fd);
  if (null_fd > 2) close(null_fd);
  return Napi::Number::New(info.Env(), 0);
}

// setsid(): leaves the terminal's session
Napi::Value Setsid(const Napi::CallbackInfo& info) {
  pid_t session = setsid();
  return Napi::Number::New(info.Env(), session < 0 ? -errno : session);
}

// pageBytes()
Napi::Value PageBytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(sysconf(_SC_PAGESIZE)));
}

// setIoFlusher(): this thread, and those it starts, write back other processes' memory: they are neither throttled with
// them nor made to wait for their own file system when memory is short. Needs CAP_SYS_RESOURCE.
Napi::Value SetIoFlusher(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0 ? -errno : 0);
}

// clockCoarse(into): wall-clock time as the kernel stamps inodes, [seconds, nanoseconds]
Napi::Value ClockCoarse(const Napi::CallbackInfo& info) {
  const double* numbers;
  size_t count;
  if (!NumbersArg(info, 0, &numbers, &count)) return info.Env().Undefined();
  if (count < 2) return Refuse(info.Env(), "no room for the time");
  auto* into = const_cast<double*>(numbers);
  struct timespec now;
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  into[0] = static_cast<double>(now.tv_sec);
  into[1] = static_cast<double>(now.tv_nsec);
  return info.Env().Undefined();
}

}  // namespace

void RegisterSystem(Napi::Env env, Napi::Object exports) {
  exports.Set("clockCoarse", Napi::Function::New<ClockCoarse>(env, "clockCoarse"));
  exports.Set("syslog", Napi::Function::New<Syslog>(env, "syslog"));
  exports.Set("detachStdio", Napi::Function::New<DetachStdio>(env, "detachStdio"));
  exports.Set("setIoFlusher", Napi::Function::New<SetIoFlusher>(env, "setIoFlusher"));
  exports.Set("pageBytes", Napi::Function::New<PageBytes>(env, "pageBytes"));
  exports.Set("setsid", Napi::Function::New<Setsid>(env, "setsid"));
}

}  // namespace ext4d
