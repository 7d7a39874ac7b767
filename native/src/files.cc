// Images and block devices: open, size, lock, synchronous transfers. Offsets and lengths in bytes.
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "args.h"
#include "flush_guard.h"
#include "io.h"
#include "modules.h"

namespace ext4d {
namespace {

// openFile(path, readOnly) -> fd. A block device is claimed: EBUSY while it is mounted or otherwise in use.
Napi::Value OpenFile(const Napi::CallbackInfo& info) {
  std::string path;
  if (!StringArg(info, 0, &path)) return info.Env().Undefined();
  bool read_only = info[1].ToBoolean().Value();
  int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK;
  struct stat st;
  if (stat(path.c_str(), &st) != 0) return Answer(info.Env(), -errno);
  if (S_ISDIR(st.st_mode)) return Answer(info.Env(), -EISDIR);
  if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) return Answer(info.Env(), -ENOTBLK);
  if (S_ISBLK(st.st_mode)) flags |= O_EXCL;
  int fd = open(path.c_str(), flags);
  if (fd < 0) return Answer(info.Env(), -errno);
  // O_NONBLOCK kept a path swapped for a fifo from hanging the open; it means nothing for what is accepted.
  struct stat opened;
  if (fstat(fd, &opened) != 0 || opened.st_dev != st.st_dev || opened.st_ino != st.st_ino) {
    close(fd);
    return Answer(info.Env(), -EAGAIN);
  }
  // The kernel lets a write-protected disk be opened for writing, and refuses the mount and the writes.
  int write_protected = 0;
  if (!read_only && S_ISBLK(st.st_mode) && ioctl(fd, BLKROGET, &write_protected) == 0 && write_protected != 0) {
    close(fd);
    return Answer(info.Env(), -EROFS);
  }
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  return Answer(info.Env(), fd);
}

// isBlockDevice(fd) -> 0 or 1
Napi::Value IsBlockDevice(const Napi::CallbackInfo& info) {
  int fd;
  if (!FdArg(info, 0, &fd)) return info.Env().Undefined();
  struct stat st;
  if (fstat(fd, &st) != 0) return Answer(info.Env(), -errno);
  return Answer(info.Env(), S_ISBLK(st.st_mode) ? 1 : 0);
}

// sizeOf(fd) -> bytes
Napi::Value SizeOf(const Napi::CallbackInfo& info) {
  int fd;
  if (!FdArg(info, 0, &fd)) return info.Env().Undefined();
  struct stat st;
  if (fstat(fd, &st) != 0) return Answer(info.Env(), -errno);
  if (!S_ISBLK(st.st_mode)) return Answer(info.Env(), static_cast<double>(st.st_size));
  uint64_t size = 0;
  if (ioctl(fd, BLKGETSIZE64, &size) != 0) return Answer(info.Env(), -errno);
  return Answer(info.Env(), static_cast<double>(size));
}

// adviseRead(fd, offset, length): the kernel reads the range into its page cache, in its own time
Napi::Value AdviseRead(const Napi::CallbackInfo& info) {
  int fd;
  if (!FdArg(info, 0, &fd)) return info.Env().Undefined();
  posix_fadvise(fd, static_cast<off_t>(info[1].As<Napi::Number>().Int64Value()),
                static_cast<off_t>(info[2].As<Napi::Number>().Int64Value()), POSIX_FADV_WILLNEED);
  return info.Env().Undefined();
}

// releaseClaim(fd): the block device stays open under the same number but is no longer claimed for us alone
Napi::Value ReleaseClaim(const Napi::CallbackInfo& info) {
  int fd;
  if (!FdArg(info, 0, &fd)) return info.Env().Undefined();
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return Answer(info.Env(), -errno);
  char path[64];
  snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
  int shared = open(path, (flags & O_ACCMODE) | O_CLOEXEC);
  if (shared < 0) return Answer(info.Env(), -errno);
  int result = dup3(shared, fd, O_CLOEXEC) < 0 ? -errno : 0;
  close(shared);
  return Answer(info.Env(), result);
}

// lockFile(fd, exclusive): flock without waiting; -EAGAIN when someone else holds it
Napi::Value LockFile(const Napi::CallbackInfo& info) {
  int fd;
  if (!FdArg(info, 0, &fd)) return info.Env().Undefined();
  int how = (info[1].ToBoolean().Value() ? LOCK_EX : LOCK_SH) | LOCK_NB;
  return Answer(info.Env(), flock(fd, how) != 0 ? -errno : 0);
}

// pread(fd, bytes, offsetInBytes, length, position): the whole length or an error
Napi::Value Pread(const Napi::CallbackInfo& info) {
  int fd;
  Bytes bytes;
  double position;
  if (!FdArg(info, 0, &fd) || !SliceArg(info, 1, &bytes) || !IntegerArg(info, 4, 0, kMaxSafeInteger, &position)) {
    return info.Env().Undefined();
  }
  return Answer(info.Env(), ReadFully(fd, bytes.data, bytes.length, static_cast<off_t>(position)));
}

// pwrite(fd, bytes, offsetInBytes, length, position): the whole length or an error
Napi::Value Pwrite(const Napi::CallbackInfo& info) {
  int fd;
  Bytes bytes;
  double position;
  if (!FdArg(info, 0, &fd) || !SliceArg(info, 1, &bytes) || !IntegerArg(info, 4, 0, kMaxSafeInteger, &position)) {
    return info.Env().Undefined();
  }
  return Answer(info.Env(), WriteFully(fd, bytes.data, bytes.length, static_cast<off_t>(position)));
}

// fdatasync(fd)
Napi::Value Fdatasync(const Napi::CallbackInfo& info) {
  int fd;
  if (!FdArg(info, 0, &fd)) return info.Env().Undefined();
  std::shared_ptr<FlushGuard> guard = FlushGuardOf(fd);
  return Answer(info.Env(), guard->Flush(fd, guard->epoch()));
}

// discard(fd, position, length): a hole in a file, BLKDISCARD of a block device
Napi::Value Discard(const Napi::CallbackInfo& info) {
  int fd;
  double position;
  double length;
  if (!FdArg(info, 0, &fd) || !IntegerArg(info, 1, 0, kMaxSafeInteger, &position) ||
      !IntegerArg(info, 2, 1, kMaxSafeInteger, &length)) {
    return info.Env().Undefined();
  }
  struct stat st;
  if (fstat(fd, &st) != 0) return Answer(info.Env(), -errno);
  int result;
  if (S_ISBLK(st.st_mode)) {
    uint64_t range[2] = {static_cast<uint64_t>(position), static_cast<uint64_t>(length)};
    result = ioctl(fd, BLKDISCARD, range);
  } else {
    result = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(position),
                       static_cast<off_t>(length));
  }
  return Answer(info.Env(), result != 0 ? -errno : 0);
}

// control(fd, command): ioctl(2) without an argument
Napi::Value Control(const Napi::CallbackInfo& info) {
  int fd;
  double command;
  if (!FdArg(info, 0, &fd) || !IntegerArg(info, 1, 0, UINT32_MAX, &command)) return info.Env().Undefined();
  return Answer(info.Env(), ioctl(fd, static_cast<unsigned long>(command)) != 0 ? -errno : 0);
}

// closeFile(fd)
Napi::Value CloseFile(const Napi::CallbackInfo& info) {
  int fd;
  if (!FdArg(info, 0, &fd)) return info.Env().Undefined();
  ForgetFlushGuard(fd);
  return Answer(info.Env(), close(fd) != 0 ? -errno : 0);
}

}  // namespace

void RegisterFiles(Napi::Env env, Napi::Object exports) {
  exports.Set("openFile", Napi::Function::New<OpenFile>(env, "openFile"));
  exports.Set("isBlockDevice", Napi::Function::New<IsBlockDevice>(env, "isBlockDevice"));
  exports.Set("adviseRead", Napi::Function::New<AdviseRead>(env, "adviseRead"));
  exports.Set("sizeOf", Napi::Function::New<SizeOf>(env, "sizeOf"));
  exports.Set("releaseClaim", Napi::Function::New<ReleaseClaim>(env, "releaseClaim"));
  exports.Set("lockFile", Napi::Function::New<LockFile>(env, "lockFile"));
  exports.Set("pread", Napi::Function::New<Pread>(env, "pread"));
  exports.Set("pwrite", Napi::Function::New<Pwrite>(env, "pwrite"));
  exports.Set("fdatasync", Napi::Function::New<Fdatasync>(env, "fdatasync"));
  exports.Set("discard", Napi::Function::New<Discard>(env, "discard"));
  exports.Set("control", Napi::Function::New<Control>(env, "control"));
  exports.Set("closeFile", Napi::Function::New<CloseFile>(env, "closeFile"));
}

}  // namespace ext4d
