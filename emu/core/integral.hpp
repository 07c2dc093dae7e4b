// Operations about integers: remainder, rounding to an integer, scaling by and asking for the
// exponent. Exact results as in arithmetic.hpp.
#pragma once

#include "emu/core/arithmetic.hpp"

namespace halfulp {

// a − n·b, n the integer nearest to a/b, the even one of two equally near. Always exact, and a
// number of no more bits than the operands': a multiple of the lesser of their quanta, of at most
// |b|/2 (or a itself). A zero has the sign of a.
template <class S>
constexpr Unpacked<S> exact_remainder(const Unpacked<S>& a, const Unpacked<S>& b) {
  if (detail::any_nan(a, b)) return Unpacked<S>::make_nan(0);
  if (a.kind == Kind::infinite || b.kind == Kind::zero) return Unpacked<S>::make_nan(flag_invalid);
  if (a.kind == Kind::zero || b.kind == Kind::infinite) return a;
  if (a.leading_exponent() < b.leading_exponent() - 1) return a;  // |a| < |b|/2, so n = 0

  // Both as multiples of one power of two. Here |b| < 4·|a|, so that b's significand, where it is
  // the one to shift, becomes at most one bit longer than a's.
  S divisor = b.significand;
  int exponent = b.exponent;
  if (a.exponent < b.exponent) {
    divisor <<= b.exponent - a.exponent;
    exponent = a.exponent;
  }
  // |a| = q·divisor + rest by long division, as many bits at a time as fit above the divisor. Of q
  // only the last bit is wanted.
  S rest = a.significand % divisor;
  bool odd = (a.significand / divisor & 1) != 0;
  const int room = width_of<S> - bit_length(divisor);
  for (int left = a.exponent - exponent; left > 0 && rest != 0;) {
    const int step = left < room ? left : room;
    rest <<= step;
    odd = (rest / divisor & 1) != 0;
    rest %= divisor;
    left -= step;
  }
  if (rest == 0) return Unpacked<S>::make_zero(a.negative);
  const S above = divisor - rest;  // to the next multiple of b
  const bool past_half = rest > above || (rest == above && odd);
  return {.kind = Kind::finite,
          .negative = a.negative != past_half,
          .exponent = exponent,
          .significand = past_half ? above : rest};
}

// The integer that the mode chooses: rounding with the quantum 1, where even and odd are those of
// the integer. A zero keeps the sign of a. `inexact` is raised if the value changes.
template <class S>
constexpr Unpacked<S> to_integral(const Unpacked<S>& a, Mode mode, RandomBits random,
                                  Flags inexact) {
  if (a.kind != Kind::finite || a.exponent >= 0) return a;
  const int drop = -a.exponent;
  S whole = shift_right(a.significand, drop);
  const Tail<S> tail{static_cast<S>(a.significand & low_mask<S>(drop)), drop, a.sticky};
  if (tail.is_zero()) return a;
  if (rounds_away(mode, a.negative, (whole & 1) != 0, tail, random)) whole += 1;
  Unpacked<S> result = Unpacked<S>::make_zero(a.negative);
  result.raised = inexact;
  if (whole == 0) return result;
  result.kind = Kind::finite;
  result.significand = whole;
  return result;
}

namespace detail {

// Exponents of every format's numbers lie within ±2^21 (biases within ±2^20, 19 exponent bits), so
// a factor of 2^(±2^24) takes each of them out of every format's range by more than any number of
// random bits looks at.
inline constexpr int far_exponent = 1 << 24;

// The integer value of n, brought within ±far_exponent.
template <class S>
constexpr int small_integer(const Unpacked<S>& n) {
  if (n.kind == Kind::zero) return 0;
  int magnitude = far_exponent;
  if (n.leading_exponent() < 24) {
    magnitude = static_cast<int>(n.exponent >= 0 ? static_cast<S>(n.significand << n.exponent)
                                                 : shift_right(n.significand, -n.exponent));
  }
  return n.negative ? -magnitude : magnitude;
}

}  // namespace detail

template <class S>
constexpr bool is_integer(const Unpacked<S>& x) {
  if (x.kind != Kind::finite) return x.kind == Kind::zero;
  return x.exponent >= 0 || (x.significand & low_mask<S>(-x.exponent)) == 0;
}

// a·2^n. NaN, invalid, unless n is an integer.
template <class S>
constexpr Unpacked<S> exact_scalb(const Unpacked<S>& a, const Unpacked<S>& n) {
  if (detail::any_nan(a, n)) return Unpacked<S>::make_nan(0);
  if (!is_integer(n)) return Unpacked<S>::make_nan(flag_invalid);
  Unpacked<S> result = a;
  if (a.kind == Kind::finite) result.exponent += detail::small_integer(n);
  return result;
}

// floor(log2 |a|), a number like others; of zero −infinity, divide-by-zero.
template <class S>
constexpr Unpacked<S> exact_logb(const Unpacked<S>& a) {
  if (a.kind == Kind::nan) return Unpacked<S>::make_nan(0);
  if (a.kind == Kind::infinite) return Unpacked<S>::make_infinity(false);
  if (a.kind == Kind::zero) return Unpacked<S>::make_infinity(true, flag_divide_by_zero);
  const int e = a.leading_exponent();
  if (e == 0) return Unpacked<S>::make_zero(false);
  return {.kind = Kind::finite, .negative = e < 0, .significand = static_cast<S>(e < 0 ? -e : e)};
}

}  // namespace halfulp
