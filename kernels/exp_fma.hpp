// exp of binary32 by fused operations of binary32 alone: as wide as a vector of floats, where
// exp_float32 (elementary_float32.hpp) is half as wide and twice as exact. The same bits on every
// processor.
//
//   x = n·log 2 + r, |r| <= log(2)/2 (1 + 2^-20);  exp(x) = 2^n · (1 + r + r²·c(r))
//
// log 2 in two parts, the first with 15 bits: n times it, and x minus that, are exact (both are
// multiples of 2^-25 below 2^-1 where n != 0), so r is rounded once. The polynomial is Taylor's of
// degree 7, off by less than r^8/40320 < 0.09·2^-24, evaluated by fma after fma; the last two round
// to 24 bits near 1. Over every binary32 number in [-105, 88.72]: within 0.94 ulp, and 1.33·2^-24
// of the result where that is normal (tests/unit/attention_test.cpp, exhaustive). Results below
// 2^-126 are rounded once more, to the subnormal.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <type_traits>

namespace halfulp::kernels {

// Templates of the one type float: constexpr, so that a GPU has them too, though an fma that is no
// constant keeps clang++ from a plain constexpr function.
namespace detail {

// exp(v) / 2^n, and n + 1.5·2^23 as its bits, for v in [-110, 89].
template <std::same_as<float> T>
struct ExpParts {
  T fraction;
  std::uint32_t shifted;
};
inline constexpr float exp_shift = 0x1.8p23f;  // adding it rounds to an integer: the last bits

template <std::same_as<float> T>
[[gnu::always_inline]] constexpr ExpParts<T> exp_parts(T v) {
  constexpr float log2_e = 0x1.715476p0f;
  constexpr float log_2_high = 0x1.62e4p-1f;  // 16 bits
  constexpr float log_2_low = 0x1.7f7d1cp-20f;
  const float shifted = __builtin_fmaf(v, log2_e, exp_shift);
  const float n = shifted - exp_shift;
  float r = __builtin_fmaf(n, -log_2_high, v);
  r = __builtin_fmaf(n, -log_2_low, r);
  float sum = 1.0F / 5040;
  sum = __builtin_fmaf(sum, r, 1.0F / 720);
  sum = __builtin_fmaf(sum, r, 1.0F / 120);
  sum = __builtin_fmaf(sum, r, 1.0F / 24);
  sum = __builtin_fmaf(sum, r, 1.0F / 6);
  sum = __builtin_fmaf(sum, r, 0.5F);
  sum = __builtin_fmaf(sum, r, 1.0F);
  sum = __builtin_fmaf(sum, r, 1.0F);
  return {sum, std::bit_cast<std::uint32_t>(shifted)};
}

}  // namespace detail

// exp(−∞) = +0, exp(+∞) = +∞, NaN gives 0x7fc00000.
template <std::same_as<float> T = float>
[[gnu::always_inline]] constexpr T exp_fma(std::type_identity_t<T> x) {
  constexpr float lowest = -110, highest = 89;
  const float v = x < lowest ? lowest : x > highest ? highest : x;
  const detail::ExpParts<float> parts = detail::exp_parts(v);
  // 2^n in two factors: the first product is exact, the second rounds if the result is subnormal.
  const auto whole =
      static_cast<std::int32_t>(parts.shifted - std::bit_cast<std::uint32_t>(detail::exp_shift));
  const std::int32_t half = whole >> 1, rest = whole - half;
  const auto power = [](std::int32_t e) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(e + 127) << 23);
  };
  const float result = parts.fraction * power(half) * power(rest);
  return x == x ? result : std::bit_cast<float>(0x7fc00000U);
}

// The same bits where −87 <= x <= 88, the result being normal: n is added to its exponent.
// (1.5·2^23 ends in 22 zeros, so its bits leave nothing after the shift.)
template <std::same_as<float> T = float>
[[gnu::always_inline]] constexpr T exp_fma_normal(std::type_identity_t<T> x) {
  const detail::ExpParts<float> parts = detail::exp_parts(x);
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(parts.fraction) + (parts.shifted << 23));
}

}  // namespace halfulp::kernels
