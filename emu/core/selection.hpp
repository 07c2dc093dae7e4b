// Operations that choose rather than compute: neighbours in a format, minimum and maximum, and the
// predicates.
#pragma once

#include "emu/core/arithmetic.hpp"

namespace halfulp {

// The ten classes of IEEE 754, in its order. The first is never met: NaNs are quiet here.
enum class Class : std::uint8_t {
  signaling_nan,
  quiet_nan,
  negative_infinity,
  negative_normal,
  negative_subnormal,
  negative_zero,
  positive_zero,
  positive_subnormal,
  positive_normal,
  positive_infinity,
};

// Subnormal: not zero, and below the least normal number of f in magnitude.
template <class S>
constexpr Class classify(const Unpacked<S>& a, Format f) {
  switch (a.kind) {
    case Kind::nan: return Class::quiet_nan;
    case Kind::infinite: return a.negative ? Class::negative_infinity : Class::positive_infinity;
    case Kind::zero: return a.negative ? Class::negative_zero : Class::positive_zero;
    case Kind::finite: break;
  }
  if (a.leading_exponent() < f.emin())
    return a.negative ? Class::negative_subnormal : Class::positive_subnormal;
  return a.negative ? Class::negative_normal : Class::positive_normal;
}

// a <= b in the total order: −infinity … −0, +0, … infinity, NaN. NaNs have lost their signs and
// payloads, so all of them are one element, the last.
template <class S>
constexpr bool total_order(const Unpacked<S>& a, const Unpacked<S>& b) {
  if (b.kind == Kind::nan) return true;
  if (a.kind == Kind::nan) return false;
  const Ordering order = compare(a, b);
  if (order == Ordering::equal) return a.negative || !b.negative;
  return order == Ordering::less;
}

struct Selection {
  bool larger = false;
  bool by_magnitude = false;  // the sign decides among equal magnitudes only
  bool skips_nan = false;     // a number beside NaN is the result; else NaN is
};

// Minimum or maximum, −0 being less than +0.
template <class S>
constexpr Unpacked<S> select(const Unpacked<S>& a, const Unpacked<S>& b, Selection how) {
  if (detail::any_nan(a, b)) {
    if (!how.skips_nan) return Unpacked<S>::make_nan(0);
    return a.kind == Kind::nan ? b : a;
  }
  if (how.by_magnitude) {
    Unpacked<S> x = a;
    Unpacked<S> y = b;
    x.negative = y.negative = false;
    const Ordering order = compare(x, y);
    if (order != Ordering::equal) return (order == Ordering::less) != how.larger ? a : b;
  }
  return total_order(a, b) != how.larger ? a : b;
}

// The least value of f greater than a (up), or the greatest less than a (down). Where there is
// none, the infinity of that direction is due. A zero that is reached has the sign of a.
//
// It rests on the order of codes: with c the code of the neighbour of a towards zero (a's own if a
// is a value of f), the next value away from zero has the code c + 1.
template <class S>
constexpr Unpacked<S> neighbour(const Unpacked<S>& a, bool up, Format f) {
  if (a.kind == Kind::nan) return Unpacked<S>::make_nan(0);
  const bool outwards = a.kind == Kind::zero || a.negative != up;
  const bool negative = a.kind == Kind::zero ? !up : a.negative;
  const auto value = [&](S code) {
    Unpacked<S> x = unpack(code, f);
    x.negative = negative && f.is_signed;
    return x;
  };
  const S least = static_cast<S>(f.least_code());
  const S largest = static_cast<S>(f.largest_code());
  if (negative && !f.is_signed) {
    // Nothing of f lies below zero; above a negative number its first value is the one with code 0.
    return outwards ? Unpacked<S>::make_infinity(true) : value(0);
  }
  if (a.kind == Kind::infinite) return outwards ? a : value(largest);
  if (a.kind == Kind::zero) return value(least);

  Unpacked<S> magnitude = a;
  magnitude.negative = false;
  const Packed<S> below =
      round_pack(magnitude, f, {.mode = Mode::toward_zero, .overflow = Overflow::saturate});
  const bool is_value = (below.flags & flag_inexact) == 0;
  // A format without zero gives its least value for what lies below: that is above a.
  const bool none_below = !f.zero && (below.flags & flag_underflow) != 0;
  if (outwards) {
    if (none_below) return value(0);
    if (below.code >= largest) return Unpacked<S>::make_infinity(negative);
    return value(below.code < least ? least : static_cast<S>(below.code + 1));
  }
  if (!f.zero && (none_below || (is_value && below.code == 0)))
    return Unpacked<S>::make_infinity(true);
  if (!is_value) return value(below.code);
  return value(below.code <= least ? S{0} : static_cast<S>(below.code - 1));
}

}  // namespace halfulp
