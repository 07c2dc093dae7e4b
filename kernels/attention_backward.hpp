// The gradients of attention, written once over any arithmetic; attention.hpp has the forward pass
// and the shapes.
//
//   dout (as q), and the forward pass's out and lse  ->  dq, dk, dv
//   P_ij = exp(s_ij − lse_i);  δ_i = Σ_d dout·out;  dP_ij = Σ_d dout_id·v_jd;
//   dS = P·(dP − δ);  dq_i = scale·Σ_j dS_ij·k_j;  dk_j = scale·Σ_i dS_ij·q_i;
//   dv_j = Σ_i P_ij·dout_i          (FlashAttention-2, arXiv:2307.08691, algorithm 2)
//
// Tiles: for each tile of keys, for each block of queries, P and dS are made again from lse; the
// sums of the tile start from +0 and are added to the gradients. With tiles of all keys and all
// queries it is the plain form. A tile in which any query sees any key is done whole, with P = dS =
// +0 where a key is not seen; other tiles are skipped.
//
// Versions: this one, attention_backward_float32 (attention_float32.hpp: the same bits). Bound:
// kernels/conformance/suites/attention_backward.cpp.
#pragma once

#include "kernels/attention.hpp"

namespace halfulp::kernels {

struct BackwardForm {
  std::size_t queries = 64, keys = 64;  // of a tile; at least 1
};

namespace detail {

// One head: pointers to its first token, tokens `stride` apart; dq, dk, dv distinct from all else.
template <class A, class Cast>
void backward_of_head(const AttentionArithmetic<A, Cast>& a, const BackwardForm& form,
                      const AttentionShape& s, const typename A::value_type& scale, bool causal,
                      const typename A::value_type* q, const typename A::value_type* k,
                      const typename A::value_type* v, const typename A::value_type* dout,
                      const typename A::value_type* out, const typename A::value_type* lse,
                      typename A::value_type* dq, typename A::value_type* dk,
                      typename A::value_type* dv, u64 site) {
  using V = typename A::value_type;
  const std::size_t stride = s.stride(), D = s.width;
  const V zero = a.state.zero();
  const auto clear = [&](V* x, std::size_t tokens) {
    for (std::size_t i = 0; i < tokens; ++i)
      for (std::size_t d = 0; d < D; ++d) x[i * stride + d] = zero;
  };
  clear(dq, s.queries);
  clear(dk, s.keys);
  clear(dv, s.keys);
  const auto dot = [&](const V* x, const V* y) {
    V sum = a.score.zero();
    for (std::size_t d = 0; d < D; ++d) sum = a.score.fma(x[d], y[d], sum, site++);
    return sum;
  };
  std::vector<V> delta;
  for (std::size_t i = 0; i < s.queries; ++i)
    delta.push_back(dot(dout + i * stride, out + i * stride));

  std::vector<V> p, ds;
  for (std::size_t j0 = 0; j0 < s.keys; j0 += form.keys) {
    const std::size_t j1 = std::min(s.keys, j0 + form.keys), columns = j1 - j0;
    for (std::size_t i0 = 0; i0 < s.queries; i0 += form.queries) {
      const std::size_t i1 = std::min(s.queries, i0 + form.queries);
      if (keys_seen(s, causal, i1 - 1) <= j0) continue;
      p.assign((i1 - i0) * columns, zero);
      ds.assign((i1 - i0) * columns, zero);
      for (std::size_t i = i0; i < i1; ++i) {
        for (std::size_t j = j0; j < std::min(j1, keys_seen(s, causal, i)); ++j) {
          const V score = a.weight.mul(dot(q + i * stride, k + j * stride), scale, site++);
          const V difference = a.weight.sub(score, lse[i], site++);
          const V weight = a.weight.exp(difference, site++);
          const V dp = dot(dout + i * stride, v + j * stride);
          const V less = a.weight.sub(dp, delta[i], site++);
          const std::size_t at = (i - i0) * columns + j - j0;
          p[at] = a.cast(weight);
          ds[at] = a.cast(a.weight.mul(weight, less, site++));
        }
      }
      // to[row] += Σ w·from, over the other index of the tile.
      const auto add = [&](V* to, std::size_t rows, std::size_t terms, const V* from,
                           const auto& weight) {
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t d = 0; d < D; ++d) {
            V sum = a.product.zero();
            for (std::size_t t = 0; t < terms; ++t)
              sum = a.product.fma(weight(r, t), from[t * stride + d], sum, site++);
            to[r * stride + d] = a.state.add(to[r * stride + d], sum, site++);
          }
        }
      };
      const auto of_keys = [&](const std::vector<V>& w) {
        return [&w, columns](std::size_t r, std::size_t t) { return w[t * columns + r]; };
      };
      add(dv + j0 * stride, columns, i1 - i0, dout + i0 * stride, of_keys(p));
      add(dk + j0 * stride, columns, i1 - i0, q + i0 * stride, of_keys(ds));
      add(dq + i0 * stride, i1 - i0, columns, k + j0 * stride,
          [&](std::size_t r, std::size_t t) { return ds[r * columns + t]; });
    }
  }
  const auto times_scale = [&](V* x, std::size_t tokens) {
    for (std::size_t i = 0; i < tokens; ++i)
      for (std::size_t d = 0; d < D; ++d)
        x[i * stride + d] = a.state.mul(x[i * stride + d], scale, site++);
  };
  times_scale(dq, s.queries);
  times_scale(dk, s.keys);
}

}  // namespace detail

// All heads. The roundings of head n are numbered from n·2^40 on. Throws std::invalid_argument for
// a tile without queries or keys.
template <class A, class Cast>
void attention_backward(const AttentionArithmetic<A, Cast>& arithmetic, const BackwardForm& form,
                        const AttentionShape& s, const typename A::value_type& scale, bool causal,
                        const typename A::value_type* q, const typename A::value_type* k,
                        const typename A::value_type* v, const typename A::value_type* dout,
                        const typename A::value_type* out, const typename A::value_type* lse,
                        typename A::value_type* dq, typename A::value_type* dk,
                        typename A::value_type* dv) {
  if (form.queries == 0 || form.keys == 0)
    throw std::invalid_argument("a tile needs at least 1 query and 1 key, not 0");
  for (std::size_t b = 0; b < s.batch; ++b) {
    for (std::size_t h = 0; h < s.heads; ++h) {
      const std::size_t of_q = s.q_at(b, 0, h), of_k = s.k_at(b, 0, h);
      detail::backward_of_head(arithmetic, form, s, scale, causal, q + of_q, k + of_k, v + of_k,
                               dout + of_q, out + of_q, lse + s.lse_at(b, h, 0), dq + of_q,
                               dk + of_k, dv + of_k, static_cast<u64>(b * s.heads + h) << 40);
    }
  }
}

}  // namespace halfulp::kernels
