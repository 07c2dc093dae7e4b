// LLM.int8(): a product in 8-bit integers with the outlying columns of x taken out.
//
//   out (M, N) = x (M, K) · w (K, N)
//
// Dettmers, Lewis, Belkada & Zettlemoyer, arXiv 2208.07339, section 3:
//
//   1. Column k of x is an outlier if any |x[m, k]| >= threshold (6.0; NaN and infinities count).
//   2. In the others, row m of x has absmax r[m], column n of w absmax c[n]: maxima over the k that
//      are no outliers, so outliers are zeroed before absmax.
//   3. qx = rne(127·x/r), qw = rne(127·w/c): exact quotients, rounded once; 0 where r or c is 0.
//   4. s = Σ qx·qw over the k that are no outliers: exact in 32 bits (K < 131072).
//   5. out = s·r[m]·c[n]/127² + Σ x·w over the outliers, in that product's own arithmetic.
//
// Step 5 goes once over any arithmetic: sum = a chain of fma over the outliers, from +0; then
// (s·(r·c))/127², each rounded, s as it is; then their sum. A kernel may do it otherwise within
// γ_8·|s·r·c/127²| + γ_(outliers + 2)·Σ|x·w|.
//
// Traps: 6.0 itself is an outlier; a row of outliers alone has r = 0, and 127·x/r is no number;
// absmax before the outliers are zeroed makes r ten times too large; bitsandbytes' weights are
// quantised once, over all k, so that its c is another one.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/int8_matmul.hpp"

namespace halfulp::kernels {

// Steps 1 to 3.
struct LlmInt8Operands {
  std::vector<std::size_t> outliers;  // k, ascending
  std::vector<float> row_absmax, column_absmax;
  std::vector<std::int8_t> x, w;  // (M, K), (K, N); 0 at outliers
};

// rne(127·x / absmax). A quotient of two binary32 numbers that is no tie is at least 2^-26 of
// itself away from one, so that binary64 decides as the exact quotient does. 0 where absmax is no
// positive number.
inline std::int8_t absmax_code(float x, float absmax) {
  if (!(absmax > 0) || !std::isfinite(absmax)) return 0;
  const double q = 127.0 * static_cast<double>(x) / static_cast<double>(absmax);
  constexpr double magic = 0x1.8p52;  // adding it rounds to an integer, to nearest even
  return static_cast<std::int8_t>((q + magic) - magic);
}

inline LlmInt8Operands llm_int8_operands(MatmulShape s, const float* x, const float* w,
                                         float threshold = 6.0F) {
  LlmInt8Operands q;
  std::vector<bool> outlier(s.k, false);
  for (std::size_t k = 0; k < s.k; ++k) {
    for (std::size_t i = 0; i < s.m; ++i)
      if (!(std::fabs(x[i * s.k + k]) < threshold)) outlier[k] = true;
    if (outlier[k]) q.outliers.push_back(k);
  }
  // A column of w with NaN or an infinity has absmax NaN, and its results are NaN.
  const auto larger = [](float absmax, float v) {
    if (!std::isfinite(v) || absmax != absmax) return std::numeric_limits<float>::quiet_NaN();
    return std::fmax(absmax, std::fabs(v));
  };
  q.row_absmax.assign(s.m, 0.0F);
  q.column_absmax.assign(s.n, 0.0F);
  for (std::size_t i = 0; i < s.m; ++i)
    for (std::size_t k = 0; k < s.k; ++k)
      if (!outlier[k]) q.row_absmax[i] = larger(q.row_absmax[i], x[i * s.k + k]);
  for (std::size_t k = 0; k < s.k; ++k)
    for (std::size_t j = 0; j < s.n; ++j)
      if (!outlier[k]) q.column_absmax[j] = larger(q.column_absmax[j], w[k * s.n + j]);
  q.x.assign(s.m * s.k, 0);
  q.w.assign(s.k * s.n, 0);
  for (std::size_t i = 0; i < s.m; ++i)
    for (std::size_t k = 0; k < s.k; ++k)
      if (!outlier[k]) q.x[i * s.k + k] = absmax_code(x[i * s.k + k], q.row_absmax[i]);
  for (std::size_t k = 0; k < s.k; ++k)
    for (std::size_t j = 0; j < s.n; ++j)
      if (!outlier[k]) q.w[k * s.n + j] = absmax_code(w[k * s.n + j], q.column_absmax[j]);
  return q;
}

// value(v): a float, or an integer below 2^24 in magnitude, as a number of the arithmetic; what is
// no number of it is rounded. s beyond 2^24 is taken as the two numbers s − s mod 2^12 and s mod
// 2^12, joined by one rounded sum.
template <class A, class Value>
void llm_int8(const A& arith, Value value, MatmulShape s, const float* x, const float* w,
              const LlmInt8Operands& q, typename A::value_type* out) {
  using V = typename A::value_type;
  std::vector<std::int32_t> integers(s.m * s.n);
  int8_matmul(s, q.x.data(), q.w.data(), nullptr, integers.data());
  u64 site = 0;
  const V unit = value(16129.0F);  // 127²
  for (std::size_t i = 0; i < s.m; ++i) {
    for (std::size_t j = 0; j < s.n; ++j) {
      V sum = arith.zero();
      for (const std::size_t k : q.outliers)
        sum = arith.fma(value(x[i * s.k + k]), value(w[k * s.n + j]), sum, site++);
      const std::int32_t total = integers[i * s.n + j];
      const std::int32_t low = total & 0xFFF;
      const V whole =
          arith.add(value(static_cast<float>(total - low)), value(static_cast<float>(low)), site++);
      const V scales = arith.mul(value(q.row_absmax[i]), value(q.column_absmax[j]), site++);
      const V scaled = arith.div(arith.mul(whole, scales, site), unit, site + 1);
      site += 2;
      out[i * s.n + j] = arith.add(scaled, sum, site++);
    }
  }
}

}  // namespace halfulp::kernels
