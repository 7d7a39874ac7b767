#include "background.h"

#include <signal.h>

#include <utility>

#include "args.h"
#include "modules.h"
#include "state.h"

namespace ext4d {

Background::Background(Napi::Env env, uv_loop_t* loop) : env_(env), async_(new uv_async_t) {
  lanes_[static_cast<int>(Lane::kJournal)].max_threads = 1;
  lanes_[static_cast<int>(Lane::kReads)].max_threads = 2;
  lanes_[static_cast<int>(Lane::kWrites)].max_threads = 1;
  lanes_[static_cast<int>(Lane::kControl)].max_threads = 1;
  uv_async_init(loop, async_, Woken);
  async_->data = this;
  // An idle pool does not keep the process alive.
  uv_unref(reinterpret_cast<uv_handle_t*>(async_));
}

uint32_t Background::Submit(Lane lane_name, std::function<int64_t()> work, Napi::Value keep) {
  napi_ref reference = nullptr;
  if (!keep.IsEmpty()) napi_create_reference(env_, keep, 1, &reference);
  do {
    last_id_++;
  } while (last_id_ == 0 || pending_.count(last_id_) != 0);
  uint32_t id = last_id_;
  if (pending_.empty()) uv_ref(reinterpret_cast<uv_handle_t*>(async_));
  pending_.emplace(id, reference);

  LaneState& lane = lanes_[static_cast<int>(lane_name)];
  std::lock_guard<std::mutex> lock(mutex_);
  lane.queue.push_back({id, std::move(work)});
  if (lane.queue.size() > lane.idle && lane.threads.size() < lane.max_threads) {
    // Signals are for the JavaScript thread.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    lane.threads.emplace_back([this, &lane]() { Run(&lane); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  } else {
    lane.wake.notify_one();
  }
  return id;
}

void Background::Run(LaneState* lane) {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    lane->idle++;
    lane->wake.wait(lock, [&]() { return stopping_ || !lane->queue.empty(); });
    lane->idle--;
    if (lane->queue.empty()) return;
    Job job = std::move(lane->queue.front());
    lane->queue.pop_front();
    lock.unlock();
    int64_t result = job.work();
    job.work = nullptr;
    lock.lock();
    done_.push_back({job.id, result});
    finished_.notify_all();
    uv_async_send(async_);
  }
}

bool Background::Wait(uint32_t id, int64_t* result) {
  if (pending_.count(id) == 0) return false;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      auto it = done_.begin();
      while (it != done_.end() && it->id != id) ++it;
      if (it != done_.end()) {
        *result = it->result;
        done_.erase(it);
        break;
      }
      finished_.wait(lock);
    }
  }
  Forget(id);
  return true;
}

bool Background::Take(uint32_t* id, int64_t* result) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (done_.empty()) return false;
    *id = done_.front().id;
    *result = done_.front().result;
    done_.pop_front();
  }
  Forget(*id);
  return true;
}

bool Background::AnyDone() {
  std::lock_guard<std::mutex> lock(mutex_);
  return !done_.empty();
}

void Background::Forget(uint32_t id) {
  auto it = pending_.find(id);
  if (it == pending_.end()) return;
  if (it->second != nullptr) napi_delete_reference(env_, it->second);
  pending_.erase(it);
  if (pending_.empty()) uv_unref(reinterpret_cast<uv_handle_t*>(async_));
}

void Background::OnWake(Napi::Function callback) { on_wake_ = Napi::Persistent(callback); }

void Background::Woken(uv_async_t* handle) {
  auto* self = static_cast<Background*>(handle->data);
  if (self == nullptr || self->on_wake_.IsEmpty()) return;
  CallJs(self->env_, self->on_wake_);
}

void Background::Stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    for (LaneState& lane : lanes_) lane.wake.notify_all();
  }
  for (LaneState& lane : lanes_) {
    for (std::thread& thread : lane.threads) thread.join();
    lane.threads.clear();
  }
  for (auto& [id, reference] : pending_) {
    if (reference != nullptr) napi_delete_reference(env_, reference);
  }
  pending_.clear();
  on_wake_.Reset();
}

void Background::CloseHandle(std::function<void()> closed) {
  closed_ = std::move(closed);
  uv_close(reinterpret_cast<uv_handle_t*>(async_), [](uv_handle_t* handle) {
    auto* self = static_cast<Background*>(handle->data);
    delete reinterpret_cast<uv_async_t*>(handle);
    // Destroys *self.
    std::function<void()> closed = std::move(self->closed_);
    closed();
  });
}

namespace {

// onJobsDone(callback): called from the event loop when completions can be taken
Napi::Value OnJobsDone(const Napi::CallbackInfo& info) {
  if (!info[0].IsFunction()) return Refuse(info.Env(), "expected a function");
  StateOf(info.Env())->background.OnWake(info[0].As<Napi::Function>());
  return info.Env().Undefined();
}

// takeJob(result: Float64Array) -> job number, its result in result[0]; 0 = none left
Napi::Value TakeJob(const Napi::CallbackInfo& info) {
  const double* numbers;
  size_t count;
  if (!NumbersArg(info, 0, &numbers, &count)) return info.Env().Undefined();
  if (count < 1) return Refuse(info.Env(), "no room for the result");
  uint32_t id;
  int64_t result;
  if (!StateOf(info.Env())->background.Take(&id, &result)) return Napi::Number::New(info.Env(), 0);
  const_cast<double*>(numbers)[0] = static_cast<double>(result);
  return Napi::Number::New(info.Env(), id);
}

// waitJob(id) -> its result; blocks
Napi::Value WaitJob(const Napi::CallbackInfo& info) {
  double id;
  if (!IntegerArg(info, 0, 1, 4294967295.0, &id)) return info.Env().Undefined();
  int64_t result;
  if (!StateOf(info.Env())->background.Wait(static_cast<uint32_t>(id), &result)) {
    return Refuse(info.Env(), "no such job");
  }
  return Napi::Number::New(info.Env(), static_cast<double>(result));
}

}  // namespace

void RegisterBackground(Napi::Env env, Napi::Object exports) {
  exports.Set("onJobsDone", Napi::Function::New<OnJobsDone>(env, "onJobsDone"));
  exports.Set("takeJob", Napi::Function::New<TakeJob>(env, "takeJob"));
  exports.Set("waitJob", Napi::Function::New<WaitJob>(env, "waitJob"));
}

}  // namespace ext4d
