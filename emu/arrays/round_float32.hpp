// float32 -> any Format -> float32, nearest-even and toward-zero: one loop whose constants are
// data.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emu/core/rounding.hpp"

namespace halfulp {

// Everything the loop needs to know of (Format, mode, policies), as bits of float32.
struct Float32Rounder {
  std::uint32_t drop_mask;      // low bits that a normal result does not have
  std::uint32_t half_less_one;  // nearest-even: half an ulp minus 1; toward-zero: 0
  std::uint32_t parity_mask;    // nearest-even: 1; toward-zero: 0
  std::uint32_t parity_flip;    // p = 1: float32's exponent parity against the code's
  int drop;                     // number of bits in drop_mask
  std::uint32_t least_normal;   // |x| below it takes the subnormal path
  float magic;                  // float whose ulp is the subnormal quantum
  std::uint32_t toward_zero;    // all ones or 0
  std::uint32_t gap;  // all ones: no subnormals, results below least_normal are 0 or least_normal
  std::uint32_t gap_threshold;  // |x| above it becomes least_normal
  std::uint32_t largest;
  std::uint32_t overflow;       // bits (without sign) that replace a magnitude above `largest`
  std::uint32_t overflow_sign;  // mask: whether they take x's sign
  std::uint32_t infinity;       // bits for an infinite operand
  std::uint32_t infinity_sign;
  std::uint32_t nan;            // bits for NaN, sign included
  std::uint32_t negative_zero;  // all ones if the format has negative zero
};

// Whether the loop can do it: nearest-even or toward-zero, signed, with zero, every value a
// float32, nothing to report.
bool float32_rounder_exists(Format format, const Rounding& rounding);
Float32Rounder make_float32_rounder(Format format, const Rounding& rounding);

// y[i] = x[i] rounded; y may be x. Sets and restores the floating-point control word, so that it
// may be called under any.
void round_float32(const float* x, float* y, std::size_t n, const Float32Rounder& rounder);

}  // namespace halfulp
