// The addon's entry: everything hangs on one State per environment, torn down with it.
#include "state.h"

#include "modules.h"

namespace ext4d {

double CallJs(Napi::Env env, const Napi::FunctionReference& callback) {
  Napi::HandleScope scope(env);
  napi_value result = nullptr;
  napi_value receiver = nullptr;
  napi_get_global(env, &receiver);
  napi_status status = napi_make_callback(env, nullptr, receiver, callback.Value(), 0, nullptr, &result);
  if (status == napi_pending_exception) {
    napi_value error = nullptr;
    if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
    return 0;
  }
  double answer = 0;
  return status == napi_ok && napi_get_value_double(env, result, &answer) == napi_ok ? answer : 0;
}

namespace {

// Runs while the event loop still turns, so that handles can be closed properly. The environment frees State itself
// afterwards only when all of them are.
void TearDown(napi_async_cleanup_hook_handle hook, void* data) {
  auto* state = static_cast<State*>(data);
  state->background.Stop();
  state->pollers.StopAll();
  state->pressure.Stop();
  // Threads of the one answer over the other.
  state->fast_paths.clear();
  state->rings.clear();
  state->background.CloseHandle([state, hook]() {
    delete state;
    napi_remove_async_cleanup_hook(hook);
  });
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  auto* state = new State(env, loop);
  napi_set_instance_data(env, state, nullptr, nullptr);
  napi_add_async_cleanup_hook(env, TearDown, state, nullptr);
  RegisterBackground(env, exports);
  RegisterChannel(env, exports);
  RegisterCrc32c(env, exports);
  RegisterDataPath(env, exports);
  RegisterFastPath(env, exports);
  RegisterFiles(env, exports);
  RegisterJobs(env, exports);
  RegisterMount(env, exports);
  RegisterPayloads(env, exports);
  RegisterPressure(env, exports);
  RegisterRingChannel(env, exports);
  RegisterSystem(env, exports);
  return exports;
}

}  // namespace
}  // namespace ext4d

static Napi::Object InitExt4d(Napi::Env env, Napi::Object exports) { return ext4d::Init(env, exports); }

NODE_API_MODULE(ext4d, InitExt4d)
