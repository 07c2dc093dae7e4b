// Kernels that are broken in one named way, and correct ones in other orders: what the conformance
// suites must tell apart.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "kernels/conformance/suite.hpp"

namespace halfulp_strength {

using halfulp::conformance::Element;

struct Subject {
  const char* suite;
  const char* variant;
  const char* name;
  const char* what;
  bool correct;
  int (*run)(void* state, const halfulp_call* call);
  const char* promise = "bound";
};
using Subjects = std::vector<Subject>;

void add_sums(Subjects& all);
void add_products(Subjects& all);
void add_softmax(Subjects& all);
void add_norms(Subjects& all);
void add_pointwise(Subjects& all);
void add_attention(Subjects& all);
void add_integers(Subjects& all);
void add_scaled(Subjects& all);
void add_cross_entropy(Subjects& all);
void add_attention_gradients(Subjects& all);
void add_attention_parts(Subjects& all);
void add_codes(Subjects& all);

// A tensor of a call as numbers. Writing rounds to nearest even in integer arithmetic of its own:
// none of halfulp's code decides what a subject computes.
class View {
 public:
  View() = default;
  View(const halfulp_dltensor* t)  // NOLINT(google-explicit-constructor)
      : tensor_(t),
        code_(t->dtype.code),
        bits_(t->dtype.bits),
        data_(static_cast<char*>(t->data) + t->byte_offset) {}

  std::int64_t extent(int i) const { return tensor_->shape[i]; }
  int rank() const { return tensor_->ndim; }
  std::int64_t count() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank(); ++i) n *= extent(i);
    return n;
  }

  float operator[](std::int64_t i) const {
    if (bits_ == 32) {
      float x = 0;
      std::memcpy(&x, data_ + 4 * i, 4);
      return x;
    }
    if (bits_ <= 8) return from_byte(code_, byte(i));
    std::uint16_t half = 0;
    std::memcpy(&half, data_ + 2 * i, 2);
    return code_ == 4 ? std::bit_cast<float>(static_cast<std::uint32_t>(half) << 16)
                      : from_half(half);
  }

  void set(std::int64_t i, float x) const {
    if (bits_ == 32) {
      std::memcpy(data_ + 4 * i, &x, 4);
    } else {
      put(i, code_ == 4 ? to_bfloat16(x) : to_half(x));
    }
  }
  void set_truncated(std::int64_t i, float x) const {  // bfloat16 by dropping bits
    put(i, static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16));
  }
  void put(std::int64_t i, std::uint16_t half) const { std::memcpy(data_ + 2 * i, &half, 2); }
  std::uint8_t byte(std::int64_t i) const {
    std::uint8_t b = 0;
    std::memcpy(&b, data_ + i, 1);
    return b;
  }
  void put_byte(std::int64_t i, std::uint8_t b) const { std::memcpy(data_ + i, &b, 1); }
  int type() const { return code_; }
  bool is_16_bits() const { return bits_ == 16; }
  bool is_half() const { return bits_ == 16 && code_ == 2; }

  // A code of one byte by DLPack's number of its type, from the definition of that type: 0 int8,
  // 10 E4M3FN, 12 E5M2, 14 E8M0, 17 E2M1.
  static float from_byte(int type, std::uint8_t b) {
    if (type == 0) return static_cast<float>(static_cast<std::int8_t>(b));
    if (type == 14) {
      return b == 255 ? std::numeric_limits<float>::quiet_NaN() : std::ldexp(1.0F, b - 127);
    }
    if (type == 12) return from_half(static_cast<std::uint16_t>(b << 8));
    const int fraction_bits = type == 10 ? 3 : 1;
    const int exponent_bits = type == 10 ? 4 : 2;
    const int bias = type == 10 ? 7 : 1;
    const int magnitude = b & ((1 << (fraction_bits + exponent_bits)) - 1);
    if (type == 10 && magnitude == 127) return std::numeric_limits<float>::quiet_NaN();
    const int exponent = magnitude >> fraction_bits;
    const int fraction = magnitude & ((1 << fraction_bits) - 1);
    const int significand = exponent == 0 ? fraction : (1 << fraction_bits) + fraction;
    const float x = std::ldexp(static_cast<float>(significand),
                               (exponent == 0 ? 1 : exponent) - bias - fraction_bits);
    return (b >> (fraction_bits + exponent_bits) & 1) != 0 ? -x : x;
  }
  static std::uint16_t to_bfloat16(float x) {
    if (std::isnan(x)) return 0x7fc0;
    const auto bits = std::bit_cast<std::uint32_t>(x);
    return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
  static float from_half(std::uint16_t h) {
    const float sign = (h & 0x8000) != 0 ? -1.0F : 1.0F;
    const int exponent = (h >> 10) & 31;
    const int fraction = h & 1023;
    if (exponent == 31) {
      return fraction != 0 ? std::numeric_limits<float>::quiet_NaN()
                           : sign * std::numeric_limits<float>::infinity();
    }
    return sign * (exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                 : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25));
  }
  static std::uint16_t to_half(float x) {
    if (std::isnan(x)) return 0x7e00;
    const auto sign = static_cast<std::uint16_t>(std::signbit(x) ? 0x8000 : 0);
    const float magnitude = std::fabs(x);
    if (magnitude >= 65520.0F) return sign | 0x7c00;
    const int exponent = magnitude < 0x1p-14F ? -14 : std::ilogb(magnitude);
    // Nearest even in quanta; 1024 quanta carry into the exponent by themselves.
    const float quanta = std::nearbyint(std::ldexp(magnitude, 10 - exponent));
    const int code = magnitude < 0x1p-14F ? static_cast<int>(quanta)
                                          : ((exponent + 14) << 10) + static_cast<int>(quanta);
    return static_cast<std::uint16_t>(sign | code);
  }

 private:
  const halfulp_dltensor* tensor_ = nullptr;
  int code_ = 2, bits_ = 32;
  char* data_ = nullptr;
};

inline View in(const halfulp_call* call, const char* name) {
  return halfulp::conformance::find_input(*call, name);
}
inline View out(const halfulp_call* call, const char* name) {
  return halfulp::conformance::find_output(*call, name);
}
inline float as_bfloat16(float x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(View::to_bfloat16(x)) << 16);
}
inline float flushed(float x) {
  return std::fabs(x) < 0x1p-126F ? std::copysign(0.0F, x) : x;
}

}  // namespace halfulp_strength
