// States of softmax-weighted sums, and their merge, written once over any arithmetic.
//
// A state (m, l, o) of a set of keys with scores s_j and values v_j:
//   m = max s_j,  l = Σ exp(s_j − m),  o = Σ exp(s_j − m)·v_j;   of no key: (−∞, 0, 0)
//   (m, l, o) ⊕ (m', l', o') = (M, e^(m−M)·l + e^(m'−M)·l', e^(m−M)·o + e^(m'−M)·o'),  M = max(m,
//   m')
// (Lean Attention, arXiv:2405.10480; FlashDecoding.) ⊕ is associative in exact arithmetic only.
// A side whose maximum is −∞ is dropped as it is, so that (−∞, 0, 0) is the identity bit for bit,
// on either side, and no −∞ − −∞ arises. A part whose scores are all NaN has the maximum −∞ too,
// since NaN is never a maximum: its l is NaN, and it must not be dropped.
//
// Bound, to nearest, unit roundoff u, exp within a relative ε: a term of l or o that goes through
// r merges has a relative error of at most
//   (M − m_i)·u + r·(ε + 2u)    to first order:
// each merge costs the rounding of m − M, which the exponent takes as it is (the differences of all
// merges add up to M − m_i), exp, a product (not where it is within the fma) and a sum; the side
// with the larger maximum has exp(0) = 1 and a product with 1, exact. Of a tree over P parts r is
// its depth, at most P − 1.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "emu/core/wide.hpp"

namespace halfulp::kernels {

template <class V>
struct AttentionState {
  V m{}, l{};
  std::vector<V> o;
};

template <class A>
AttentionState<typename A::value_type> no_keys(const A& arith, std::size_t width) {
  using V = typename A::value_type;
  return {arith.minus_infinity(), arith.zero(), std::vector<V>(width, arith.zero())};
}

// Sites: `site`, and the 2·(width + 3) after it.
template <class A>
AttentionState<typename A::value_type> merge(const A& arith,
                                             const AttentionState<typename A::value_type>& a,
                                             const AttentionState<typename A::value_type>& b,
                                             u64 site = 0) {
  using V = typename A::value_type;
  const auto is_empty = [&](const AttentionState<V>& x) {
    return arith.is_minus_infinity(x.m) && !arith.is_nan(x.l);
  };
  if (is_empty(a)) return b;
  if (is_empty(b)) return a;
  const V m = arith.less(a.m, b.m) ? b.m : a.m;
  const V of_a = arith.exp(arith.sub(a.m, m, site), site + 1);
  const V of_b = arith.exp(arith.sub(b.m, m, site + 2), site + 3);
  const auto sum = [&](const V& x, const V& y, u64 at) {
    return arith.fma(of_a, x, arith.mul(of_b, y, at), at + 1);
  };
  AttentionState<V> out{m, sum(a.l, b.l, site + 4), {}};
  out.o.reserve(a.o.size());
  for (std::size_t d = 0; d < a.o.size(); ++d)
    out.o.push_back(sum(a.o[d], b.o[d], site + 6 + 2 * d));
  return out;
}

// Which tree: over the parts in their order.
enum class MergeTree : std::uint8_t {
  sequential,  // ((0 ⊕ 1) ⊕ 2) ⊕ …
  reversed,    // … (n−3 ⊕ (n−2 ⊕ n−1))
  pairwise,    // neighbours first, then neighbours of those, the odd one out waiting
};

// Of no parts: the identity.
template <class A>
AttentionState<typename A::value_type> merge_all(
    const A& arith, std::vector<AttentionState<typename A::value_type>> parts, MergeTree tree,
    std::size_t width, u64 site = 0) {
  if (parts.empty()) return no_keys(arith, width);
  const u64 step = 2 * (width + 3);
  const auto join = [&](std::size_t i, std::size_t j) {
    parts[i] = merge(arith, parts[i], parts[j], site);
    site += step;
  };
  const std::size_t n = parts.size();
  switch (tree) {
    case MergeTree::sequential:
      for (std::size_t i = 1; i < n; ++i) join(0, i);
      return parts[0];
    case MergeTree::reversed:
      for (std::size_t i = n - 1; i > 0; --i) join(i - 1, i);
      return parts[0];
    case MergeTree::pairwise:
      for (std::size_t gap = 1; gap < n; gap *= 2)
        for (std::size_t i = 0; i + gap < n; i += 2 * gap) join(i, i + gap);
      return parts[0];
  }
  return parts[0];
}

}  // namespace halfulp::kernels
