// Mounting: mount(2) for root, the setuid helper fusermount3 for everyone else.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "args.h"
#include "modules.h"
#include "state.h"

extern char** environ;

namespace ext4d {
namespace {

// mount(source, target, type, flags, data)
Napi::Value Mount(const Napi::CallbackInfo& info) {
  std::string source, target, type, data;
  double flags;
  if (!StringArg(info, 0, &source) || !StringArg(info, 1, &target) || !StringArg(info, 2, &type) ||
      !IntegerArg(info, 3, 0, 4294967295.0, &flags) || !StringArg(info, 4, &data)) {
    return info.Env().Undefined();
  }
  int failed = mount(source.c_str(), target.c_str(), type.c_str(), static_cast<unsigned long>(flags), data.c_str());
  return Answer(info.Env(), failed != 0 ? -errno : 0);
}

// cloneMount(source, target, attributes): what is mounted on `source` shows on `target` as well. Unlike a bind mount it is
// no peer of it: what is mounted below one of them later does not show in the other, as with two mounts of one device.
// `attributes` are MOUNT_ATTR_*. -ENOSYS before Linux 5.12.
Napi::Value CloneMount(const Napi::CallbackInfo& info) {
  std::string source, target;
  double attributes;
  if (!StringArg(info, 0, &source) || !StringArg(info, 1, &target) ||
      !IntegerArg(info, 2, 0, 4294967295.0, &attributes)) {
    return info.Env().Undefined();
  }
  int tree = static_cast<int>(syscall(SYS_open_tree, AT_FDCWD, source.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (tree < 0) return Answer(info.Env(), -errno);
  struct mount_attr attr = {};
  attr.attr_set = static_cast<uint64_t>(attributes);
  attr.propagation = MS_PRIVATE;
  int result = 0;
  if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) != 0 ||
      syscall(SYS_move_mount, tree, "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    result = -errno;
  }
  close(tree);
  return Answer(info.Env(), result);
}

// unmount(target, flags) -> job number. Unmounting writes back what the kernel still holds, and this process serves
// those writes: so never on the JavaScript thread.
Napi::Value Unmount(const Napi::CallbackInfo& info) {
  std::string target;
  double flags;
  if (!StringArg(info, 0, &target) || !IntegerArg(info, 1, 0, 255, &flags)) return info.Env().Undefined();
  int how = static_cast<int>(flags);
  uint32_t id = StateOf(info.Env())->background.Submit(
      Lane::kControl, [target, how]() -> int64_t { return umount2(target.c_str(), how) != 0 ? -errno : 0; },
      Napi::Value());
  return Answer(info.Env(), id);
}

// The descriptor sent over the socket, or -errno; -EPIPE when the helper ended without sending one.
int ReceiveFd(int socket) {
  char byte;
  struct iovec vector = {&byte, 1};
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  struct msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  ssize_t got;
  do {
    got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return -errno;
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (got == 0 || header == nullptr || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
      header->cmsg_len < CMSG_LEN(sizeof(int))) {
    return -EPIPE;
  }
  int fd;
  memcpy(&fd, CMSG_DATA(header), sizeof(fd));
  return fd;
}

std::string ReadAll(int fd) {
  std::string text;
  char buffer[1024];
  for (;;) {
    ssize_t got = read(fd, buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    if (text.size() < 4096) text.append(buffer, static_cast<size_t>(got));
  }
}

// Runs the helper with one end of the socket; returns the received descriptor or -errno, and what it said.
int RunHelper(const std::string& helper, const std::string& options, const std::string& target, std::string* said) {
  int sockets[2];
  int pipes[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) return -errno;
  if (pipe2(pipes, O_CLOEXEC) != 0) {
    int error = -errno;
    close(sockets[0]);
    close(sockets[1]);
    return error;
  }
  // In the child the socket is descriptor 3 and the pipe is its stderr; everything else is close-on-exec.
  constexpr int kChildSocket = 3;
  std::string environment = "_FUSE_COMMFD=" + std::to_string(kChildSocket);
  std::vector<char*> env;
  for (char** entry = environ; *entry != nullptr; entry++) {
    if (strncmp(*entry, "_FUSE_COMMFD=", 13) != 0) env.push_back(*entry);
  }
  env.push_back(const_cast<char*>(environment.c_str()));
  env.push_back(nullptr);
  const char* argv[] = {helper.c_str(), "-o", options.c_str(), "--", target.c_str(), nullptr};

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pipes[1], 2);
  posix_spawn_file_actions_adddup2(&actions, sockets[0], kChildSocket);
  pid_t pid = -1;
  int spawned = posix_spawnp(&pid, helper.c_str(), &actions, nullptr, const_cast<char**>(argv), env.data());
  posix_spawn_file_actions_destroy(&actions);
  close(sockets[0]);
  close(pipes[1]);
  int result = -spawned;
  if (spawned == 0) {
    result = ReceiveFd(sockets[1]);
    *said = ReadAll(pipes[0]);
    while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  close(sockets[1]);
  close(pipes[0]);
  if (result >= 0) fcntl(result, F_SETFL, fcntl(result, F_GETFL) | O_NONBLOCK);
  return result;
}

// mountWithHelper(helper, options, target) -> [fd or -errno, what the helper said]
Napi::Value MountWithHelper(const Napi::CallbackInfo& info) {
  std::string helper, options, target;
  if (!StringArg(info, 0, &helper) || !StringArg(info, 1, &options) || !StringArg(info, 2, &target)) {
    return info.Env().Undefined();
  }
  std::string said;
  int result = RunHelper(helper, options, target, &said);
  Napi::Array answer = Napi::Array::New(info.Env(), 2);
  answer.Set(0u, Napi::Number::New(info.Env(), result));
  answer.Set(1u, Napi::String::New(info.Env(), said));
  return answer;
}

}  // namespace

void RegisterMount(Napi::Env env, Napi::Object exports) {
  exports.Set("mount", Napi::Function::New<Mount>(env, "mount"));
  exports.Set("cloneMount", Napi::Function::New<CloneMount>(env, "cloneMount"));
  exports.Set("unmount", Napi::Function::New<Unmount>(env, "unmount"));
  exports.Set("mountWithHelper", Napi::Function::New<MountWithHelper>(env, "mountWithHelper"));
}

}  // namespace ext4d
