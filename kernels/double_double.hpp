// Numbers of about 106 bits as unevaluated sums of two binary64 numbers (Dekker 1971; Knuth, TAOCP
// 2, 4.2.2): the arithmetic of references where MPFR would be a hundred times slower. Compiled with
// -ffp-contract=off, host only, round to nearest.
//
// Relative errors: add, sub 3·2^-106, mul 5·2^-106, div 10·2^-106, fma (mul, then add) not fused
// (Joldes, Muller & Popescu, "Tight and rigorous error bounds for basic building blocks of
// double-word arithmetic", 2017: algorithms 6, 11, 17); sqrt 2^-102, exp 2^-100, expm1 2^-98, log
// 2^-100 absolute where |log| < 1, else relative (not proven, but the worst that
// tests/unit/double_double_test.cpp saw against MPFR is smaller). Exact down to 2^-960: below, the
// low word underflows. Infinities, NaN and the signs of zeros come out as binary64's own, in
// `high`; low is then 0.
#pragma once

#include <cmath>
#include <limits>

#include "emu/core/wide.hpp"

namespace halfulp::kernels {

namespace dd {

struct DoubleDouble {
  double high = 0, low = 0;

  constexpr DoubleDouble() = default;
  constexpr DoubleDouble(double x) : high(x) {}  // NOLINT(google-explicit-constructor): exact
  constexpr DoubleDouble(double h, double l) : high(h), low(l) {}
};

inline DoubleDouble checked(double high, double low) {
  return std::isfinite(high) ? DoubleDouble{high, low} : DoubleDouble{high};
}
// |x| >= |y|, or x = 0.
inline DoubleDouble quick_two_sum(double x, double y) {
  const double s = x + y;
  return checked(s, y - (s - x));
}
inline DoubleDouble two_sum(double x, double y) {
  const double s = x + y;
  const double z = s - x;
  return checked(s, (x - (s - z)) + (y - z));
}
inline DoubleDouble two_product(double x, double y) {
  const double p = x * y;
  return checked(p, std::fma(x, y, -p));
}

inline DoubleDouble operator-(const DoubleDouble& x) {
  return {-x.high, -x.low};
}
inline DoubleDouble operator+(const DoubleDouble& x, const DoubleDouble& y) {
  const DoubleDouble s = two_sum(x.high, y.high);
  if (!std::isfinite(s.high)) return s;
  if (s.high == 0 && x.low == 0 && y.low == 0) return s;  // keeps the zero's sign, here and below
  const DoubleDouble t = two_sum(x.low, y.low);
  const DoubleDouble v = quick_two_sum(s.high, s.low + t.high);
  return quick_two_sum(v.high, v.low + t.low);
}
inline DoubleDouble operator-(const DoubleDouble& x, const DoubleDouble& y) {
  return x + -y;
}
inline DoubleDouble operator*(const DoubleDouble& x, const DoubleDouble& y) {
  const DoubleDouble p = two_product(x.high, y.high);
  if (!std::isfinite(p.high) || p.high == 0) return p;
  return quick_two_sum(p.high, std::fma(x.low, y.high, std::fma(x.high, y.low, p.low)));
}
inline DoubleDouble operator/(const DoubleDouble& x, const DoubleDouble& y) {
  const double q1 = x.high / y.high;
  if (!std::isfinite(q1) || !std::isfinite(y.high) || q1 == 0) return {q1};
  DoubleDouble r = x - DoubleDouble{q1} * y;
  const double q2 = r.high / y.high;
  r = r - DoubleDouble{q2} * y;
  const double q3 = r.high / y.high;
  return quick_two_sum(q1, q2) + DoubleDouble{q3};
}
inline bool operator<(const DoubleDouble& x, const DoubleDouble& y) {
  return x.high < y.high || (x.high == y.high && x.low < y.low);
}
inline bool operator==(const DoubleDouble& x, const DoubleDouble& y) {
  return x.high == y.high && x.low == y.low;
}
inline DoubleDouble abs(const DoubleDouble& x) {
  return std::signbit(x.high) ? -x : x;
}
inline DoubleDouble ldexp(const DoubleDouble& x, int n) {
  return checked(std::ldexp(x.high, n), std::ldexp(x.low, n));
}
inline DoubleDouble sqrt(const DoubleDouble& x) {
  if (!(x.high > 0) || !std::isfinite(x.high)) return {std::sqrt(x.high)};
  const double root = std::sqrt(x.high);
  const DoubleDouble r = x - two_product(root, root);
  return quick_two_sum(root, r.high / (2 * root));
}

inline constexpr DoubleDouble ln2{0x1.62e42fefa39efp-1, 0x1.abc9e3b39803fp-56};

// x = k·ln 2 + 512·r; exp(r) − 1 by its series, squared nine times as (1 + y)² − 1 = y·(2 + y),
// scaled.
inline DoubleDouble exp(const DoubleDouble& x) {
  if (std::isnan(x.high)) return x;
  if (x.high > 710) return {std::numeric_limits<double>::infinity()};
  if (x.high < -746) return {0.0};
  const double k = std::nearbyint(x.high / ln2.high);
  constexpr double ln2_tail = 0x1.7b57a079a1934p-111;  // ln 2 beyond 106 bits
  // Products of k are exact: rounding k·ln 2 to 106 bits would cost log2 |x| of the result's bits.
  DoubleDouble r =
      x - two_product(k, ln2.high) - two_product(k, ln2.low) - DoubleDouble{k * ln2_tail};
  r = ldexp(r, -9);
  DoubleDouble term = r, sum = r;
  for (int i = 2; i <= 10; ++i) {  // |r| < 2^-10.5: the next term is below 2^-140
    term = term * r / DoubleDouble{static_cast<double>(i)};
    sum = sum + term;
  }
  for (int i = 0; i < 9; ++i) sum = sum * (sum + DoubleDouble{2.0});
  return ldexp(sum + DoubleDouble{1.0}, static_cast<int>(k));
}

// exp(x) − 1, without cancellation near 0.
inline DoubleDouble expm1(const DoubleDouble& x) {
  if (x.high == 0) return x;
  if (std::abs(x.high) > 0.25 || !std::isfinite(x.high)) return exp(x) - DoubleDouble{1.0};
  DoubleDouble term = x, sum = x;
  for (int i = 2; i <= 26; ++i) {
    term = term * x / DoubleDouble{static_cast<double>(i)};
    sum = sum + term;
  }
  return sum;
}

// Two steps of Newton's on exp from binary64's logarithm, y += x·exp(−y) − 1; near 1 the error is
// absolute, 2^-100.
inline DoubleDouble log(const DoubleDouble& x) {
  if (!(x.high > 0) || !std::isfinite(x.high)) return {std::log(x.high)};
  int e = 0;
  std::frexp(x.high, &e);
  const DoubleDouble m = ldexp(x, -e);
  DoubleDouble y{std::log(m.high)};
  for (int i = 0; i < 2; ++i) y = y + (m * exp(-y) - DoubleDouble{1.0});
  return y + DoubleDouble{static_cast<double>(e)} * ln2;
}

}  // namespace dd

using dd::DoubleDouble;

// The arithmetic object (emu/core/emulated.hpp).
struct DoubleDoubles {
  using value_type = DoubleDouble;

  value_type zero() const { return {}; }
  value_type add(const value_type& x, const value_type& y, u64 /*site*/) const { return x + y; }
  value_type sub(const value_type& x, const value_type& y, u64 /*site*/) const { return x - y; }
  value_type mul(const value_type& x, const value_type& y, u64 /*site*/) const { return x * y; }
  value_type div(const value_type& x, const value_type& y, u64 /*site*/) const { return x / y; }
  value_type sqrt(const value_type& x, u64 /*site*/) const { return dd::sqrt(x); }
  value_type fma(const value_type& x, const value_type& y, const value_type& z,
                 u64 /*site*/) const {
    return x * y + z;
  }
  value_type scale(const value_type& x, int n, u64 /*site*/) const { return dd::ldexp(x, n); }
  value_type exp(const value_type& x, u64 /*site*/) const { return dd::exp(x); }
  value_type log(const value_type& x, u64 /*site*/) const { return dd::log(x); }
};

}  // namespace halfulp::kernels
