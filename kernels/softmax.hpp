// Softmax and log-sum-exp, written once over any arithmetic.
//
//   softmax(x)_i = exp(x_i) / Σ exp(x_j)        log_sum_exp(x) = log Σ exp(x_j)
//
// The arithmetic object has, beside what all have (emu/core/emulated.hpp), exp(x, site),
// log(x, site) and exp_pair(x, site), a Pair of exp x whose significand is a value of the format
// (pairs.hpp), and pairs_reach(m), whether exp_pair is right for m and for all that matters below;
// exponential_arithmetic.hpp makes such objects.
//
//   three-pass   the maximum m; exp(x_i − m) and their sum; the quotients
//   online       the maximum and the sum in one pass, the sum multiplied by exp(m − m') where the
//                maximum changes (Milakov & Gimelshein, arXiv:1805.02867)
//   two-pass     each exponential a pair, summed as pairs (Dukhan & Ablavatski, arXiv:2001.04438):
//                no maximum; then (p·(1/v))·2^(n − e). Where pairs do not reach: three-pass
//
// Special rows, in every version: NaN or +∞ in it, or all −∞, gives NaN everywhere; −∞ gives +0;
// an empty row gives nothing. log_sum_exp: NaN gives NaN; +∞ itself; all −∞, or no element, −∞.
//
// Bounds to first order, u the unit roundoff, ε exp's relative error, h the depth of the sum (n − 1
// here), g the exact result (docs/softmax.md has the proofs):
//   three-pass  ([(m − x_j) + min(log n, m − x_min) + h + 2]·u + 2ε)·g_j
//   online      R(ε + u)·g_j more, R the changes of the maximum
//   two-pass    (h + 3)·u + 2ε, ε that of pairs: no term in m − x_j
// Versions: this one; softmax_float32.hpp (binary32, binary16, bfloat16, vectors and threads);
// cuda/softmax.hpp.
#pragma once

#include <cstddef>

#include "emu/core/arithmetic.hpp"
#include "kernels/pairs.hpp"

namespace halfulp::kernels {

enum class SoftmaxAlgorithm : std::uint8_t { three_pass, online, two_pass };
inline constexpr const char* softmax_algorithm_names[] = {"three-pass", "online", "two-pass"};

// m and Σ exp(x − m) of some elements. The identity is (−∞, 0): `any` is false.
template <class V>
struct RunningSum {
  V maximum{}, sum{};
  bool any = false;
};

namespace detail {

template <class V>
constexpr bool is_less(const V& x, const V& y) {
  return x < y;
}
template <class S>
constexpr bool is_less(const Unpacked<S>& x, const Unpacked<S>& y) {
  return compare(x, y) == Ordering::less;
}

enum class RowKind : std::uint8_t { empty, ordinary, lowest, highest, nan };  // lowest: all −∞

template <class V>
constexpr bool is_nan_value(const V& x) {
  return x != x;
}
template <class S>
constexpr bool is_nan_value(const Unpacked<S>& x) {
  return x.kind == Kind::nan;
}
// x − x is NaN of an infinity.
template <class A>
constexpr bool is_infinite(const A& arith, const typename A::value_type& x) {
  return !is_nan_value(x) && is_nan_value(arith.sub(x, x, 0));
}

template <class V>
struct Maximum {
  V value{};
  RowKind kind = RowKind::empty;
};

template <class A>
constexpr Maximum<typename A::value_type> maximum(const A& arith, const typename A::value_type* x,
                                                  std::size_t n) {
  Maximum<typename A::value_type> m;
  for (std::size_t i = 0; i < n; ++i) {
    if (is_nan_value(x[i])) return {x[i], RowKind::nan};
    if (i == 0 || is_less(m.value, x[i])) m.value = x[i];
  }
  if (n == 0) return m;
  m.kind = !is_infinite(arith, m.value)     ? RowKind::ordinary
           : is_less(arith.zero(), m.value) ? RowKind::highest
                                            : RowKind::lowest;
  return m;
}

template <class A>
Pair<typename A::value_type> sum_of_pairs(const A& arith, const typename A::value_type* x,
                                          std::size_t n) {
  auto total = identity(arith);
  for (std::size_t i = 0; i < n; ++i)
    total = add(arith, total, arith.exp_pair(x[i], 4 * i), 2 * i + 1);
  return total;
}

}  // namespace detail

// One more element, not NaN. α = exp(0) = 1 is not computed: only changes of the maximum cost.
template <class A>
constexpr void take(const A& arith, const typename A::value_type& x, u64 i,
                    RunningSum<typename A::value_type>& run) {
  const auto one = arith.exp(arith.zero(), 0);
  if (!run.any) {
    run = {x, one, true};
  } else if (detail::is_less(run.maximum, x)) {
    const auto alpha = arith.exp(arith.sub(run.maximum, x, 4 * i), 4 * i + 1);
    run.sum = arith.add(arith.mul(run.sum, alpha, 4 * i + 2), one, 4 * i + 3);
    run.maximum = x;
  } else {
    const auto term = arith.exp(arith.sub(x, run.maximum, 4 * i), 4 * i + 1);
    run.sum = arith.add(run.sum, term, 4 * i + 3);
  }
}

// The two together; associative in exact arithmetic only.
template <class A>
constexpr RunningSum<typename A::value_type> merge(const A& arith,
                                                   const RunningSum<typename A::value_type>& a,
                                                   const RunningSum<typename A::value_type>& b,
                                                   u64 i) {
  if (!a.any) return b;
  if (!b.any) return a;
  const bool first = detail::is_less(a.maximum, b.maximum);
  const auto& low = first ? a : b;
  const auto& high = first ? b : a;
  const auto alpha = arith.exp(arith.sub(low.maximum, high.maximum, 4 * i), 4 * i + 1);
  return {high.maximum, arith.add(high.sum, arith.mul(low.sum, alpha, 4 * i + 2), 4 * i + 3), true};
}

// −∞ is passed over: it adds nothing. Not for rows with NaN or +∞.
template <class A>
constexpr RunningSum<typename A::value_type> running_sum(const A& arith,
                                                         const typename A::value_type* x,
                                                         std::size_t n) {
  RunningSum<typename A::value_type> run;
  for (std::size_t i = 0; i < n; ++i) {
    if (!detail::is_infinite(arith, x[i])) take(arith, x[i], i, run);
  }
  return run;
}

// One row; y may be x. Sites: below 4n for the terms and their sum, 4n + 4i … for the results.
template <class A>
void softmax(const A& arith, SoftmaxAlgorithm algorithm, const typename A::value_type* x,
             std::size_t n, typename A::value_type* y) {
  using V = typename A::value_type;
  const auto m = detail::maximum(arith, x, n);
  if (m.kind == detail::RowKind::empty) return;
  if (m.kind != detail::RowKind::ordinary) {
    const V nan = arith.sub(m.value, m.value, 0);
    for (std::size_t i = 0; i < n; ++i) y[i] = nan;
    return;
  }
  if (algorithm == SoftmaxAlgorithm::two_pass && !arith.pairs_reach(m.value))
    algorithm = SoftmaxAlgorithm::three_pass;
  const u64 after = 4 * static_cast<u64>(n);
  const auto shifted = [&](std::size_t i) {
    return arith.exp(arith.sub(x[i], m.value, 4 * i), 4 * i + 1);
  };
  switch (algorithm) {
    case SoftmaxAlgorithm::three_pass: {
      V sum = arith.zero();
      for (std::size_t i = 0; i < n; ++i) sum = arith.add(sum, shifted(i), 4 * i + 3);
      for (std::size_t i = 0; i < n; ++i) y[i] = arith.div(shifted(i), sum, after + 4 * i);
      return;
    }
    case SoftmaxAlgorithm::online: {
      const RunningSum<V> run = running_sum(arith, x, n);
      for (std::size_t i = 0; i < n; ++i) y[i] = arith.div(shifted(i), run.sum, after + 4 * i);
      return;
    }
    case SoftmaxAlgorithm::two_pass: {
      const Pair<V> total = detail::sum_of_pairs(arith, x, n);
      const V one = arith.exp(arith.zero(), 0);
      const V inverse = arith.div(one, total.v, after);
      for (std::size_t i = 0; i < n; ++i) {
        const Pair<V> term = arith.exp_pair(x[i], 4 * i);
        y[i] = detail::aligned(arith, arith.mul(term.v, inverse, after + 4 * i + 1), term.e,
                               total.e, after + 4 * i + 2);
      }
      return;
    }
  }
}

template <class A>
typename A::value_type log_sum_exp(const A& arith, SoftmaxAlgorithm algorithm,
                                   const typename A::value_type* x, std::size_t n) {
  using V = typename A::value_type;
  const auto m = detail::maximum(arith, x, n);
  const u64 after = 4 * static_cast<u64>(n);
  if (m.kind == detail::RowKind::empty) return arith.log(arith.zero(), after);
  if (m.kind != detail::RowKind::ordinary) return m.value;
  if (algorithm == SoftmaxAlgorithm::two_pass && arith.pairs_reach(m.value)) {
    const Pair<V> total = detail::sum_of_pairs(arith, x, n);
    const V one = arith.exp(arith.zero(), 0);
    V exponent = arith.zero();  // as a value, by its digits
    for (int k = 0; k < 31; ++k) {
      if (((total.e < 0 ? -total.e : total.e) >> k & 1) != 0)
        exponent = arith.add(exponent, arith.scale(one, k, after), after + 1);
    }
    if (total.e < 0) exponent = arith.sub(arith.zero(), exponent, after + 2);
    const V ln2 = arith.log(arith.scale(one, 1, after + 3), after + 4);
    return arith.fma(exponent, ln2, arith.log(total.v, after + 5), after + 6);
  }
  V sum = arith.zero();
  if (algorithm == SoftmaxAlgorithm::online) {
    sum = running_sum(arith, x, n).sum;
  } else {
    for (std::size_t i = 0; i < n; ++i)
      sum = arith.add(sum, arith.exp(arith.sub(x[i], m.value, 4 * i), 4 * i + 1), 4 * i + 3);
  }
  return arith.add(m.value, arith.log(sum, after + 1), after + 2);
}

}  // namespace halfulp::kernels
