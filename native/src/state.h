// What one environment (the process's main thread, or a worker) keeps.
#pragma once

#include <napi.h>
#include <uv.h>

#include <memory>
#include <unordered_map>

#include "background.h"
#include "channel.h"
#include "company.h"
#include "fast_path.h"
#include "payloads.h"
#include "pressure.h"
#include "ring_channel.h"

namespace ext4d {

struct State {
  State(Napi::Env env, uv_loop_t* loop) : background(env, loop), pollers(env, loop), pressure(env, loop) {}

  Background background;
  Pollers pollers;
  Company company;
  Pressure pressure;
  Payloads payloads;
  // By the connection they serve.
  std::unordered_map<int, std::unique_ptr<RingChannel>> rings;
  std::unordered_map<int, std::unique_ptr<FastPath>> fast_paths;

  FastPath* FastPathOf(int fuse_fd) {
    auto it = fast_paths.find(fuse_fd);
    return it == fast_paths.end() ? nullptr : it->second.get();
  }

  RingChannel* RingOf(int fuse_fd) const {
    auto it = rings.find(fuse_fd);
    return it == rings.end() ? nullptr : it->second.get();
  }
};

inline State* StateOf(Napi::Env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return static_cast<State*>(data);
}

}  // namespace ext4d
