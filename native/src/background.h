// Work off the JavaScript thread. A job goes to one lane; lanes with one thread run their jobs in order.
//
// A finished job is kept until JavaScript takes its completion, either from the event loop or by waiting for it, so
// that each is delivered exactly once and a wait never loses one that is queued behind it.
#pragma once

#include <napi.h>
#include <uv.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

namespace ext4d {

enum class Lane {
  kJournal,  // commits and checkpoints, strictly one after the other
  kReads,    // of file data, and flushes
  kWrites,   // of file data: the image's inode lock lets one writer in, a second one would only spin on it
  kControl,  // calls that may wait for this very process to serve requests: unmount, cache invalidation
};

class Background {
 public:
  Background(Napi::Env env, uv_loop_t* loop);

  // Returns the job's number, never 0. `keep` stays referenced until the completion has been taken.
  uint32_t Submit(Lane lane, std::function<int64_t()> work, Napi::Value keep);
  // Blocks until the job is done and takes its completion. False: no such job.
  bool Wait(uint32_t id, int64_t* result);
  // Takes the oldest completion; false when there is none.
  bool Take(uint32_t* id, int64_t* result);
  // True if a completion can be taken.
  bool AnyDone();
  void OnWake(Napi::Function callback);

  // Lets queued jobs finish, then ends the threads.
  void Stop();
  void CloseHandle(std::function<void()> closed);

 private:
  struct Job {
    uint32_t id;
    std::function<int64_t()> work;
  };
  struct LaneState {
    size_t max_threads;
    std::deque<Job> queue;
    std::vector<std::thread> threads;
    size_t idle = 0;
    std::condition_variable wake;
  };
  struct Done {
    uint32_t id;
    int64_t result;
  };

  void Run(LaneState* lane);
  void Forget(uint32_t id);
  static void Woken(uv_async_t* handle);

  Napi::Env env_;
  uv_async_t* async_;
  std::function<void()> closed_;
  Napi::FunctionReference on_wake_;
  // Only on the JavaScript thread: jobs whose completion has not been taken.
  std::unordered_map<uint32_t, napi_ref> pending_;
  uint32_t last_id_ = 0;

  std::mutex mutex_;
  std::condition_variable finished_;
  bool stopping_ = false;
  LaneState lanes_[4];
  std::deque<Done> done_;
};

}  // namespace ext4d
