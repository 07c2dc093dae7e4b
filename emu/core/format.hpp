// What a number format is: nine facts, everything else derived.
//
//   code (width bits):   [ sign (if signed) | exponent field (E bits) | fraction (p-1 bits) ]
//                                           \______ magnitude code, magnitude_bits() ______/
//
// The magnitude code of finite values counts upwards through the values in order, across binades:
// the next larger value has the next larger code. Rounding (round_pack.hpp) relies on it: "one ulp
// away from zero" is "code + 1".
#pragma once

#include "emu/core/wide.hpp"

namespace halfulp {

// Where the NaNs are.
enum class NanEncoding : std::uint8_t {
  ieee,     // top exponent field with a non-zero fraction (with any fraction if the format has no
            // infinity)
  last,     // the last magnitude code (all ones), either sign
  negzero,  // the code that would be negative zero; there is no negative zero then
  none,
};

// Where the infinities are.
enum class InfEncoding : std::uint8_t {
  ieee,  // top exponent field, zero fraction
  last,  // the last magnitude code, or the one before it if NaN has the last
  none,
};

inline constexpr int max_exponent_bits = 19;
inline constexpr int max_precision = 113;
inline constexpr int max_magnitude_bits = 127;

// A structural type: usable as a run-time value and as a template argument. Pass it by value in
// device code.
struct Format {
  int exponent_bits = 8;  // E, 1 to 19
  int precision = 24;     // p, significand bits with the hidden one, 1 to 113
  int bias = 127;         // exponent of a normal number = exponent field − bias
  bool is_signed = true;
  NanEncoding nan = NanEncoding::ieee;
  InfEncoding inf = InfEncoding::ieee;
  bool subnormals = true;  // without: exponent field 0 decodes to 0
  bool zero = true;        // without (E8M0): exponent field 0 is one more binade
  u64 max_code =
      0;  // magnitude code of the largest value, where it is not the natural one; 0: natural

  constexpr bool operator==(const Format&) const = default;

  constexpr int fraction_bits() const { return precision - 1; }
  constexpr int magnitude_bits() const { return exponent_bits + precision - 1; }
  constexpr int width() const { return magnitude_bits() + (is_signed ? 1 : 0); }

  constexpr bool has_nan() const { return nan != NanEncoding::none; }
  constexpr bool has_infinity() const { return inf != InfEncoding::none; }
  constexpr bool has_negative_zero() const {
    return is_signed && zero && nan != NanEncoding::negzero;
  }

  // Exponent of the least normal number.
  constexpr int emin() const { return (zero ? 1 : 0) - bias; }

  // Exponent of one unit in the last place of the least binade (and of the subnormals).
  constexpr int least_quantum_exponent() const { return emin() - fraction_bits(); }

  // Whether the top exponent field is set apart for NaN and infinity.
  constexpr bool reserves_top_field() const {
    return nan == NanEncoding::ieee || inf == InfEncoding::ieee;
  }

  constexpr u128 all_ones_magnitude() const { return low_mask<u128>(magnitude_bits()); }
  constexpr u128 top_field_code() const { return low_mask<u128>(exponent_bits) << fraction_bits(); }

  // Magnitude code of the largest finite value.
  constexpr u128 largest_code() const {
    if (max_code != 0) return max_code;
    if (reserves_top_field()) return top_field_code() - 1;
    return all_ones_magnitude() - (nan == NanEncoding::last ? 1 : 0) -
           (inf == InfEncoding::last ? 1 : 0);
  }

  constexpr u128 least_normal_code() const { return zero ? u128{1} << fraction_bits() : u128{0}; }

  // Magnitude code of the least positive value.
  constexpr u128 least_code() const {
    if (!zero) return 0;
    return subnormals && precision > 1 ? u128{1} : least_normal_code();
  }

  constexpr u128 infinity_code() const {
    if (inf == InfEncoding::ieee) return top_field_code();
    return all_ones_magnitude() - (nan == NanEncoding::last ? 1 : 0);
  }

  // The canonical NaN: quiet, positive where there is a sign to choose.
  constexpr u128 nan_code() const {
    switch (nan) {
      case NanEncoding::ieee:
        return precision >= 2 ? top_field_code() | (u128{1} << (precision - 2)) : top_field_code();
      case NanEncoding::last: return all_ones_magnitude();
      case NanEncoding::negzero: return sign_bit();
      case NanEncoding::none: break;
    }
    return 0;
  }

  constexpr u128 sign_bit() const { return is_signed ? u128{1} << magnitude_bits() : u128{0}; }

  // Exponent of the largest value.
  constexpr int emax() const {
    const u128 code = largest_code();
    const int field = static_cast<int>(code >> fraction_bits());
    return zero && field == 0 ? emin() + bit_length(code) - precision : field - bias;
  }
};

// Whether every value of `narrow` is a value of `wide` (sign, range, quanta, zeros, NaN and
// infinities). Codes of `narrow` above its max_code count too, since they decode to values.
constexpr bool holds_every_value(Format wide, Format narrow) {
  if (narrow.is_signed && !wide.is_signed) return false;
  if (narrow.precision > wide.precision) return false;

  // The largest values: exponents, then significands, moved to the wide format's precision.
  narrow.max_code = 0;
  const int reach = narrow.emax();
  if (reach > wide.emax()) return false;
  if (reach == wide.emax()) {
    const auto significand = [](Format f, int precision) {
      const u128 hidden = u128{1} << f.fraction_bits();
      const u128 fraction = f.largest_code() & (hidden - 1);
      return (hidden | fraction) << (precision - f.precision);
    };
    if (significand(narrow, wide.precision) > significand(wide, wide.precision)) return false;
  }

  // The smallest: values in the wide format's subnormal range have its least quantum, whatever
  // their exponent.
  const bool narrow_dips = narrow.zero && narrow.subnormals;
  const int narrow_least = narrow_dips ? narrow.least_quantum_exponent() : narrow.emin();
  const int wide_least = wide.subnormals ? wide.least_quantum_exponent() : wide.emin();
  if (narrow_least < wide_least) return false;
  if (narrow.emin() < wide.emin() && narrow.least_quantum_exponent() < wide_least) return false;

  if (narrow.zero && !wide.zero) return false;
  if (narrow.has_negative_zero() && !wide.has_negative_zero()) return false;
  if (narrow.has_nan() && !wide.has_nan()) return false;
  return !narrow.has_infinity() || wide.has_infinity();
}

}  // namespace halfulp
