// A number taken apart, and taking codes apart.
#pragma once

#include "emu/core/format.hpp"
#include "emu/core/rounding.hpp"

namespace halfulp {

enum class Kind : std::uint8_t { zero, finite, infinite, nan };

// Finite: (−1)^negative · (significand + d) · 2^exponent, significand > 0 (not normalised), d = 0,
// or 0 < d < 1 if sticky. `raised` carries the flags that an exact operation has raised already
// (invalid, divide-by-zero).
template <class S>
struct Unpacked {
  Kind kind = Kind::zero;
  bool negative = false;
  bool sticky = false;
  Flags raised = 0;
  int exponent = 0;
  S significand = 0;

  static constexpr Unpacked make_nan(Flags raised) { return {.kind = Kind::nan, .raised = raised}; }
  static constexpr Unpacked make_zero(bool negative) {
    return {.kind = Kind::zero, .negative = negative};
  }
  static constexpr Unpacked make_infinity(bool negative, Flags raised = 0) {
    return {.kind = Kind::infinite, .negative = negative, .raised = raised};
  }

  // Exponent of the leading bit: floor(log2 |x|). Finite only.
  constexpr int leading_exponent() const { return exponent + bit_length(significand) - 1; }
};

// Decodes the low width() bits of `code`. S must be at least width() bits wide.
// Codes between the largest value and the first special one (formats with max_code) have the value
// their bits say.
template <class S>
constexpr Unpacked<S> unpack(S code, Format f) {
  const S magnitude = code & low_mask<S>(f.magnitude_bits());
  const bool negative = f.is_signed && ((code >> f.magnitude_bits()) & 1) != 0;
  const S field = shift_right(magnitude, f.fraction_bits());
  const S fraction = magnitude & low_mask<S>(f.fraction_bits());
  const bool top_field = field == low_mask<S>(f.exponent_bits);

  // 1. Specials.
  if (f.nan == NanEncoding::ieee && top_field && (fraction != 0 || !f.has_infinity()))
    return Unpacked<S>::make_nan(0);
  if (f.nan == NanEncoding::last && magnitude == static_cast<S>(f.all_ones_magnitude()))
    return Unpacked<S>::make_nan(0);
  if (f.nan == NanEncoding::negzero && negative && magnitude == 0) return Unpacked<S>::make_nan(0);
  if (f.has_infinity() && magnitude == static_cast<S>(f.infinity_code()))
    return Unpacked<S>::make_infinity(negative);

  // 2. Exponent field 0: zero and the subnormals, unless the format has no zero.
  if (f.zero && field == 0) {
    if (fraction == 0 || !f.subnormals) {
      return Unpacked<S>::make_zero(negative && f.has_negative_zero());
    }
    return {.kind = Kind::finite,
            .negative = negative,
            .exponent = f.least_quantum_exponent(),
            .significand = fraction};
  }

  // 3. Normal numbers: the hidden bit.
  const int steps = static_cast<int>(field) - (f.zero ? 1 : 0);
  return {.kind = Kind::finite,
          .negative = negative,
          .exponent = f.least_quantum_exponent() + steps,
          .significand = static_cast<S>(fraction | (S{1} << f.fraction_bits()))};
}

}  // namespace halfulp
