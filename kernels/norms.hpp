// LayerNorm (Ba, Kiros & Hinton 2016, arXiv:1607.06450) and RMSNorm (Zhang & Sennrich 2019,
// arXiv:1910.07467) of a row, written once over any arithmetic.
//
//   layer_norm   y[i] = ((x[i] − μ)·r)·weight[i] + bias[i],   r = 1 / √(σ² + ε)
//   rms_norm     y[i] = (x[i]·r)·weight[i],                   r = 1 / √(mean(x²) + ε)
//
// μ and σ² (the mean of (x − μ)², divided by n) in one of three forms:
//
//   two_pass   Σx, then Σ(x − μ)²
//   welford    the mean and Σ(x − μ)² brought up to date by each element (Welford 1962), lanes
//              merged by the formula of Chan, Golub & LeVeque (1983)
//   one_pass   σ² = mean(x²) − μ²: cancels, κ² in place of κ below. Known to be bad, not to be
//   used.
//
// Sums go by `lanes`, a power of two L: lane l adds x[l], x[l + L], … in sequence from +0, then
// neighbouring lanes are added, then neighbouring sums, and so on. L = 1 is a chain, L >= n a tree.
//
// Promise: each operation is rounded once by the arithmetic, in this order. norms_float32.hpp (on
// processors, vectors and threads) and cuda/norms.hpp give the same bits as this over Native<float>
// with the lanes that they name. Error: kernels/conformance/suites/norms.cpp proves
// |ŷ − y| <= |w|·r·(C·n·u·mean|x| + …), which in units of y grows with κ = √(1 + μ²/σ²), for the
// first two forms; for one_pass the error of σ² is n·u·mean(x²), κ² times σ² itself.
//
// Roundings are numbered in the order in which they are done, from `site` on, which is left at the
// next.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/number.hpp"

namespace halfulp::kernels {

enum class Moments : std::uint8_t { two_pass, welford, one_pass };
inline constexpr const char* moments_names[] = {"two-pass", "welford", "one-pass"};

struct NormForm {
  Moments moments = Moments::two_pass;
  std::size_t lanes = 1;  // a power of two
};

template <class V>
struct MeanAndVariance {
  V mean, variance;
};

namespace detail {

template <class A, class Values>
auto neighbours(const A& arith, Values values, u64& site) {
  for (std::size_t n = values.size(); n > 1; n /= 2) {
    for (std::size_t j = 0; j < n / 2; ++j)
      values[j] = arith.add(values[2 * j], values[2 * j + 1], site++);
  }
  return values[0];
}

// Σ term(i), i < n.
template <class A, class Term>
typename A::value_type sum_by_lanes(const A& arith, std::size_t n, std::size_t lanes, u64& site,
                                    Term term) {
  std::vector<typename A::value_type> sums(lanes, arith.zero());
  for (std::size_t i = 0; i < n; ++i) sums[i % lanes] = arith.add(sums[i % lanes], term(i), site++);
  return neighbours(arith, sums, site);
}

template <class A>
MeanAndVariance<typename A::value_type> welford(const A& arith, std::size_t lanes, std::size_t n,
                                                const typename A::value_type* x, u64& site) {
  using V = typename A::value_type;
  struct Part {
    std::size_t count;
    V mean, squares;
  };
  std::vector<Part> parts(lanes, {0, arith.zero(), arith.zero()});
  for (std::size_t i = 0; i < n; ++i) {
    Part& p = parts[i % lanes];
    const V count = number(arith, static_cast<double>(++p.count));
    const V before = arith.sub(x[i], p.mean, site++);
    p.mean = arith.add(p.mean, arith.div(before, count, site), site + 1);
    const V after = arith.sub(x[i], p.mean, site + 2);
    p.squares = arith.add(p.squares, arith.mul(before, after, site + 3), site + 4);
    site += 5;
  }
  for (std::size_t m = lanes; m > 1; m /= 2) {
    for (std::size_t j = 0; j < m / 2; ++j) {
      const Part &a = parts[2 * j], &b = parts[2 * j + 1];
      if (b.count == 0) {  // lanes fill up in order
        parts[j] = a;
        continue;
      }
      const auto total = static_cast<double>(a.count + b.count);
      const V share = arith.div(number(arith, static_cast<double>(b.count)), number(arith, total),
                                site);  // of b
      const V apart = arith.sub(b.mean, a.mean, site + 1);
      const V moved = arith.mul(apart, share, site + 2);
      const V weight = arith.mul(number(arith, static_cast<double>(a.count)), moved, site + 3);
      const V squares = arith.add(a.squares, b.squares, site + 4);
      parts[j] = {a.count + b.count, arith.add(a.mean, moved, site + 5),
                  arith.add(squares, arith.mul(apart, weight, site + 6), site + 7)};
      site += 8;
    }
  }
  return {parts[0].mean,
          arith.div(parts[0].squares, number(arith, static_cast<double>(n)), site++)};
}

template <class A>
typename A::value_type inverse_root(const A& arith, const typename A::value_type& v,
                                    const typename A::value_type& epsilon, u64& site) {
  const auto root = arith.sqrt(arith.add(v, epsilon, site), site + 1);
  const auto r = arith.div(number(arith, 1), root, site + 2);
  site += 3;
  return r;
}

}  // namespace detail

// Of n >= 1 elements.
template <class A>
MeanAndVariance<typename A::value_type> mean_and_variance(const A& arith, NormForm form,
                                                          std::size_t n,
                                                          const typename A::value_type* x,
                                                          u64& site) {
  using V = typename A::value_type;
  if (form.moments == Moments::welford) return detail::welford(arith, form.lanes, n, x, site);
  const V count = number(arith, static_cast<double>(n));
  const V sum =
      detail::sum_by_lanes(arith, n, form.lanes, site, [&](std::size_t i) { return x[i]; });
  const V mean = arith.div(sum, count, site++);
  const bool once = form.moments == Moments::one_pass;
  const V squares = detail::sum_by_lanes(arith, n, form.lanes, site, [&](std::size_t i) {
    const V d = once ? x[i] : arith.sub(x[i], mean, site++);
    return arith.mul(d, d, site++);
  });
  V variance = arith.div(squares, count, site++);
  if (once) {
    variance = arith.sub(variance, arith.mul(mean, mean, site), site + 1);
    site += 2;
  }
  return {mean, variance};
}

// weight, bias: n numbers, or null for 1 and 0, which then cost no rounding. y may be x.
template <class A>
void layer_norm(const A& arith, NormForm form, std::size_t n, const typename A::value_type* x,
                const typename A::value_type* weight, const typename A::value_type* bias,
                const typename A::value_type& epsilon, typename A::value_type* y, u64 site = 0) {
  if (n == 0) return;
  const auto m = mean_and_variance(arith, form, n, x, site);
  const auto r = detail::inverse_root(arith, m.variance, epsilon, site);
  for (std::size_t i = 0; i < n; ++i) {
    auto v = arith.mul(arith.sub(x[i], m.mean, site), r, site + 1);
    if (weight != nullptr) v = arith.mul(v, weight[i], site + 2);
    if (bias != nullptr) v = arith.add(v, bias[i], site + 3);
    y[i] = v;
    site += 4;
  }
}

template <class A>
void rms_norm(const A& arith, std::size_t lanes, std::size_t n, const typename A::value_type* x,
              const typename A::value_type* weight, const typename A::value_type& epsilon,
              typename A::value_type* y, u64 site = 0) {
  if (n == 0) return;
  const auto squares = detail::sum_by_lanes(
      arith, n, lanes, site, [&](std::size_t i) { return arith.mul(x[i], x[i], site++); });
  const auto mean = arith.div(squares, number(arith, static_cast<double>(n)), site++);
  const auto r = detail::inverse_root(arith, mean, epsilon, site);
  for (std::size_t i = 0; i < n; ++i) {
    auto v = arith.mul(x[i], r, site);
    if (weight != nullptr) v = arith.mul(v, weight[i], site + 1);
    y[i] = v;
    site += 2;
  }
}

}  // namespace halfulp::kernels
