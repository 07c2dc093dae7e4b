// Arithmetic objects with exp, log and exp_pair, for softmax.hpp and cross_entropy.hpp.
#pragma once

#include <bit>
#include <cmath>
#include <limits>

#include "emu/core/emulated.hpp"
#include "kernels/elementary.hpp"
#include "kernels/exponential.hpp"

namespace halfulp::kernels {

// binary32: exp within 0.501 ulp, log within 0.51, both the same bits on every processor.
struct Float32Exponential : Native<float> {
  static constexpr float exp(float x, u64 /*site*/) {
    return x == x ? elementary::exp_float(x) : std::bit_cast<float>(0x7fc00000U);
  }
  static constexpr float log(float x, u64 /*site*/) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    if (!(x > 0)) return x == 0 ? -infinity : std::numeric_limits<float>::quiet_NaN();
    if (x == infinity) return x;
    return static_cast<float>(exponential::log_of(static_cast<double>(x)));
  }
  static Pair<float> exp_pair(float x, u64 /*site*/) { return exponential::exp_pair(x); }
  static bool pairs_reach(float m) { return exponential::reached(m); }
};

// binary64 by libm.
struct Float64Exponential : Native<double> {
  static double exp(double x, u64 /*site*/) { return std::exp(x); }
  static double log(double x, u64 /*site*/) { return std::log(x); }
  static Pair<double> exp_pair(double x, u64 /*site*/) {
    if (x < -1e8) return {0.0, no_exponent};
    const double n = std::nearbyint(x * 1.4426950408889634);
    const double t = std::fma(n, -0x1.abc9e3b39803fp-56, std::fma(n, -0x1.62e42fefa39efp-1, x));
    return {std::exp(t), static_cast<std::int32_t>(n)};
  }
  static bool pairs_reach(double m) { return m > -1e6 && m < 1e6; }
};

}  // namespace halfulp::kernels
