#include "args.h"

#include <cmath>

namespace ext4d {

Napi::Value Refuse(Napi::Env env, const char* message) {
  Napi::RangeError::New(env, message).ThrowAsJavaScriptException();
  return env.Undefined();
}

bool IntegerArg(const Napi::CallbackInfo& info, size_t index, double min, double max, double* out) {
  Napi::Value value = info[index];
  if (value.IsNumber()) {
    double number = value.As<Napi::Number>().DoubleValue();
    // NaN fails both comparisons.
    if (number >= min && number <= max && std::floor(number) == number) {
      *out = number;
      return true;
    }
  }
  Refuse(info.Env(), "a number is missing, not an integer, or out of range");
  return false;
}

bool FdArg(const Napi::CallbackInfo& info, size_t index, int* out) {
  double number;
  if (!IntegerArg(info, index, 0, 2147483647.0, &number)) return false;
  *out = static_cast<int>(number);
  return true;
}

bool BytesArg(const Napi::CallbackInfo& info, size_t index, Bytes* out) {
  Napi::Value value = info[index];
  bool is_typed_array = false;
  napi_is_typedarray(info.Env(), value, &is_typed_array);
  if (is_typed_array) {
    napi_typedarray_type type;
    void* data = nullptr;
    size_t length = 0;
    napi_status status =
        napi_get_typedarray_info(info.Env(), value, &type, &length, &data, nullptr, nullptr);
    if (status == napi_ok && type == napi_uint8_array && (data != nullptr || length == 0)) {
      *out = {static_cast<uint8_t*>(data), length};
      return true;
    }
  }
  Napi::TypeError::New(info.Env(), "expected a Uint8Array").ThrowAsJavaScriptException();
  return false;
}

bool SliceArg(const Napi::CallbackInfo& info, size_t bytes_index, Bytes* out) {
  Bytes whole;
  if (!BytesArg(info, bytes_index, &whole)) return false;
  double offset;
  double length;
  double size = static_cast<double>(whole.length);
  if (!IntegerArg(info, bytes_index + 1, 0, size, &offset)) return false;
  if (!IntegerArg(info, bytes_index + 2, 0, size - offset, &length)) return false;
  *out = {whole.data + static_cast<size_t>(offset), static_cast<size_t>(length)};
  return true;
}

bool NumbersArg(const Napi::CallbackInfo& info, size_t index, const double** out, size_t* count) {
  Napi::Value value = info[index];
  bool is_typed_array = false;
  napi_is_typedarray(info.Env(), value, &is_typed_array);
  if (is_typed_array) {
    napi_typedarray_type type;
    void* data = nullptr;
    size_t length = 0;
    napi_status status =
        napi_get_typedarray_info(info.Env(), value, &type, &length, &data, nullptr, nullptr);
    if (status == napi_ok && type == napi_float64_array && (data != nullptr || length == 0)) {
      *out = static_cast<const double*>(data);
      *count = length;
      return true;
    }
  }
  Napi::TypeError::New(info.Env(), "expected a Float64Array").ThrowAsJavaScriptException();
  return false;
}

bool StringArg(const Napi::CallbackInfo& info, size_t index, std::string* out) {
  Napi::Value value = info[index];
  if (value.IsString()) {
    *out = value.As<Napi::String>().Utf8Value();
    if (out->find('\0') == std::string::npos) return true;
  }
  Napi::TypeError::New(info.Env(), "expected a string without NUL").ThrowAsJavaScriptException();
  return false;
}

}  // namespace ext4d
