// crc32c (Castagnoli, reflected), neither seeded nor finished by inversion: the seed is passed in, the state returned.
#include "modules.h"

#include <array>
#include <cstring>

#include "args.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace ext4d {
namespace {

using Crc32cFn = uint32_t (*)(uint32_t, const uint8_t*, size_t);

constexpr uint32_t kPolynomial = 0x82f63b78;

struct Tables {
  uint32_t t[8][256];
};

Tables MakeTables() {
  Tables tables;
  for (uint32_t n = 0; n < 256; n++) {
    uint32_t c = n;
    for (int k = 0; k < 8; k++) c = (c & 1) ? (c >> 1) ^ kPolynomial : c >> 1;
    tables.t[0][n] = c;
  }
  for (uint32_t n = 0; n < 256; n++) {
    for (int k = 1; k < 8; k++) {
      uint32_t previous = tables.t[k - 1][n];
      tables.t[k][n] = tables.t[0][previous & 0xff] ^ (previous >> 8);
    }
  }
  return tables;
}

uint32_t Crc32cTable(uint32_t crc, const uint8_t* data, size_t length) {
  static const Tables tables = MakeTables();
  const auto& t = tables.t;
  for (; length >= 8; data += 8, length -= 8) {
    uint32_t low = crc ^ (data[0] | data[1] << 8 | data[2] << 16 | static_cast<uint32_t>(data[3]) << 24);
    crc = t[7][low & 0xff] ^ t[6][(low >> 8) & 0xff] ^ t[5][(low >> 16) & 0xff] ^ t[4][low >> 24] ^ t[3][data[4]] ^
          t[2][data[5]] ^ t[1][data[6]] ^ t[0][data[7]];
  }
  for (; length > 0; data++, length--) crc = t[0][(crc ^ *data) & 0xff] ^ (crc >> 8);
  return crc;
}

// The instruction takes 3 cycles but a new one may start every cycle: three streams, joined by shifting the first two
// over the zeroes that stand for what follows them.
constexpr size_t kStream = 256;

struct Shift {
  uint32_t t[4][256];
};

// Tables that advance a crc over kStream zero bytes, byte by byte of the crc (crc is linear in its state).
Shift MakeShift() {
  Shift shift;
  uint8_t zeroes[kStream] = {};
  for (int byte = 0; byte < 4; byte++) {
    for (uint32_t n = 0; n < 256; n++) shift.t[byte][n] = Crc32cTable(n << (8 * byte), zeroes, kStream);
  }
  return shift;
}

[[maybe_unused]] uint32_t Advance(const Shift& shift, uint32_t crc) {
  return shift.t[0][crc & 0xff] ^ shift.t[1][(crc >> 8) & 0xff] ^ shift.t[2][(crc >> 16) & 0xff] ^
         shift.t[3][crc >> 24];
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t Crc32cHardware(uint32_t crc, const uint8_t* data, size_t length) {
  static const Shift shift = MakeShift();
  uint64_t a = crc;
  while (length >= 3 * kStream) {
    uint64_t b = 0;
    uint64_t c = 0;
    for (size_t i = 0; i < kStream; i += 8) {
      uint64_t wa, wb, wc;
      memcpy(&wa, data + i, 8);
      memcpy(&wb, data + kStream + i, 8);
      memcpy(&wc, data + 2 * kStream + i, 8);
      a = _mm_crc32_u64(a, wa);
      b = _mm_crc32_u64(b, wb);
      c = _mm_crc32_u64(c, wc);
    }
    a = Advance(shift, static_cast<uint32_t>(a)) ^ b;
    a = Advance(shift, static_cast<uint32_t>(a)) ^ c;
    data += 3 * kStream;
    length -= 3 * kStream;
  }
  for (; length >= 8; data += 8, length -= 8) {
    uint64_t word;
    memcpy(&word, data, 8);
    a = _mm_crc32_u64(a, word);
  }
  uint32_t rest = static_cast<uint32_t>(a);
  for (; length > 0; data++, length--) rest = _mm_crc32_u8(rest, *data);
  return rest;
}

bool HasHardware() { return __builtin_cpu_supports("sse4.2"); }
#elif defined(__aarch64__)
__attribute__((target("+crc"))) uint32_t Crc32cHardware(uint32_t crc, const uint8_t* data, size_t length) {
  static const Shift shift = MakeShift();
  while (length >= 3 * kStream) {
    uint32_t b = 0;
    uint32_t c = 0;
    for (size_t i = 0; i < kStream; i += 8) {
      uint64_t wa, wb, wc;
      memcpy(&wa, data + i, 8);
      memcpy(&wb, data + kStream + i, 8);
      memcpy(&wc, data + 2 * kStream + i, 8);
      crc = __crc32cd(crc, wa);
      b = __crc32cd(b, wb);
      c = __crc32cd(c, wc);
    }
    crc = Advance(shift, crc) ^ b;
    crc = Advance(shift, crc) ^ c;
    data += 3 * kStream;
    length -= 3 * kStream;
  }
  for (; length >= 8; data += 8, length -= 8) {
    uint64_t word;
    memcpy(&word, data, 8);
    crc = __crc32cd(crc, word);
  }
  for (; length > 0; data++, length--) crc = __crc32cb(crc, *data);
  return crc;
}

bool HasHardware() { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }
#else
uint32_t Crc32cHardware(uint32_t crc, const uint8_t* data, size_t length) { return Crc32cTable(crc, data, length); }
bool HasHardware() { return false; }
#endif

const Crc32cFn kCrc32c = HasHardware() ? Crc32cHardware : Crc32cTable;

// crc32c(seed, bytes) -> state
Napi::Value Crc32c(const Napi::CallbackInfo& info) {
  double seed;
  Bytes bytes;
  if (!IntegerArg(info, 0, 0, 4294967295.0, &seed) || !BytesArg(info, 1, &bytes)) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), kCrc32c(static_cast<uint32_t>(seed), bytes.data, bytes.length));
}

}  // namespace

void RegisterCrc32c(Napi::Env env, Napi::Object exports) {
  exports.Set("crc32c", Napi::Function::New<Crc32c>(env, "crc32c"));
}

}  // namespace ext4d
