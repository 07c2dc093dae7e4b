// Integers and fixed-point numbers: a code, read as an integer (two's complement if signed), counts
// units of 2^−fraction_bits.
//
//   q3.4:   [ s | m m m . f f f f ]    −8 to 7.9375 in steps of 1/16;  int8 is q7.0, uint8 is uq8.0
//
// Even and odd are those of the code, whose last bit is that of the magnitude too, so rounding is
// the core's own predicate on the bits below one unit.
#pragma once

#include "emu/core/round_pack.hpp"

namespace halfulp {

inline constexpr int max_fixed_width = 32;

// A structural type, as Format is.
struct FixedPoint {
  int width = 8;  // 1 to 32, the sign bit included
  int fraction_bits = 0;
  bool is_signed = true;
  bool wraps = false;  // beyond the ends: modulo 2^width instead of the overflow policy

  constexpr bool operator==(const FixedPoint&) const = default;

  // Units of the largest value, and of the least without its sign.
  constexpr u64 largest() const { return low_mask<u64>(width - (is_signed ? 1 : 0)); }
  constexpr u64 least_magnitude() const { return is_signed ? u64{1} << (width - 1) : 0; }
  constexpr u64 end(bool negative) const { return negative ? least_magnitude() : largest(); }
  constexpr u64 code_of(u64 units, bool negative) const {
    return (negative ? u64{0} - units : units) & low_mask<u64>(width);
  }
  // Bits that a result may have above the binary point's last place, the one beyond the end too.
  constexpr int precision() const { return width + 1; }
};

constexpr Unpacked<u128> unpack(u64 code, FixedPoint f) {
  code &= low_mask<u64>(f.width);
  const bool negative = f.is_signed && ((code >> (f.width - 1)) & 1) != 0;
  const u64 units = f.code_of(code, negative);  // two's complement is its own inverse
  if (units == 0) return Unpacked<u128>::make_zero(false);
  return {.kind = Kind::finite,
          .negative = negative,
          .exponent = -f.fraction_bits,
          .significand = negative ? units : code};
}

namespace detail {

constexpr Packed<u64> lose_nan(FixedPoint f, const Rounding& rounding, Flags flags) {
  flags |= flag_invalid;
  if (rounding.nan_to == NanTo::error) flags |= flag_nan_lost;
  return {rounding.nan_to == NanTo::zero ? 0 : f.largest(), flags};
}

}  // namespace detail

// Rounds x once and encodes it. There is no NaN and no infinity, so every policy but wrapping gives
// the end of the range; an infinite operand has no residue, so under wrapping it is NaN.
constexpr Packed<u64> round_pack(const Unpacked<u128>& x, FixedPoint f, const Rounding& rounding,
                                 RandomBits random = {}) {
  Flags flags = x.raised;

  // 1. What needs no rounding.
  if (x.kind == Kind::nan || (x.kind == Kind::infinite && f.wraps))
    return detail::lose_nan(f, rounding, flags);
  if (x.kind == Kind::zero) return {0, flags};
  if (x.kind == Kind::infinite) {
    return {f.code_of(f.end(x.negative), x.negative), static_cast<Flags>(flags | flag_inexact)};
  }

  // 2. Far beyond the ends no bit below the code's last is looked at, except modulo 2^width: there
  // nothing below 2^-fraction_bits may have been left out, so operations do not wrap (systems.hpp).
  const int above = x.leading_exponent() + f.fraction_bits;  // of the leading bit, in units
  const int drop = -f.fraction_bits - x.exponent;
  if (above > f.width + 1 && !f.wraps) {
    return {f.code_of(f.end(x.negative), x.negative),
            static_cast<Flags>(flags | flag_overflow | flag_inexact)};
  }

  // 3. Split at one unit and round. What is shifted out on the left is a multiple of 2^width.
  u128 units = 0;
  if (drop <= 0) {
    units = -drop >= width_of<u128> ? 0 : x.significand << -drop;
  } else {
    units = shift_right(x.significand, drop);
    const Tail<u128> tail{x.significand & low_mask<u128>(drop), drop, x.sticky};
    if (!tail.is_zero()) {
      flags |= flag_inexact;
      if (rounds_away(rounding.mode, x.negative, (units & 1) != 0, tail, random)) ++units;
    }
  }

  // 4. The ends.
  const bool beyond = above > f.width + 1 || units > f.end(x.negative);
  if (beyond) {
    flags |= flag_overflow | flag_inexact;
    if (!f.wraps) units = f.end(x.negative);
  }
  return {f.code_of(static_cast<u64>(units), x.negative), flags};
}

}  // namespace halfulp
