// Random operands of cases: a pure function of suite, version and key, the same on every machine
// (Philox, no libm).
#pragma once

#include "emu/core/philox.hpp"
#include "kernels/conformance/suite.hpp"

namespace halfulp::conformance {

class Draws {
 public:
  Draws(std::string_view suite, int version, const CaseKey& key);

  u64 bits();                               // 64
  u64 below(u64 n);                         // 0 … n−1; the bias is below n·2^-64
  double uniform(double low, double high);  // a multiple of (high − low)·2^-53
  double normal();  // twelve uniforms added, less 6: within ±6, mean 0, variance 1, exact
  bool one_in(u64 n) { return below(n) == 0; }
  // ±(1 + fraction)·2^e, e uniform in low … high; the fraction uniform, or with few ones or zeros,
  // each at times.
  double spread(int low, int high);
  // Of a float type: now and then a boundary (zeros, least, least normal, 1 ± ulp, largest), else
  // random bits. Finite; infinities and NaN are put in by families that ask for them.
  double any_finite(Element e);
  // NaN, an infinity, or a boundary, each as often (as far as the type has them).
  double special(Element e);

 private:
  u64 key_[2];
  u64 taken_ = 0;
};

// Every value of these is a boundary of the type: ±0, the least subnormal, the largest subnormal,
// the least normal, 1 and its neighbours, the largest, ±infinity and NaN.
std::vector<double> boundaries(Element e, bool specials);

}  // namespace halfulp::conformance
