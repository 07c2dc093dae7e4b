#include "kernels/operand_range.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>

#include "emu/arrays/control_word.hpp"
#include "emu/core/float_plan.hpp"

namespace halfulp::kernels {
namespace {

struct Scan {
  std::uint32_t fractions = 0;    // all fraction fields, joined
  std::uint32_t largest = 0;      // finite magnitudes, as bits
  std::uint32_t least_bit = ~0U;  // bits of the least power of two that is a last bit
  std::uint32_t special = 0, negative_zero = 0;
};

// x less its last bit, taken from x: that bit, a power of two. (Clearing it as an integer clears
// the last of the fraction; where that is zero, x is the power of two itself.) The difference is
// exact.
inline void scan_loop(const float* x, std::size_t n, Scan& out) {
  Scan s;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(x[i]);
    const std::uint32_t u = bits & 0x7fffffffU;
    const std::uint32_t fraction = u & 0x7fffffU;
    const bool finite = u < 0x7f800000U;
    const float rest = std::bit_cast<float>(u & (u - 1));
    const auto last = std::bit_cast<std::uint32_t>(std::bit_cast<float>(u) - rest);
    const std::uint32_t bit = halfulp::detail::select(fraction != 0, last, u);
    s.fractions |= halfulp::detail::select<std::uint32_t>(finite, fraction, 0);
    s.largest = std::max(s.largest, halfulp::detail::select<std::uint32_t>(finite, u, 0));
    s.least_bit = std::min(s.least_bit, halfulp::detail::select(finite & (u != 0), bit, ~0U));
    s.special |= static_cast<std::uint32_t>(!finite);
    s.negative_zero |= static_cast<std::uint32_t>(bits == 0x80000000U);
  }
  out = s;
}
HALFULP_LEVELS(void, scan, (const float* x, std::size_t n, Scan& out), scan_loop(x, n, out))

int exponent_of(std::uint32_t bits) {  // of the leading bit
  const auto field = static_cast<int>(bits >> 23);
  return field > 0 ? field - 127 : std::bit_width(bits) - 1 - 149;
}

}  // namespace

OperandRange range_of(const float* x, std::size_t n, VectorLevel level) {
  const ControlWord guard;
  Scan s;
  scan[level](x, n, s);
  OperandRange r{.special = s.special != 0, .negative_zero = s.negative_zero != 0};
  if (s.largest == 0) return r;
  r.any = true;
  r.low = exponent_of(s.least_bit);
  r.high = exponent_of(s.largest) + 1;
  // Subnormal numbers have fewer bits than their joined fraction fields.
  r.bits = std::min(24 - std::countr_zero(s.fractions | 0x800000U), r.high - r.low);
  r.largest = std::bit_cast<float>(s.largest);
  return r;
}

}  // namespace halfulp::kernels
