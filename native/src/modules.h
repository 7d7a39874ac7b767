// What each source file adds to the addon's exports. src/native.ts is the typed description of all of it.
//
// Functions that make system calls return the result, or -errno; only a wrong argument throws.
#pragma once

#include <napi.h>

namespace ext4d {

void RegisterBackground(Napi::Env env, Napi::Object exports);
void RegisterChannel(Napi::Env env, Napi::Object exports);
void RegisterCrc32c(Napi::Env env, Napi::Object exports);
void RegisterDataPath(Napi::Env env, Napi::Object exports);
void RegisterFastPath(Napi::Env env, Napi::Object exports);
void RegisterFiles(Napi::Env env, Napi::Object exports);
void RegisterJobs(Napi::Env env, Napi::Object exports);
void RegisterMount(Napi::Env env, Napi::Object exports);
void RegisterPayloads(Napi::Env env, Napi::Object exports);
void RegisterPressure(Napi::Env env, Napi::Object exports);
void RegisterRingChannel(Napi::Env env, Napi::Object exports);
void RegisterSystem(Napi::Env env, Napi::Object exports);

// Calls into JavaScript from the event loop; an exception there is uncaught, as in any other callback.
double CallJs(Napi::Env env, const Napi::FunctionReference& callback);

}  // namespace ext4d
