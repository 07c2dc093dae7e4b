#include "emu/arrays/block_float32.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace halfulp {
namespace {

// One element. |x| · 2^-k is exact unless it leaves float32's range: above, it becomes infinity,
// which saturates as the value would; below 2^-126, it stays far below half the least quantum,
// which is at least 2^-100.
//
// Normal results: half an ulp less one plus the parity of the last kept bit, and a shift; the carry
// runs into the exponent as it should. Subnormal results: adding `magic` rounds to a whole number
// of quanta in the last places of the sum, and that number is the code.
inline std::uint32_t encode_one(float x, float factor, const Float32BlockEncoder& e) {
  const std::uint32_t sign = std::bit_cast<std::uint32_t>(x) >> 31;
  const float y = std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) & 0x7fffffffu) * factor;
  const std::uint32_t u = std::bit_cast<std::uint32_t>(y);
  const std::uint32_t parity = ((u >> e.drop) ^ e.offset) & 1;
  const std::uint32_t normal = ((u + e.half_less_one + parity) >> e.drop) - e.offset;
  const std::uint32_t small =
      std::bit_cast<std::uint32_t>(y + e.magic) - std::bit_cast<std::uint32_t>(e.magic);
  std::uint32_t code = u < e.least_normal ? small : normal;
  code = code > e.largest_code ? e.largest_code : code;
  const std::uint32_t negated = (0u - code) & e.code_mask;
  const std::uint32_t with_sign = code | (sign << e.sign_shift);
  return e.twos_complement ? (sign != 0 ? negated : code) : with_sign;
}

}  // namespace

bool float32_block_encoder_exists(const BlockFormat& f, Mode mode) {
  const Format e = f.element;
  return mode == Mode::nearest_even && is_power_of_two_rule(f.rule) && f.scale.emin() >= -127 &&
         f.scale.emax() <= 127 && (f.coding == Coding::floating || f.coding == Coding::symmetric) &&
         e.subnormals && e.precision < 24 && e.emin() >= -64 && e.emax() <= 64 &&
         e.least_quantum_exponent() >= -100;
}

Float32BlockEncoder make_float32_block_encoder(const BlockFormat& f) {
  const Format e = f.element;
  const int drop = 24 - e.precision;
  // Normal numbers have exponent field − bias, where formats with zero count fields from 1.
  return {.half_less_one = (1u << (drop - 1)) - 1,
          .drop = drop,
          .offset = static_cast<std::uint32_t>(127 - e.bias) << e.fraction_bits(),
          .least_normal = std::bit_cast<std::uint32_t>(std::ldexp(1.0F, e.emin())),
          .magic = std::ldexp(1.0F, 23 + e.least_quantum_exponent()),
          .largest_code = static_cast<std::uint32_t>(e.largest_code()),
          .sign_shift = e.magnitude_bits(),
          .twos_complement = f.coding == Coding::symmetric,
          .code_mask = low_mask<std::uint32_t>(f.element_bits())};
}

#if defined(__x86_64__) && defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
  #define HALFULP_CLONES __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
  #define HALFULP_CLONES
#endif

HALFULP_CLONES void encode_block_float32(const float* x, std::uint8_t* codes, std::size_t n,
                                         int scale_exponent, const Float32BlockEncoder& encoder) {
  const Float32BlockEncoder e = encoder;  // a copy that codes cannot alias
  const float factor = std::ldexp(1.0F, -scale_exponent);
  for (std::size_t i = 0; i < n; ++i)
    codes[i] = static_cast<std::uint8_t>(encode_one(x[i], factor, e));
}

HALFULP_CLONES void encode_block_float32(const float* x, std::uint16_t* codes, std::size_t n,
                                         int scale_exponent, const Float32BlockEncoder& encoder) {
  const Float32BlockEncoder e = encoder;
  const float factor = std::ldexp(1.0F, -scale_exponent);
  for (std::size_t i = 0; i < n; ++i)
    codes[i] = static_cast<std::uint16_t>(encode_one(x[i], factor, e));
}

bool float32_threshold_encoder_exists(const BlockFormat& f, Mode mode) {
  return mode == Mode::nearest_even && f.rule != ScaleRule::te &&
         (f.coding == Coding::floating || f.coding == Coding::symmetric) &&
         f.element.largest_code() <= max_thresholds && f.element.subnormals &&
         f.element.emin() >= -64 && f.element.emax() <= 64 && f.scale.emin() >= -160 &&
         f.scale.emax() <= 160 && f.divisor_bits() + f.element.precision + 1 <= 53;
}

Float32ThresholdEncoder make_float32_threshold_encoder(const BlockFormat& f) {
  Float32ThresholdEncoder e{.half_way = {},
                            .tie_rounds_up = {},
                            .sign_shift = f.element.magnitude_bits(),
                            .twos_complement = f.coding == Coding::symmetric,
                            .code_mask = low_mask<std::uint32_t>(f.element_bits())};
  const auto value = [&](u64 code) {
    const Unpacked<u64> v = unpack(code, f.element);
    return std::ldexp(static_cast<double>(v.significand), v.exponent);
  };
  for (int i = 0; i < max_thresholds; ++i) {
    const auto lower = static_cast<u64>(i);
    // Beyond the largest value there is nothing to round to.
    e.half_way[i] = lower < f.element.largest_code() ? (value(lower) + value(lower + 1)) / 2
                                                     : std::numeric_limits<double>::infinity();
    e.tie_rounds_up[i] = i % 2 != 0;
  }
  return e;
}

HALFULP_CLONES void encode_block_float32(const float* x, std::uint8_t* codes, std::size_t n,
                                         double unit, const Float32ThresholdEncoder& encoder) {
  // Where a tie rounds up the threshold is the half-way point itself, else the next float64.
  double threshold[max_thresholds];
  for (int i = 0; i < max_thresholds; ++i) {
    const double exact = encoder.half_way[i] * unit;
    threshold[i] = encoder.tie_rounds_up[i]
                       ? exact
                       : std::nextafter(exact, std::numeric_limits<double>::infinity());
  }
  const bool twos_complement = encoder.twos_complement;
  const std::uint32_t mask = encoder.code_mask;
  const int sign_shift = encoder.sign_shift;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(x[i]);
    const auto magnitude = static_cast<double>(std::bit_cast<float>(bits & 0x7fffffffu));
    std::uint32_t code = 0;
    for (const double t : threshold) code += magnitude >= t ? 1 : 0;
    const std::uint32_t sign = bits >> 31;
    const std::uint32_t negated = (0u - code) & mask;
    const std::uint32_t with_sign = code | (sign << sign_shift);
    codes[i] =
        static_cast<std::uint8_t>(twos_complement ? (sign != 0 ? negated : code) : with_sign);
  }
}

HALFULP_CLONES std::uint32_t largest_magnitude(const float* x, std::size_t n) {
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < n; ++i)
    largest = std::max(largest, std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu);
  return largest;
}

}  // namespace halfulp
