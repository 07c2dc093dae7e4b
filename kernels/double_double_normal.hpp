// The normal distribution's function Φ and erf in double-double, for references.
//
//   |t| < 3   Φ(t) = 1/2 + φ(t)·(t + t³/3 + t⁵/(3·5) + t⁷/(3·5·7) + …): for t > 0 all terms are
//             positive; Φ(−t) = 1 − Φ(t) loses 9.6 bits at most
//   t <= −3   Φ(t) = φ(t)·R(−t), Mills' ratio by Laplace's continued fraction
//             R(t) = 1/(t + 1/(t + 2/(t + 3/(t + …)))), whose error falls as exp(−1.8·t·√terms)
//
// (Abramowitz & Stegun 1964, 26.2.10, 26.2.11, 26.2.14.) Relative error at most 2^-94 for t > −36
// (tests/unit/conformance_norms_test.cpp, against MPFR); below, low words underflow.
#pragma once

#include "kernels/double_double.hpp"

namespace halfulp::kernels::dd {

inline constexpr DoubleDouble inverse_root_2pi{0x1.9884533d43651p-2, -0x1.cbc0d30ebfd15p-56};
inline constexpr DoubleDouble root_half{0x1.6a09e667f3bcdp-1, -0x1.bdd3413b26456p-55};
inline constexpr DoubleDouble root_2{0x1.6a09e667f3bcdp+0, -0x1.bdd3413b26456p-54};

inline DoubleDouble normal_density(const DoubleDouble& t) {
  return inverse_root_2pi * exp(ldexp(-(t * t), -1));
}

inline DoubleDouble normal(const DoubleDouble& t) {
  if (std::isnan(t.high)) return t;
  if (t.high > 16) return {1.0};  // 1 − 2^-189
  if (t.high < -38.6) return {0.0};
  if (t.high <= -3) {
    const DoubleDouble s = -t;
    const int terms = 30 + static_cast<int>(2000 / (s.high * s.high));
    DoubleDouble tail = s;
    for (int k = terms; k > 0; --k) tail = s + DoubleDouble{static_cast<double>(k)} / tail;
    return normal_density(s) / tail;
  }
  if (t.high >= 3) return DoubleDouble{1.0} - normal(-t);
  const DoubleDouble square = t * t;
  DoubleDouble term = t, sum = t;
  for (int k = 3; std::fabs(term.high) > std::fabs(sum.high) * 0x1p-110; k += 2) {
    term = term * square / DoubleDouble{static_cast<double>(k)};
    sum = sum + term;
  }
  return DoubleDouble{0.5} + normal_density(t) * sum;
}

// erf(x), relative error as above also near 0: twice the series alone.
inline DoubleDouble erf(const DoubleDouble& x) {
  const DoubleDouble t = x * root_2;
  if (!(std::fabs(t.high) < 3)) return ldexp(normal(t), 1) - DoubleDouble{1.0};
  const DoubleDouble square = t * t;
  DoubleDouble term = t, sum = t;
  for (int k = 3; std::fabs(term.high) > std::fabs(sum.high) * 0x1p-110; k += 2) {
    term = term * square / DoubleDouble{static_cast<double>(k)};
    sum = sum + term;
  }
  return ldexp(normal_density(t) * sum, 1);
}

}  // namespace halfulp::kernels::dd
