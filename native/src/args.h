// Checked access to the arguments of a call from JavaScript. Every getter returns false after it has thrown a
// TypeError or RangeError there; the caller then returns at once. A failed check is a bug in the caller, never
// something a user can cause.
#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace ext4d {

// 2^53 - 1: the largest byte offset that a JavaScript number states exactly.
constexpr double kMaxSafeInteger = 9007199254740991.0;

struct Bytes {
  uint8_t* data;
  size_t length;
};

bool IntegerArg(const Napi::CallbackInfo& info, size_t index, double min, double max, double* out);
bool FdArg(const Napi::CallbackInfo& info, size_t index, int* out);
bool BytesArg(const Napi::CallbackInfo& info, size_t index, Bytes* out);
// The part of argument `bytes_index` that arguments `bytes_index + 1` (offset) and `+ 2` (length) name.
bool SliceArg(const Napi::CallbackInfo& info, size_t bytes_index, Bytes* out);
bool NumbersArg(const Napi::CallbackInfo& info, size_t index, const double** out, size_t* count);
// A string without NUL bytes.
bool StringArg(const Napi::CallbackInfo& info, size_t index, std::string* out);

Napi::Value Refuse(Napi::Env env, const char* message);

// A result: a length, a descriptor, 0, or -errno.
inline Napi::Value Answer(Napi::Env env, double result) { return Napi::Number::New(env, result); }

}  // namespace ext4d
