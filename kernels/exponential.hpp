// exp of binary32 as a pair (p, n), exp x = p·2^n, in additions and fused multiply-adds of binary32
// alone: the same bits on every processor. What softmax is made of, for one number; the vector
// loops of softmax_float32.inc are the same operations.
//
//   n = rne(x·log2 e)                       by one fused multiply-add and the addend 1.5·2^23
//   t = (x − n·ln2_high) − n·ln2_low        two fused multiply-adds (Dukhan & Ablavatski, Two-Pass
//                                           Softmax, arXiv:2001.04438)
//   p = 1 + t(1 + t·q(t))                   degree 7, fitted for |t| <= 0.7
//
// |x| <= exponent_limit + 110: |n| < 2^17, so the addition finds n, |t| < 0.3476, and n·(ln 2 −
// ln2_high − ln2_low) is below 2^-36. With u = 2^-24 each of the two steps of t errs by at most
// u/4, p by at most near_exp_error·u of itself, and by exp_error·u for |t| <= 0.7 (every such t is
// compared in tests/unit/softmax_test.cpp). A difference of two such t is rounded by u/2 at most.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/pairs.hpp"

namespace halfulp::kernels::exponential {

inline constexpr float log2_e = 0x1.715476p0F;
inline constexpr float ln2_high = 0x1.62e43p-1F;
inline constexpr float ln2_low = -0x1.05c61p-29F;
inline constexpr float rounder = 0x1.8p23F;
// Least relative error in binary64's arithmetic: 2^-25.9 (Lawson's algorithm on 4000 points).
inline constexpr float q[] = {0x1.00000cp-1F, 0x1.55550ap-3F,  0x1.55499cp-5F,
                              0x1.112936p-7F, 0x1.71d7acp-10F, 0x1.9b2f36p-13F};
inline constexpr double exp_error = 2.05, near_exp_error = 1.17;  // |t| <= 0.7, |t| <= 0.3476
inline constexpr float exponent_limit = 65536;                    // of |x|
inline constexpr int least_exponent = -94549;  // below rne(−exponent_limit·log2 e)

struct Reduced {
  float t;
  std::int32_t n;
};
inline Reduced reduced(float x) {
  const float n = std::fma(x, log2_e, rounder) - rounder;
  const float t = std::fma(n, -ln2_high, x);
  return {std::fma(n, -ln2_low, t), static_cast<std::int32_t>(n)};
}
inline float polynomial(float t) {
  float p = q[5];
  for (int k = 4; k >= 0; --k) p = std::fma(p, t, q[k]);
  p = std::fma(p, t, 1.0F);
  return std::fma(p, t, 1.0F);
}

// Whether pairs serve a row of maximum m: what is cut off at −exponent_limit then lies so far below
// m that it is 0 in every result.
inline bool reached(float m) {
  return m >= -exponent_limit + 256 && m <= exponent_limit;
}

// For any x but NaN: beyond the limit the exponent is that limit's, and the result is only known to
// be as large or as small. −∞ gives (+0, no_exponent).
inline Pair<float> exp_pair(float x) {
  if (x == -HUGE_VALF) return {0.0F, no_exponent};
  x = x < -exponent_limit ? -exponent_limit : x > exponent_limit ? exponent_limit : x;
  const Reduced r = reduced(x);
  return {polynomial(r.t), r.n};
}

// log v, v > 0 and normal: 2·artanh z, z = (m − 1)/(m + 1), v = m·2^e; a few units of the last
// place, and the same bits on every processor, where libm has variants.
constexpr double log_of(double v) {
  const auto bits = std::bit_cast<std::uint64_t>(v);
  int e = static_cast<int>(bits >> 52) - 1022;
  double m = std::bit_cast<double>((bits & ~(0x7ffULL << 52)) | 0x3feULL << 52);  // in [½, 1)
  if (m < 0.70710678118654757) {
    m *= 2;
    --e;
  }
  const double z = (m - 1) / (m + 1), square = z * z;  // z² < 0.0295
  double sum = 1.0 / 27;
  for (int k = 25; k >= 1; k -= 2) sum = sum * square + 1.0 / k;
  return e * 0.6931471805599453 + 2 * z * sum;
}

}  // namespace halfulp::kernels::exponential
