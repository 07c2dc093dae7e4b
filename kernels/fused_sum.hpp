// The fused block sum of emu/core/matrix_unit.hpp in the arithmetic that processors have, for
// finite operands: the same bits as unit_chain, for one element or for a vector of elements, on the
// host and on a device.
//
//   products       a·b is exact in F (binary32 or binary64)
//   M              from exponents kept beside the operands, and from c's own
//   terms          a·b · 2^(F−M) converted to an integer, which cuts as the unit does: the scaling
//                  loses bits only where the result is below 1
//   sum, rounding  in binary64, where T · 2^(M−F) is exact: |T| < 2^37
//
// An element whose c or sums leave the finite numbers is noticed and left to the model.
#pragma once

#include <bit>
#include <cstdint>

#include "emu/core/matrix_unit.hpp"

namespace halfulp::kernels {

struct FusedSum {
  int fraction_bits = 25;
  int block = 16, k = 16, promote_every = 0;
  int floor = 0;  // no_exponent: none
  int zero = 0;   // exponents of a zero operand and a zero c
  int c_zero = 0;
  int d_emin = -126, d_fraction = 23;
  int sum_fraction = 23;  // fraction bits that a block is rounded to
  bool nearest = false;
  bool after = false;
  std::uint32_t infinite = 0x7F800000;  // magnitudes from this binary32 on are infinite in d
};

// Exponents that have no say: two of them, or one and an operand's, lie below this.
inline constexpr int ignored_exponent = -15000, least_exponent = -400;

// Products of operands whose exponents lie within this may be taken in binary32, if significands
// allow: neither they nor 2^(F−M) leave its normal numbers, unless all of them are zero.
inline constexpr int single_exponents = 45;

// Whether the arithmetic here serves the unit, and its parameters.
constexpr bool make_fused_sum(const MatrixUnit& u, FusedSum& s) {
  if (!u.is_float() || u.scale_block != 0 || u.group != 1 || u.terms != TermRounding::toward_zero ||
      u.fraction_bits > 28 || u.keeps_sign)
    return false;
  for (const Format& f : {u.a, u.b})
    if (f.precision > 24 || f.emax() > 127 || f.least_quantum_exponent() < -149) return false;
  for (const int e : {u.floor_exponent, u.zero_exponent, u.c_zero_exponent})
    if (e != no_exponent && (e < -300 || e > 300)) return false;
  s.fraction_bits = u.fraction_bits;
  s.block = u.block;
  s.k = u.k;
  s.promote_every = u.promote_every;
  s.floor = u.floor_exponent < least_exponent ? least_exponent : u.floor_exponent;
  s.zero = u.zero_exponent == no_exponent ? ignored_exponent : u.zero_exponent;
  s.c_zero = u.c_zero_exponent == no_exponent ? ignored_exponent : u.c_zero_exponent;
  s.d_emin = u.d.emin();
  s.d_fraction = u.d.fraction_bits();
  s.sum_fraction = u.sum.fraction_bits();
  s.nearest = u.mode == Mode::nearest_even;
  s.after = u.c == CEntry::after;
  s.infinite = static_cast<std::uint32_t>(u.d.emax() + 1 + 127) << 23;
  return true;
}

// How many terms may be added in an integer of 32 bits; each is below 2^(F+2).
constexpr int terms_of_int32(const FusedSum& s) {
  return 1 << (29 - s.fraction_bits);
}

// An operand of the code `code`: its value (0 for infinities and NaN) and its exponent.
struct FusedOperand {
  float value = 0;
  std::int16_t exponent = 0;
  bool special = false;
};
constexpr FusedOperand fused_operand(const MatrixUnit& u, const FusedSum& s, bool first, u64 code) {
  const UnitOperand x = unit_operand(u, first, code << u.dropped_bits);
  const auto zero = static_cast<std::int16_t>(s.zero);
  if (x.special != Special::none) return {0, zero, true};
  if (x.significand == 0) return {0, zero, false};
  const int quantum = x.exponent - (first ? u.a : u.b).fraction_bits();
  const auto power = std::bit_cast<double>(static_cast<u64>(quantum + 1023) << 52);
  return {static_cast<float>(x.significand * power), x.exponent, false};
}

// c's code as binary32, and a result's code: of values of d, which is binary16 or binary32. Those
// that are not finite are infinite.
constexpr float single_of(const FusedSum& s, std::uint32_t code) {
  if (s.d_fraction == 23) return std::bit_cast<float>(code);
  const std::uint32_t magnitude = code & 0x7FFF, sign = (code & 0x8000) << 16;
  if (magnitude >= 0x7C00) return std::bit_cast<float>(0x7F800000 | sign);
  const float value = std::bit_cast<float>(magnitude << 13) * 0x1p112F;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(value));
}
constexpr std::uint32_t code_of(const FusedSum& s, float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if (s.d_fraction == 23) return bits;
  const std::uint32_t magnitude = bits & 0x7FFFFFFF, sign = (bits >> 16) & 0x8000;
  if (magnitude >= s.infinite) return sign | 0x7C00;
  return sign | std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) * 0x1p-112F) >> 13;
}

// One element.
struct OneLane {
  using Double = double;
  using Long = std::int64_t;
  using Int = std::int32_t;
  using Single = float;
  static constexpr Double to_double(Int x) { return static_cast<double>(x); }
  static constexpr Double to_double(Single x) { return static_cast<double>(x); }
  static constexpr Single to_single(Double x) { return static_cast<float>(x); }
  static constexpr Int to_int(Double x) { return static_cast<std::int32_t>(x); }
  static constexpr Long to_long(Int x) { return x; }
};

namespace fused {

template <class V>
constexpr V larger(V x, V y) {
  return x > y ? x : y;
}

template <class T>
constexpr typename T::Double power_of_two(typename T::Int e) {
  return std::bit_cast<typename T::Double>((T::to_long(e) + 1023) << 52);
}

// M: of the products' largest exponent, and c.
template <class T>
constexpr typename T::Int largest(const FusedSum& s, typename T::Int products,
                                  typename T::Single c) {
  using Int = typename T::Int;
  const Int none{};
  const Int magnitude = std::bit_cast<Int>(c) & 0x7FFFFFFF;
  const Int exponent = larger<Int>((magnitude >> 23) - 127, none + s.d_emin);
  return larger<Int>(larger<Int>(products, none + s.floor),
                     magnitude == 0 ? none + s.c_zero : exponent);
}

// 2^(F−M) in binary32 as far as it is there.
template <class T>
constexpr typename T::Single single_scale(const FusedSum& s, typename T::Int m) {
  using Int = typename T::Int;
  const Int none{};
  const Int e = larger<Int>(s.fraction_bits - m, none - 126);
  return std::bit_cast<typename T::Single>(((e > 127 ? none + 127 : e) + 127) << 23);
}

// Rounds v, which is exact, to `fraction` bits of d's exponents; |v| < 2^300.
template <class T, bool nearest>
constexpr typename T::Double round_to(typename T::Double v, int emin, int fraction) {
  using Double = typename T::Double;
  using Long = typename T::Long;
  const Long field = std::bit_cast<Long>(v) & 0x7FF0000000000000;
  const Long least = Long{} + (static_cast<std::int64_t>(emin + 1023) << 52);
  const Long power = larger<Long>(field, least);
  const Long steps = static_cast<std::int64_t>(fraction) << 52 | Long{};
  // v in units of the last place: below 2^24.
  const Double q = v * std::bit_cast<Double>(0x7FE0000000000000 - power + steps);
  Double whole{};
  if constexpr (nearest) {
    const double magic = 0x1.8p52;
    whole = (q + magic) - magic;
  } else {
    whole = T::to_double(T::to_int(q));
  }
  return whole * std::bit_cast<Double>(power - steps);
}

// The block's result of the integer sum of its products (`total`) and c.
template <class T, bool nearest>
constexpr typename T::Single finish(const FusedSum& s, typename T::Double total,
                                    typename T::Single c, typename T::Int m) {
  using Double = typename T::Double;
  using Int = typename T::Int;
  const Int up = s.fraction_bits - m;
  const Double term = T::to_double(T::to_int(T::to_double(c) * power_of_two<T>(up)));
  const Double v = (total + term) * power_of_two<T>(-up);
  return T::to_single(round_to<T, nearest>(v, s.d_emin, s.sum_fraction));
}

// x + y to nearest even in d's format.
template <class T>
constexpr typename T::Single add(const FusedSum& s, typename T::Single x, typename T::Single y) {
  if (s.d_fraction == 23) return x + y;
  return T::to_single(round_to<T, true>(T::to_double(x) + T::to_double(y), s.d_emin, s.d_fraction));
}

template <class T>
constexpr typename T::Int magnitude_of(typename T::Single x) {
  return std::bit_cast<typename T::Int>(x) & 0x7FFFFFFF;
}

}  // namespace fused
}  // namespace halfulp::kernels
