// Cross-entropy of a classifier's last layer without the matrix of its logits, written once over
// any arithmetic (Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models",
// arXiv:2411.09009).
//
//   loss_i = log Σ_j exp(a_ij) − a_i,target(i)        a = e·cᵀ: e (n, d), c (v, d), row-major
//   de = G·c, dc = Gᵀ·e,  G_ij = (exp(a_ij − lse_i) − [j = target(i)])·dloss_i
//
// Logits are made tile by tile and forgotten. Forward, each tile's maximum and sum are merged into
// those of the row (softmax.hpp). Backward, a tile of G is skipped where every |softmax − one-hot|
// in it lies below `filter`: that changes de_ik by at most filter·|dloss_i|·Σ |c_jk| over the
// skipped j, and dc_jk by filter·Σ |dloss_i|·|e_ik| over the skipped i. A tile with a NaN is not
// skipped.
//
// Arithmetic objects as in softmax.hpp. A chain of d fused multiply-adds makes a logit; no site is
// numbered, so stochastic modes are not for this file.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/softmax.hpp"

namespace halfulp::kernels {

struct CrossEntropyShape {
  std::size_t n = 0, v = 0, d = 0;  // tokens, vocabulary, width
};
struct CrossEntropyTile {
  std::size_t n = 64, v = 64;  // at least 1
};

// Machine epsilon of bfloat16, binary16 and binary32 over 32, as the paper has it.
inline constexpr double cross_entropy_filter_bfloat16 = 0x1p-12,
                        cross_entropy_filter_float16 = 0x1p-15,
                        cross_entropy_filter_float32 = 0x1p-28;

namespace detail {

template <class A>
typename A::value_type logit(const A& arith, std::size_t d, const typename A::value_type* e,
                             const typename A::value_type* c) {
  auto sum = arith.zero();
  for (std::size_t k = 0; k < d; ++k) sum = arith.fma(e[k], c[k], sum, 0);
  return sum;
}

template <class A>
constexpr bool is_below(const A& arith, const typename A::value_type& x,
                        const typename A::value_type& limit) {
  const auto least = arith.sub(arith.zero(), limit, 0);
  return is_less(x, limit) && is_less(least, x);
}

}  // namespace detail

// target[i] in 0 … v − 1. lse (n) is what the backward pass needs. NaN among a row's logits gives
// NaN; +∞ gives lse = +∞. v = 0: lse is −∞ and nothing else is written.
template <class A>
void cross_entropy(const A& arith, CrossEntropyShape shape, CrossEntropyTile tile,
                   const typename A::value_type* e, const typename A::value_type* c,
                   const std::int64_t* target, typename A::value_type* loss,
                   typename A::value_type* lse) {
  using V = typename A::value_type;
  std::vector<V> logits(std::min(tile.v, shape.v));
  for (std::size_t i = 0; i < shape.n; ++i) {
    RunningSum<V> run;
    V special{}, of_target{};
    bool is_special = false;
    for (std::size_t from = 0; from < shape.v; from += tile.v) {
      const std::size_t count = std::min(tile.v, shape.v - from);
      for (std::size_t j = 0; j < count; ++j) {
        logits[j] = detail::logit(arith, shape.d, e + i * shape.d, c + (from + j) * shape.d);
        if (static_cast<std::size_t>(target[i]) == from + j) of_target = logits[j];
      }
      const auto m = detail::maximum(arith, logits.data(), count);
      if (m.kind == detail::RowKind::nan || m.kind == detail::RowKind::highest) {
        if (!is_special || m.kind == detail::RowKind::nan) special = m.value;
        is_special = true;
      } else {
        run = merge(arith, run, running_sum(arith, logits.data(), count), 0);
      }
    }
    lse[i] = is_special ? special
             : run.any  ? arith.add(run.maximum, arith.log(run.sum, 0), 0)
                        : arith.log(arith.zero(), 0);
    if (shape.v != 0) loss[i] = arith.sub(lse[i], of_target, 0);
  }
}

// How many tiles of G were skipped. filter: a value of the arithmetic; zero skips none. de and dc
// are written whole; tiles are walked down the tokens, then along the vocabulary.
template <class A>
std::size_t cross_entropy_backward(const A& arith, CrossEntropyShape shape, CrossEntropyTile tile,
                                   const typename A::value_type* e, const typename A::value_type* c,
                                   const std::int64_t* target, const typename A::value_type* lse,
                                   const typename A::value_type* dloss,
                                   const typename A::value_type& filter, typename A::value_type* de,
                                   typename A::value_type* dc) {
  using V = typename A::value_type;
  std::fill(de, de + shape.n * shape.d, arith.zero());
  std::fill(dc, dc + shape.v * shape.d, arith.zero());
  const V one = arith.exp(arith.zero(), 0);
  std::vector<V> part(std::min(tile.n, shape.n) * std::min(tile.v, shape.v));
  std::size_t skipped = 0;
  for (std::size_t row = 0; row < shape.n; row += tile.n) {
    const std::size_t rows = std::min(tile.n, shape.n - row);
    for (std::size_t column = 0; column < shape.v; column += tile.v) {
      const std::size_t columns = std::min(tile.v, shape.v - column);
      bool all_below = true;
      for (std::size_t i = 0; i < rows; ++i) {
        for (std::size_t j = 0; j < columns; ++j) {
          const V a =
              detail::logit(arith, shape.d, e + (row + i) * shape.d, c + (column + j) * shape.d);
          V g = arith.exp(arith.sub(a, lse[row + i], 0), 0);
          if (static_cast<std::size_t>(target[row + i]) == column + j) g = arith.sub(g, one, 0);
          all_below = all_below && detail::is_below(arith, g, filter);
          part[i * columns + j] = g;
        }
      }
      if (all_below) {
        ++skipped;
        continue;
      }
      for (std::size_t i = 0; i < rows; ++i) {
        for (std::size_t j = 0; j < columns; ++j) {
          const V g = arith.mul(part[i * columns + j], dloss[row + i], 0);
          const V* er = e + (row + i) * shape.d;
          const V* cr = c + (column + j) * shape.d;
          V* der = de + (row + i) * shape.d;
          V* dcr = dc + (column + j) * shape.d;
          for (std::size_t k = 0; k < shape.d; ++k) {
            der[k] = arith.fma(g, cr[k], der[k], 0);
            dcr[k] = arith.fma(g, er[k], dcr[k], 0);
          }
        }
      }
    }
  }
  return skipped;
}

}  // namespace halfulp::kernels
