// The one place where a value is rounded into a format.
#pragma once

#include "emu/core/unpacked.hpp"

namespace halfulp {

template <class S>
struct Packed {
  S code = 0;
  Flags flags = 0;
};

namespace detail {

template <class S>
constexpr S with_sign(S magnitude, bool negative, Format f) {
  return negative ? static_cast<S>(magnitude | static_cast<S>(f.sign_bit())) : magnitude;
}

// NaN, or what stands for it in a format without one.
template <class S>
constexpr Packed<S> pack_nan(Format f, const Rounding& rounding, Flags flags) {
  if (f.has_nan()) return {static_cast<S>(f.nan_code()), flags};
  const Flags lost = flags | flag_invalid;
  switch (rounding.nan_to) {
    case NanTo::error:
      return {static_cast<S>(f.largest_code()), static_cast<Flags>(lost | flag_nan_lost)};
    case NanTo::largest: return {static_cast<S>(f.largest_code()), lost};
    case NanTo::zero: return {S{0}, lost};
    case NanTo::negative_zero: return {static_cast<S>(f.sign_bit()), lost};
  }
  return {};
}

// A value beyond the largest. NaN delivered here is explained by the overflow flag, so invalid
// stays down.
template <class S>
constexpr Packed<S> pack_overflow(bool negative, Format f, const Rounding& rounding, Flags flags) {
  flags |= flag_overflow | flag_inexact;
  const S largest = with_sign(static_cast<S>(f.largest_code()), negative, f);
  switch (rounding.overflow) {
    case Overflow::saturate:
    case Overflow::saturate_propagate: return {largest, flags};
    case Overflow::nan:
      if (f.has_nan()) return {static_cast<S>(f.nan_code()), flags};
      return {largest, flags};
    case Overflow::ieee:
    case Overflow::error:
      if (!overflows_to_infinity(rounding.mode, negative)) return {largest, flags};
      break;
    case Overflow::infinity: break;
  }
  if (f.has_infinity()) return {with_sign(static_cast<S>(f.infinity_code()), negative, f), flags};
  if (f.has_nan()) return {static_cast<S>(f.nan_code()), flags};
  return {largest, flags};
}

// An infinite operand, or x/0: exact, not overflow. A NaN delivered for it is invalid unless
// divide-by-zero says why already; the largest value delivered for it is inexact.
template <class S>
constexpr Packed<S> pack_infinity(bool negative, Format f, const Rounding& rounding, Flags flags) {
  const bool saturate = rounding.overflow == Overflow::saturate;
  if (f.has_infinity() && !saturate)
    return {with_sign(static_cast<S>(f.infinity_code()), negative, f), flags};
  if (f.has_nan() && !saturate) {
    if ((flags & flag_divide_by_zero) == 0) flags |= flag_invalid;
    return {static_cast<S>(f.nan_code()), flags};
  }
  return {with_sign(static_cast<S>(f.largest_code()), negative, f),
          static_cast<Flags>(flags | flag_inexact)};
}

template <class S>
struct Split {
  bool gap = false;  // no subnormals, and the value lies between 0 and 2^emin
  int binade = 0;
  S kept = 0;
  Tail<S> tail{};
};

// A finite value (exponent of its leading bit: `leading`) in units of the quantum: that of its
// binade, of the subnormals, or (no subnormals) the whole gap up to 2^emin.
template <class S>
constexpr Split<S> split_at_quantum(const Unpacked<S>& x, int leading, Format f) {
  const bool below_normal = leading < f.emin();
  const bool gap = below_normal && !f.subnormals;
  const int binade = below_normal ? f.emin() : leading;
  const int quantum = gap ? f.emin() : binade - f.fraction_bits();
  const int drop = quantum - x.exponent;
  if (drop <= 0) return {gap, binade, static_cast<S>(x.significand << -drop), {}};
  return {gap,
          binade,
          shift_right(x.significand, drop),
          {static_cast<S>(x.significand & low_mask<S>(drop)), drop, x.sticky}};
}

// Tininess of an inexact value with leading exponent below emin. After rounding, only a value in
// the binade just below 2^emin can escape it, by rounding (to p bits, unbounded exponent) up to
// 2^emin.
template <class S>
constexpr bool is_tiny(const Unpacked<S>& x, int leading, Format f, const Rounding& rounding,
                       RandomBits random) {
  if (rounding.tininess == Tininess::before_rounding || leading != f.emin() - 1) return true;
  const int drop = leading - f.fraction_bits() - x.exponent;
  if (drop < 0) return true;  // representable in p bits below 2^emin
  const S kept = shift_right(x.significand, drop);
  if (kept != low_mask<S>(f.precision)) return true;
  const Tail<S> tail{static_cast<S>(x.significand & low_mask<S>(drop)), drop, x.sticky};
  if (tail.is_zero()) return true;
  // The code just below 2^emin's is odd for p >= 2. At p = 1 it is the one below the least normal
  // code, 1: even.
  return !rounds_away(rounding.mode, x.negative, f.precision >= 2, tail, random);
}

}  // namespace detail

// Rounds the exact value x into f once and encodes it. S must be at least f.width() bits wide.
//
//   significand of x:    1xxxxxxxxxxx|rrrrrrrrrr   kept | tail     (drop = number of tail bits)
//
// The kept bits and the exponent together make the magnitude code of the neighbour towards zero;
// adding 1 to that code gives the other neighbour, across binades and into the overflow range,
// because magnitude codes are ordered as values.
template <class S>
constexpr Packed<S> round_pack(const Unpacked<S>& x, Format f, const Rounding& rounding,
                               RandomBits random = {}) {
  Flags flags = x.raised;

  // 1. What needs no rounding.
  if (x.kind == Kind::nan) return detail::pack_nan<S>(f, rounding, flags);
  if (x.kind == Kind::zero) {
    if (!f.zero) return {S{0}, static_cast<Flags>(flags | flag_underflow | flag_inexact)};
    return {detail::with_sign(S{0}, x.negative && f.has_negative_zero(), f), flags};
  }
  if (x.negative && !f.is_signed) return detail::pack_nan<S>(f, rounding, flags | flag_invalid);
  if (x.kind == Kind::infinite) return detail::pack_infinity<S>(x.negative, f, rounding, flags);

  // 2. Beyond the binade of the largest value every mode overflows.
  const int leading = x.leading_exponent();
  if (leading > f.emax()) return detail::pack_overflow<S>(x.negative, f, rounding, flags);
  const bool below_normal = leading < f.emin();
  if (below_normal && !f.zero)
    return {S{0}, static_cast<Flags>(flags | flag_underflow | flag_inexact)};

  // 3. Split at the quantum.
  const auto [gap, binade, kept, tail] = detail::split_at_quantum(x, leading, f);

  // 4. The code of the neighbour towards zero. `kept` includes the hidden bit, which counts as one
  // exponent step; a
  //    format without zero has no binade below for that step to start from.
  S code = static_cast<S>((static_cast<S>(binade - f.emin()) << f.fraction_bits()) + kept);
  if (!f.zero) code -= S{1} << f.fraction_bits();

  // 5. Round.
  if (!tail.is_zero()) {
    flags |= flag_inexact;
    const bool odd = (code & 1) != 0;
    if (below_normal && detail::is_tiny(x, leading, f, rounding, random)) flags |= flag_underflow;
    if (rounds_away(rounding.mode, x.negative, odd, tail, random)) {
      code = gap ? static_cast<S>(f.least_normal_code()) : static_cast<S>(code + 1);
    }
  }

  // 6. The largest value need not end its binade, so overflow is decided on the code.
  if (code > static_cast<S>(f.largest_code()))
    return detail::pack_overflow<S>(x.negative, f, rounding, flags);
  const bool negative = x.negative && (code != 0 || f.has_negative_zero());
  return {detail::with_sign(code, negative, f), flags};
}

}  // namespace halfulp
