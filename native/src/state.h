// What one environment (the process's main thread, or a worker) keeps.
#pragma once

#include <napi.h>
#include <uv.h>

#include "background.h"
#include "channel.h"
#include "company.h"

namespace ext4d {

struct State {
  State(Napi::Env env, uv_loop_t* loop) : background(env, loop), pollers(env, loop) {}

  Background background;
  Pollers pollers;
  Company company;
};

inline State* StateOf(Napi::Env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return static_cast<State*>(data);
}

}  // namespace ext4d
