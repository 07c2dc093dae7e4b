// Attention, written once over any arithmetic, one query at a time.
//
//   q (B, S, H, D), k and v (B, T, H, D)  ->  out (B, S, H, D), lse (B, H, S)
//   s_j = scale · Σ_d q_d·k_jd;   out = Σ_j exp(s_j − lse)·v_j;   lse = log Σ_j exp(s_j)
//   causal: query i sees the keys j <= i + T − S, so that the last query sees all (FlashAttention
//   from version 2.1; torch's is_causal has j <= i, which is the same where S = T only).
//   A query that sees no key: out = +0, lse = −∞.
//
// Forms, equal in exact arithmetic:
//   plain          all scores; their maximum; weights exp(s − m), their sum, quotients; out = Σ w·v
//   flash          tiles of keys with a running state (m, l, o): M = max(m, tile), α = exp(m − M),
//                  l = α·l + Σp, o = α·o + Σp·v, divided once at the end (FlashAttention-2,
//                  arXiv:2307.08691)
//   split          parts of the keys, each flash by itself, then merged (attention_merge.hpp)
//   fixed_maximum  one φ for all: p = exp(s − φ), nothing rescaled, as long as a < s − φ < b for
//                  every key; else the query is done again by flash (FlashDecoding++,
//                  arXiv:2311.01282). No lower guard, no warning: below about −104 every weight is
//                  0 in binary32, and with all of them l too.
//
// What is rounded: AttentionArithmetic names an arithmetic object for each part, `cast` the format
// of the weights that meet v. Versions: this one (the reference), attention_float32.hpp (binary32
// in vectors, flash: equal bit for bit to this one over NativeExp<float>).
//
// Bound, to nearest, u the unit roundoff of all parts, first order, underflow apart. Write
// g_j = exp(s_j − lse), A_j = |scale|·Σ|q||k_j|:
//   scores    |δs_j| <= (D + 1)·u·A_j: D fused operations and the product with scale
//   weights   relative error of p_j against l:
//             w_j = |δs_j| + (m − s_j)·u + (R + 1)(ε + 2u), R the changes of the maximum after j:
//             the differences that go into exp add up to m − s_j over all changes, each change
//             costs exp and a product
//   sums      of l and of p·v: h_l·u and h_o·u, h the depth of each (tile + tiles at most)
//   out       |δo| <= Σ_j g_j|v_j|·(w_j + max w + (h_l + h_o + 1)·u + u_cast): each weight's own
//             error, that of l, both sums, the quotient, the cast
//   lse       |δ| <= max w + h_l·u + u·(|m| + |lse|) + the error of log
#pragma once

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels/attention_merge.hpp"

namespace halfulp::kernels {

struct AttentionShape {
  std::size_t batch = 1, queries = 0, keys = 0, heads = 1, width = 0;  // B, S, T, H, D

  std::size_t stride() const { return heads * width; }  // from token to token
  std::size_t q_at(std::size_t b, std::size_t i, std::size_t h) const {
    return ((b * queries + i) * heads + h) * width;
  }
  std::size_t k_at(std::size_t b, std::size_t j, std::size_t h) const {
    return ((b * keys + j) * heads + h) * width;
  }
  std::size_t lse_at(std::size_t b, std::size_t h, std::size_t i) const {
    return (b * heads + h) * queries + i;
  }
};

// Query i sees the keys 0 … keys_seen − 1.
inline std::size_t keys_seen(const AttentionShape& s, bool causal, std::size_t i) {
  if (!causal) return s.keys;
  const std::size_t end = i + 1 + s.keys;
  return end <= s.queries ? 0 : std::min(s.keys, end - s.queries);
}

enum class AttentionKind : std::uint8_t { plain, flash, split, fixed_maximum };
inline constexpr const char* attention_names[] = {"plain", "flash", "split", "fixed-maximum"};

struct AttentionForm {
  AttentionKind kind = AttentionKind::flash;
  std::size_t tile = 128;  // keys; at least 1
  // The weights of a tile (of all keys, where there are no tiles) are added in so many sums, number
  // j to sum j mod lanes, which a tree of halves joins: 1, or a power of two.
  std::size_t lanes = 1;
  std::size_t parts = 1;  // of split: of ceil(keys seen / parts) keys each
  MergeTree tree = MergeTree::sequential;
};

// Of fixed_maximum.
template <class V>
struct FixedMaximum {
  V phi, low, high;
};

struct NoCast {
  template <class V>
  const V& operator()(const V& x) const {
    return x;
  }
};

template <class A, class Cast = NoCast>
struct AttentionArithmetic {
  A score;    // q·k: fma after fma from +0
  A weight;   // times scale, less the maximum, exp, sums of weights, factors of the state
  A product;  // weights · v within a tile: fma after fma from +0
  A state;    // α·o + product, and the quotient at the end
  Cast cast{};
};

template <class A>
AttentionArithmetic<A> all_in(const A& a) {
  return {a, a, a, a, {}};
}

namespace detail {

template <class A, class Cast>
class QueryAttention {
 public:
  using V = typename A::value_type;
  using State = AttentionState<V>;

  // Sites are numbered from `site` on, in the order of the operations.
  QueryAttention(const AttentionArithmetic<A, Cast>& arithmetic, const V* q, const V* k, const V* v,
                 std::size_t stride, std::size_t width, const V& scale, std::size_t lanes, u64 site)
      : a_(arithmetic),
        q_(q),
        k_(k),
        v_(v),
        stride_(stride),
        width_(width),
        scale_(scale),
        lanes_(lanes),
        site_(site) {}

  std::vector<V> scores(std::size_t from, std::size_t to) {
    std::vector<V> s;
    s.reserve(to - from);
    for (std::size_t j = from; j < to; ++j) {
      V sum = a_.score.zero();
      for (std::size_t d = 0; d < width_; ++d)
        sum = a_.score.fma(q_[d], k_[j * stride_ + d], sum, site_++);
      s.push_back(a_.weight.mul(sum, scale_, site_++));
    }
    return s;
  }

  // NaN is never the maximum.
  V maximum(V m, const std::vector<V>& s) const {
    for (const V& x : s)
      if (a_.weight.less(m, x)) m = x;
    return m;
  }

  // What is taken from the scores: so that no −∞ − −∞ arises, where nothing but −∞ was seen.
  V base(const V& m) const { return a_.weight.is_minus_infinity(m) ? a_.weight.zero() : m; }

  void weigh(std::vector<V>& s, const V& from) {
    for (V& x : s) {
      const V difference = a_.weight.sub(x, from, site_++);
      x = a_.weight.exp(difference, site_++);
    }
  }

  V sum(const std::vector<V>& p) {
    std::vector<V> lane(lanes_, a_.weight.zero());
    for (std::size_t j = 0; j < p.size(); ++j)
      lane[j % lanes_] = a_.weight.add(lane[j % lanes_], p[j], site_++);
    for (std::size_t half = lanes_ / 2; half > 0; half /= 2)
      for (std::size_t i = 0; i < half; ++i)
        lane[i] = a_.weight.add(lane[i], lane[i + half], site_++);
    return lane[0];
  }

  // Σ p_j·v_(first + j).
  std::vector<V> product(const std::vector<V>& p, std::size_t first) {
    std::vector<V> o(width_, a_.product.zero());
    for (std::size_t j = 0; j < p.size(); ++j) {
      const V w = a_.cast(p[j]);
      for (std::size_t d = 0; d < width_; ++d)
        o[d] = a_.product.fma(w, v_[(first + j) * stride_ + d], o[d], site_++);
    }
    return o;
  }

  State plain(std::size_t keys) {
    State out = no_keys(a_.weight, width_);
    if (keys == 0) return out;
    std::vector<V> p = scores(0, keys);
    out.m = maximum(out.m, p);
    weigh(p, base(out.m));
    out.l = sum(p);
    for (V& x : p) x = a_.weight.div(x, out.l, site_++);
    out.o = product(p, 0);
    return out;
  }

  State flash(std::size_t from, std::size_t to, std::size_t tile) {
    State state = no_keys(a_.weight, width_);
    for (std::size_t first = from; first < to; first += tile) {
      std::vector<V> p = scores(first, std::min(to, first + tile));
      const V m = maximum(state.m, p);
      const V less = base(m);
      const V change = a_.weight.sub(state.m, less, site_++);
      const V alpha = a_.weight.exp(change, site_++);
      weigh(p, less);
      const V l = sum(p);
      state.m = m;
      state.l = a_.weight.fma(alpha, state.l, l, site_++);
      const std::vector<V> o = product(p, first);
      for (std::size_t d = 0; d < width_; ++d)
        state.o[d] = a_.state.fma(alpha, state.o[d], o[d], site_++);
    }
    return state;
  }

  State split(std::size_t keys, const AttentionForm& form) {
    std::vector<State> parts;
    const std::size_t length = std::max<std::size_t>(1, (keys + form.parts - 1) / form.parts);
    for (std::size_t first = 0; first < keys; first += length)
      parts.push_back(flash(first, std::min(keys, first + length), form.tile));
    const u64 first_site = site_;
    site_ += parts.size() * 2 * (width_ + 3);
    return merge_all(a_.state, std::move(parts), form.tree, width_, first_site);
  }

  // Whether all differences were within the limits; only then `state` is set.
  bool fixed_maximum(std::size_t keys, const FixedMaximum<V>& fixed, State& state) {
    std::vector<V> p = scores(0, keys);
    for (V& x : p) {
      const V difference = a_.weight.sub(x, fixed.phi, site_++);
      if (!a_.weight.less(fixed.low, difference) || !a_.weight.less(difference, fixed.high))
        return false;
      x = a_.weight.exp(difference, site_++);
    }
    state = {fixed.phi, sum(p), product(p, 0)};
    return true;
  }

  // o / l, and lse.
  void finish(const State& state, bool divide, V* out, V* lse) {
    const V log = a_.weight.log(state.l, site_++);
    const bool none = a_.weight.is_minus_infinity(state.m) && a_.weight.is_minus_infinity(log);
    for (std::size_t d = 0; d < width_; ++d)
      out[d] = none     ? a_.state.zero()
               : divide ? a_.state.div(state.o[d], state.l, site_++)
                        : state.o[d];
    *lse = none ? a_.weight.minus_infinity() : a_.weight.add(state.m, log, site_++);
  }

 private:
  const AttentionArithmetic<A, Cast>& a_;
  const V *q_, *k_, *v_;
  std::size_t stride_, width_;
  V scale_;
  std::size_t lanes_;
  u64 site_;
};

}  // namespace detail

// Returns how many queries fixed_maximum left to flash. `fixed` is read by that form alone. The
// roundings of query n (of all B·H·S, in that order) are numbered from n·2^32 on. Throws
// std::invalid_argument for a tile of 0 keys, 0 parts, and lanes that are no power of two.
template <class A, class Cast>
std::size_t attention(const AttentionArithmetic<A, Cast>& arithmetic, const AttentionForm& form,
                      const AttentionShape& shape, const typename A::value_type& scale, bool causal,
                      const typename A::value_type* q, const typename A::value_type* k,
                      const typename A::value_type* v, typename A::value_type* out,
                      typename A::value_type* lse,
                      const FixedMaximum<typename A::value_type>* fixed = nullptr) {
  using V = typename A::value_type;
  if (form.tile == 0) throw std::invalid_argument("a tile needs at least 1 key, not 0");
  if (form.parts == 0) throw std::invalid_argument("keys are split into at least 1 part, not 0");
  if (form.lanes == 0 || (form.lanes & (form.lanes - 1)) != 0)
    throw std::invalid_argument("lanes are a power of two, not " + std::to_string(form.lanes));
  if (form.kind == AttentionKind::fixed_maximum && fixed == nullptr)
    throw std::invalid_argument("the form fixed-maximum needs phi and its limits");
  std::size_t again = 0;
  for (std::size_t b = 0; b < shape.batch; ++b) {
    for (std::size_t h = 0; h < shape.heads; ++h) {
      for (std::size_t i = 0; i < shape.queries; ++i) {
        const std::size_t keys = keys_seen(shape, causal, i), at = shape.lse_at(b, h, i);
        detail::QueryAttention<A, Cast> query(
            arithmetic, q + shape.q_at(b, i, h), k + shape.k_at(b, 0, h), v + shape.k_at(b, 0, h),
            shape.stride(), shape.width, scale, form.lanes, static_cast<u64>(at) << 32);
        AttentionState<V> state;
        switch (form.kind) {
          case AttentionKind::plain: state = query.plain(keys); break;
          case AttentionKind::flash: state = query.flash(0, keys, form.tile); break;
          case AttentionKind::split: state = query.split(keys, form); break;
          case AttentionKind::fixed_maximum:
            if (keys != 0 && query.fixed_maximum(keys, *fixed, state)) break;
            again += keys != 0 ? 1 : 0;
            state = query.flash(0, keys, form.tile);
            break;
        }
        query.finish(state, form.kind != AttentionKind::plain, out + shape.q_at(b, i, h), lse + at);
      }
    }
  }
  return again;
}

}  // namespace halfulp::kernels
