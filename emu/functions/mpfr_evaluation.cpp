#include "emu/functions/mpfr_evaluation.hpp"

#include <gmp.h>

#include <algorithm>
#include <stdexcept>

#include "emu/functions/mpfr_float.hpp"

namespace halfulp::by_mpfr {
namespace {

// No format reaches 2^±2^24: |bias| <= 2^20 and at most 19 exponent bits.
constexpr int far_exponent = 1 << 24;
// MPFR's exponents while it works: far enough that every format's values and their squares are well
// inside.
constexpr long working_exponent = 1L << 30;
// Working precision at which Ziv's loop gives up. No operand is known that gets near it.
constexpr int max_working_precision = 1 << 16;

// Exactly; `to` has 128 bits.
void set(mpfr_ptr to, const Unpacked<u128>& x) {
  const int sign = x.negative ? -1 : 1;
  switch (x.kind) {
    case Kind::nan: mpfr_set_nan(to); return;
    case Kind::infinite: mpfr_set_inf(to, sign); return;
    case Kind::zero: mpfr_set_zero(to, sign); return;
    case Kind::finite: break;
  }
  mpfr_set_ui(to, static_cast<u64>(x.significand >> 64), MPFR_RNDZ);
  mpfr_mul_2ui(to, to, 64, MPFR_RNDZ);
  mpfr_add_ui(to, to, static_cast<u64>(x.significand), MPFR_RNDZ);
  mpfr_mul_2si(to, to, x.exponent, MPFR_RNDZ);
  mpfr_setsign(to, to, x.negative ? 1 : 0, MPFR_RNDZ);
}

Unpacked<u128> to_number(mpfr_ptr y, bool inexact) {
  const bool negative = mpfr_signbit(y) != 0;
  if (mpfr_nan_p(y) != 0 || mpfr_inf_p(y) != 0)
    throw std::logic_error("MPFR gave a special value where there is none");
  if (mpfr_zero_p(y) != 0 && !inexact) return Unpacked<u128>::make_zero(negative);
  // Beyond all formats: to every rounding, 2^±far_exponent with a sticky bit is the same value.
  const long exponent = mpfr_zero_p(y) != 0 ? -working_exponent : mpfr_get_exp(y);
  if (exponent > far_exponent || exponent < -far_exponent) {
    return {.kind = Kind::finite,
            .negative = negative,
            .sticky = true,
            .exponent = exponent > 0 ? far_exponent : -far_exponent,
            .significand = 1};
  }
  return number_of(y, inexact);
}

// ---------------------------------------------------------------- Ziv's loop
// y := v truncated, for an irrational v of which `approximate(r, w)` sets r, of precision w, and
// returns k with |r − v| <= 2^(k−w)·|v|, k <= w − 2.
//
// Then |v| < 2|r| and |r − v| < 2^(EXP(r)+k+1−w) = d, so |v| lies between |r| − d and |r| + d;
// where both truncate to the same number, so does |v|. The loop ends, since v is no y-precision
// number and the bounds close in on it.
template <class Approximate>
bool truncate_irrational(mpfr_ptr y, Approximate approximate) {
  const mpfr_prec_t precision = mpfr_get_prec(y);
  Float high(precision);
  for (mpfr_prec_t w = precision + 40; w <= max_working_precision; w *= 2) {
    Float r(w);
    const long k = approximate(r.get(), w);
    if (k > w - 2) continue;
    const int negative = mpfr_signbit(r);
    mpfr_abs(r, r, MPFR_RNDN);
    Float d(w), bound(w);
    mpfr_set_ui_2exp(d, 1, mpfr_get_exp(r) + k + 1 - w, MPFR_RNDN);
    mpfr_sub(bound, r, d, MPFR_RNDD);
    mpfr_set(y, bound, MPFR_RNDZ);
    mpfr_add(bound, r, d, MPFR_RNDU);
    mpfr_set(high, bound, MPFR_RNDZ);
    if (mpfr_equal_p(y, high) != 0) {
      mpfr_setsign(y, y, negative, MPFR_RNDN);
      return true;
    }
  }
  throw std::domain_error(
      "this value lies closer to a representable number than 65536 bits can tell; it is not "
      "rounded");
}

// y := v truncated, for a v next to `base` with base·(1 − 2^-400) < v < base (farther: base < v <
// base·(1 + 2^-400)). Of precision 400, base's neighbour towards zero is at least 2^-400·|base|
// away, and base has at most 128 bits, as y has: no number of y's precision lies between the two
// ends (but for base itself), so v truncates as the end towards zero does.
bool truncate_next_to(mpfr_ptr y, mpfr_srcptr base, bool farther) {
  Float end(400);
  mpfr_set(end, base, MPFR_RNDZ);
  if (!farther) {
    if (mpfr_signbit(end) != 0)
      mpfr_nextabove(end);
    else
      mpfr_nextbelow(end);
  }
  mpfr_set(y, end, MPFR_RNDZ);
  return true;
}

// A value other than zero, below all formats' reach.
bool vanish(mpfr_ptr y, bool negative) {
  mpfr_set_zero(y, negative ? -1 : 1);
  return true;
}

// |a| < 2^-450: there sigmoid, silu and gelu differ from their linear term by a factor of 1 + t
// with the sign of a and |t| < 2^-449 (t = tanh(a/2), or erf(a/sqrt 2)).
bool is_minute(mpfr_srcptr a) {
  return mpfr_get_exp(a) <= -450;
}

}  // namespace

// |Gamma|'s sign is not asked for.
bool lgamma(mpfr_ptr y, mpfr_srcptr a, mpfr_srcptr /*b*/) {
  int sign = 0;
  return mpfr_lgamma(y, &sign, a, MPFR_RNDZ) != 0;
}

// Errors below count roundings: u = 2^-w bounds each one's relative error (round to nearest).

// 1/(1 + e), e = exp(−a). Irrational: e is transcendental for rational a other than 0 (Lindemann).
// e has error u; 1 + e, as both are positive, at most that; two more roundings: 3.1u < 2^(2−w).
bool sigmoid(mpfr_ptr y, mpfr_srcptr a, mpfr_srcptr /*b*/) {
  const bool negative = mpfr_signbit(a) != 0;
  if (is_minute(a)) {
    Float half(2);
    mpfr_set_ui_2exp(half, 1, -1, MPFR_RNDN);
    return truncate_next_to(y, half, !negative);
  }
  // exp(−300) < 2^-432, and 1 − e < 1/(1 + e) < 1.
  if (mpfr_cmp_si(a, 300) > 0) {
    Float one(2);
    mpfr_set_ui(one, 1, MPFR_RNDN);
    return truncate_next_to(y, one, false);
  }
  // sigmoid(a) < exp(a) < 2^(-2^25).
  if (mpfr_cmp_si_2exp(a, -1, 25) < 0) return vanish(y, false);
  Float minus_a(128);
  mpfr_neg(minus_a, a, MPFR_RNDN);
  return truncate_irrational(y, [&](mpfr_ptr r, mpfr_prec_t /*w*/) {
    mpfr_exp(r, minus_a, MPFR_RNDN);
    mpfr_add_ui(r, r, 1, MPFR_RNDN);
    mpfr_ui_div(r, 1, r, MPFR_RNDN);
    return 2L;
  });
}

// a/(1 + e), e = exp(−a). Irrational and in error as sigmoid, with a in the place of 1.
bool silu(mpfr_ptr y, mpfr_srcptr a, mpfr_srcptr /*b*/) {
  const bool negative = mpfr_signbit(a) != 0;
  if (is_minute(a)) {
    Float half(128);
    mpfr_div_2ui(half, a, 1, MPFR_RNDN);
    return truncate_next_to(y, half, !negative);
  }
  if (mpfr_cmp_si(a, 300) > 0) return truncate_next_to(y, a, false);  // as sigmoid, times a
  // |a| exp(a) falls as a does, and is below 2^(-2^24) here.
  if (mpfr_cmp_si_2exp(a, -1, 25) < 0) return vanish(y, true);
  Float minus_a(128);
  mpfr_neg(minus_a, a, MPFR_RNDN);
  return truncate_irrational(y, [&](mpfr_ptr r, mpfr_prec_t /*w*/) {
    mpfr_exp(r, minus_a, MPFR_RNDN);
    mpfr_add_ui(r, r, 1, MPFR_RNDN);
    mpfr_div(r, a, r, MPFR_RNDN);
    return 2L;
  });
}

// log(1 + exp(a)) = max(a, 0) + log1p(exp(−|a|)). Irrational: an algebraic v would make
// exp(v) − exp(a) − exp(0) = 0 with distinct algebraic exponents, against Lindemann and Weierstrass
// (v > a and v > 0; at a = 0 it is log 2).
// e = exp(−|a|) has error u, and log1p'(e)·e/log1p(e) <= 1 (as log1p(e) >= e/(1+e)), so the
// logarithm has 2.1u; adding a > 0, as both are positive, at most 3.2u < 2^(2−w).
bool softplus(mpfr_ptr y, mpfr_srcptr a, mpfr_srcptr /*b*/) {
  const bool negative = mpfr_signbit(a) != 0;
  if (mpfr_cmp_si(a, 300) > 0) return truncate_next_to(y, a, true);  // a < v < a + exp(−300)
  if (mpfr_cmp_si_2exp(a, -1, 25) < 0) return vanish(y, false);      // v < exp(a)
  Float minus(128);
  mpfr_abs(minus, a, MPFR_RNDN);
  mpfr_neg(minus, minus, MPFR_RNDN);
  return truncate_irrational(y, [&](mpfr_ptr r, mpfr_prec_t /*w*/) {
    mpfr_exp(r, minus, MPFR_RNDN);
    mpfr_log1p(r, r, MPFR_RNDN);
    if (!negative) mpfr_add(r, r, a, MPFR_RNDN);
    return 2L;
  });
}

// a/2·erfc(t), t = −a/sqrt 2. That it is never rational is not known; docs/functions.md says what
// that means. t has error 2.1u (the square root and the product). What it does to erfc:
//   t <= 0: |t·erfc'(t)| = 2/sqrt(π)·|t|·exp(−t²) < 0.49 and erfc(t) >= 1: below 1.1u;
//   t > 0: |erfc'/erfc| < t + sqrt(t² + 2) <= 2t + 1.42 (Abramowitz & Stegun 7.1.13), so below
//   2.2u·(2t² + 1.42t) <= 7.6u·4^m for t < 2^m, m >= 0.
// With erfc's own rounding and that of the product by a: below 10u·4^m < 2^(4+2m−w).
bool gelu(mpfr_ptr y, mpfr_srcptr a, mpfr_srcptr /*b*/) {
  const bool negative = mpfr_signbit(a) != 0;
  if (is_minute(a)) {
    Float half(128);
    mpfr_div_2ui(half, a, 1, MPFR_RNDN);
    return truncate_next_to(y, half, !negative);
  }
  // a > 32: 1 − Phi(a) < exp(−a²/2) < 2^-738.
  if (mpfr_cmp_si(a, 32) > 0) return truncate_next_to(y, a, false);
  // a < −2^14: |v| < |a|·exp(−a²/2), which falls as a does and is below 2^(-2^24) here.
  if (mpfr_cmp_si_2exp(a, -1, 14) < 0) return vanish(y, true);
  return truncate_irrational(y, [&](mpfr_ptr r, mpfr_prec_t w) {
    Float t(w);
    mpfr_set_ui_2exp(t, 1, -1, MPFR_RNDN);
    mpfr_sqrt(t, t, MPFR_RNDN);
    mpfr_mul(t, t, a, MPFR_RNDN);
    mpfr_neg(t, t, MPFR_RNDN);
    mpfr_erfc(r, t, MPFR_RNDN);
    mpfr_mul(r, r, a, MPFR_RNDN);
    mpfr_div_2ui(r, r, 1, MPFR_RNDN);
    return 4L + (negative ? 2 * std::max<long>(0, mpfr_get_exp(t)) : 0);
  });
}

Unpacked<u128> evaluate(Evaluation evaluation, const Unpacked<u128>& x, const Unpacked<u128>& y,
                        int bits) {
  const Session session(working_exponent);
  Float a(128), b(128);
  set(a, x);
  set(b, y);
  // Never below 62 bits: MPFR 4.2.0 has faults at precision 1.
  Float result(std::max(bits, 62));
  const bool inexact = evaluation(result, a, b);
  return to_number(result, inexact);
}

}  // namespace halfulp::by_mpfr
