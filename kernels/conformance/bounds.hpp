// What suites say about one element once they have the exact result and the error inside the
// kernel.
#pragma once

#include <cmath>
#include <limits>

#include "kernels/conformance/suite.hpp"
#include "kernels/double_double.hpp"

namespace halfulp::conformance {

// Exactly this: a NaN, an infinity, a zero with its sign, a number that is rounded once.
inline void expect_exactly(Expected& y, std::size_t i, double value) {
  y.reference[i] = value;
  y.low[i] = value == 0 ? value : 0;  // −0 + −0 is −0
  y.bound[i] = 0;
}

inline void expect_nothing(Expected& y, std::size_t i) {
  y.reference[i] = 0;
  y.bound[i] = std::numeric_limits<double>::infinity();
}

// exact, within `inside` before an output that is narrower than binary32 is rounded. Where all of
// that overflows: the infinity. Where some of it does, the reference is brought to 2^(emax + 1), as
// which an infinite output counts.
inline void expect_within(Expected& y, std::size_t i, const kernels::DoubleDouble& exact,
                          double inside, double condition, Element out) {
  const Format f = info(out).format;
  const double size = std::fabs(exact.high), end = std::ldexp(1.0, f.emax() + 1);
  const double unit = std::ldexp(1.0, -f.precision);
  double bound = inside;
  if (f.precision < 24)
    bound += unit * (size + inside) + std::ldexp(1.0, f.least_quantum_exponent() - 1);
  y.condition[i] = condition;
  if (size - inside >= end * (1 - unit / 2)) {
    expect_exactly(y, i, std::copysign(std::numeric_limits<double>::infinity(), exact.high));
    return;
  }
  y.reference[i] = size > end ? std::copysign(end, exact.high) : exact.high;
  y.low[i] = size > end ? 0 : exact.low;
  y.bound[i] = bound * (1 + 0x1p-40);
}

}  // namespace halfulp::conformance
