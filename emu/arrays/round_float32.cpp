#include "emu/arrays/round_float32.hpp"

#include <bit>
#include <cmath>

#include "emu/arrays/control_word.hpp"
#include "emu/core/formats.hpp"
#include "emu/core/round_pack.hpp"

namespace halfulp {
namespace {

std::uint32_t float_bits(u64 code, Format f) {
  return static_cast<std::uint32_t>(round_pack(unpack(code, f), formats::binary32, {}).code);
}

// One element. Every branch is a select, so compilers turn the loop into vector code.
//
// Normal results: u is |x| as bits. Adding half an ulp less one, plus the parity of the last kept
// bit, and clearing the dropped bits is round-to-nearest-even; the carry runs into the exponent as
// it should.
//
// Subnormal results: (|x| + magic) − magic, where ulp(magic) is the subnormal quantum: the addition
// rounds to nearest even in hardware, the subtraction is exact. Toward zero: step back if that
// rounded up.
inline float round_one(float x, const Float32Rounder& r) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = bits & 0x80000000u;
  const std::uint32_t u = bits & 0x7fffffffu;

  const std::uint32_t parity = ((u >> r.drop) ^ r.parity_flip) & r.parity_mask;
  const std::uint32_t normal = (u + r.half_less_one + parity) & ~r.drop_mask;

  const float magnitude = std::bit_cast<float>(u);
  const float nearest = (magnitude + r.magic) - r.magic;
  const float quantum = std::bit_cast<float>(std::bit_cast<std::uint32_t>(r.magic) + 1) - r.magic;
  const float lower = nearest > magnitude ? nearest - quantum : nearest;
  const std::uint32_t stepped = (std::bit_cast<std::uint32_t>(nearest) & ~r.toward_zero) |
                                (std::bit_cast<std::uint32_t>(lower) & r.toward_zero);
  const std::uint32_t gapped = u > r.gap_threshold ? r.least_normal : 0u;
  const std::uint32_t small = (stepped & ~r.gap) | (gapped & r.gap);

  std::uint32_t result = u < r.least_normal ? small : normal;
  std::uint32_t result_sign = result != 0 ? sign : sign & r.negative_zero;
  const bool over = result > r.largest;
  result = over ? r.overflow : result;
  result_sign = over ? sign & r.overflow_sign : result_sign;
  const bool infinite = u == 0x7f800000u;
  result = infinite ? r.infinity : result;
  result_sign = infinite ? sign & r.infinity_sign : result_sign;
  const bool nan = u > 0x7f800000u;
  result = nan ? r.nan : result;
  result_sign = nan ? 0u : result_sign;
  return std::bit_cast<float>(result | result_sign);
}

}  // namespace

bool float32_rounder_exists(Format f, const Rounding& rounding) {
  if (rounding.mode != Mode::nearest_even && rounding.mode != Mode::toward_zero) return false;
  if (!f.is_signed || !f.zero) return false;
  if (rounding.overflow == Overflow::error || (!f.has_nan() && rounding.nan_to == NanTo::error))
    return false;
  // The masks take normal results to be normal float32 values, and ulp(magic) must be the subnormal
  // quantum.
  if (f.emin() < formats::binary32.emin() ||
      f.least_quantum_exponent() + 23 > formats::binary32.emax())
    return false;
  return holds_every_value(formats::binary32, f);
}

Float32Rounder make_float32_rounder(Format f, const Rounding& rounding) {
  const bool nearest = rounding.mode == Mode::nearest_even;
  // What overflow, infinity and NaN become is asked of the core.
  const auto replacement = [&](const Unpacked<u64>& x) {
    return float_bits(round_pack(x, f, rounding).code, f);
  };
  const std::uint32_t overflow = replacement(
      {.kind = Kind::finite, .negative = true, .exponent = f.emax() + 2, .significand = 1});
  const std::uint32_t infinity = replacement(Unpacked<u64>::make_infinity(true));

  Float32Rounder r{};
  r.drop = 24 - f.precision;
  r.drop_mask = low_mask<std::uint32_t>(r.drop);
  r.half_less_one = nearest && r.drop > 0 ? (1u << (r.drop - 1)) - 1 : 0;
  r.parity_mask = nearest && r.drop > 0 ? 1 : 0;
  // At p = 1 the last bit of the code is that of the exponent field: float32's field less 127 plus
  // the bias.
  r.parity_flip = f.precision == 1 ? static_cast<std::uint32_t>((127 + f.bias) & 1) : 0;
  r.least_normal = float_bits(static_cast<u64>(f.least_normal_code()), f);
  r.magic = std::ldexp(1.0F, 23 + f.least_quantum_exponent());
  r.toward_zero = nearest ? 0 : ~0u;
  // At p = 1 the subnormals are empty. Ties there go to 0, whose code is even.
  const bool gap = !f.subnormals || f.precision == 1;
  r.gap = gap ? ~0u : 0;
  // The tie is half the least normal; where that is 2^-127 it is a float32 subnormal, still exact.
  r.gap_threshold =
      nearest ? std::bit_cast<std::uint32_t>(std::ldexp(1.0F, f.emin() - 1)) : r.least_normal;
  r.largest = float_bits(static_cast<u64>(f.largest_code()), f);
  r.overflow = overflow & 0x7fffffffu;
  r.overflow_sign = overflow & 0x80000000u;
  r.infinity = infinity & 0x7fffffffu;
  r.infinity_sign = infinity & 0x80000000u;
  r.nan = replacement(Unpacked<u64>::make_nan(0));
  r.negative_zero = f.has_negative_zero() ? ~0u : 0;
  return r;
}

// Compiled for three instruction sets; the loader picks one. The bits do not depend on which.
#if defined(__x86_64__) && defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
__attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#endif
static void
round_loop(const float* x, float* y, std::size_t n, const Float32Rounder& rounder) {
  const Float32Rounder r = rounder;  // a copy that y cannot alias
  for (std::size_t i = 0; i < n; ++i) y[i] = round_one(x[i], r);
}

void round_float32(const float* x, float* y, std::size_t n, const Float32Rounder& rounder) {
  const ControlWord guard;
  round_loop(x, y, n, rounder);
}

}  // namespace halfulp
