// The gradients of attention, broken in one way each.
#include <algorithm>

#include "tests/strength/subject.hpp"

namespace halfulp_strength {

namespace {

enum class Fault {
  none,         // whole matrices, weights as quotients
  from_lse,     // correct: weights made again from lse
  from_out,     // correct: the row term from out and dout
  backwards,    // correct: queries and keys from the end
  in_double,    // correct: binary64 inside
  cast,         // correct with 16-bit operands: P and dS rounded to their type
  no_row_term,  // dS = P·dP
  row_term_added,
  row_term_of_values,  // Σ dout·v of the query's own place for Σ dout·out
  row_before,          // the row term of the query before
  no_scale,            // of dq and dk
  scale_of_dq_alone,
  scale_twice,
  unnormalised,  // exp(s − m) for P
  causal_ignored,
  causal_strict,    // the diagonal is masked too
  causal_shifted,   // aligned to the other corner
  tile_lost,        // keys beyond a multiple of 16
  last_query_lost,  // of dk and dv
  dk_overwritten,   // the last query's dk for the sum
  dv_from_scores,   // dS for P
  dk_from_dout,     // dout for q
  dq_next_key,      // the key after
  heads_exchanged,  // k of the next head
  batch_exchanged,
  bfloat16_p,
  bfloat16_ds,
  bfloat16_sum,
  half_out,        // the row term from out rounded to 11 bits
  masked_row_nan,  // a query that sees nothing divides 0 by 0
  nan_swallowed,
  unwritten_keys,  // keys that no query sees are not written
  d_tail,          // the last of D not in dP
};

template <class T>
T dot(const View& x, std::int64_t i, const View& y, std::int64_t j, std::int64_t n) {
  T sum = 0;
  for (std::int64_t d = 0; d < n; ++d) sum += static_cast<T>(x[i + d]) * static_cast<T>(y[j + d]);
  return sum;
}

template <Fault f>
struct Head {
  using T = std::conditional_t<f == Fault::in_double, double, float>;
  View q, k, v, dout;
  std::int64_t S, T_, H, D, B;
  float scale;
  bool causal;
  std::vector<T> dq, dk, dv;

  std::int64_t query(std::int64_t b, std::int64_t i, std::int64_t h) const {
    return ((b * S + i) * H + h) * D;
  }
  std::int64_t key(std::int64_t b, std::int64_t j, std::int64_t h) const {
    return ((b * T_ + j) * H + h) * D;
  }
  bool sees(std::int64_t i, std::int64_t j) const {
    if (!causal || f == Fault::causal_ignored) return true;
    const std::int64_t last = f == Fault::causal_shifted ? i : i + T_ - S;
    return f == Fault::causal_strict ? j < last : j <= last;
  }
  T narrowed(T x) const {
    if (f != Fault::cast || !q.is_16_bits()) return x;
    const auto y = static_cast<float>(x);
    return q.type() == 4 ? as_bfloat16(y) : View::from_half(View::to_half(y));
  }

  // What query i of a head adds to all three.
  void add(std::int64_t b, std::int64_t h, std::int64_t i, T& term_before) {
    const std::int64_t of_q = query(b, i, h);
    const std::int64_t of_k = f == Fault::heads_exchanged ? (h + 1) % H : h;
    const std::int64_t batch = f == Fault::batch_exchanged ? (b + 1) % B : b;
    std::vector<std::int64_t> keys;
    for (std::int64_t s = 0; s < T_; ++s) {
      const std::int64_t j = f == Fault::backwards ? T_ - 1 - s : s;
      if (f == Fault::tile_lost && T_ > 16 && j >= T_ - T_ % 16) continue;
      if (sees(i, j)) keys.push_back(j);
    }
    std::vector<T> p(keys.size());
    std::vector<T> dp(keys.size());
    T m = -std::numeric_limits<T>::infinity();
    for (std::size_t n = 0; n < keys.size(); ++n) {
      p[n] = dot<T>(q, of_q, k, key(batch, keys[n], of_k), D) * static_cast<T>(scale);
      if (f == Fault::nan_swallowed && std::isnan(p[n])) p[n] = -std::numeric_limits<T>::infinity();
      m = std::max(m, std::isnan(p[n]) ? m : p[n]);
      const std::int64_t width = f == Fault::d_tail && D > 1 ? D - 1 : D;
      dp[n] = dot<T>(dout, of_q, v, key(b, keys[n], h), width);
      if (f == Fault::nan_swallowed && std::isnan(dp[n])) dp[n] = 0;
    }
    if (keys.empty()) {
      if constexpr (f == Fault::masked_row_nan) {
        for (std::int64_t d = 0; d < D; ++d)
          dq[static_cast<std::size_t>(of_q + d)] = std::numeric_limits<T>::quiet_NaN();
      }
      return;
    }
    T l = 0;
    for (const T s : p) l += std::exp(s - m);
    const T lse = m + std::log(l);
    std::vector<T> out(static_cast<std::size_t>(D));
    T term = 0;
    for (std::size_t n = 0; n < keys.size(); ++n) {
      p[n] = f == Fault::from_lse       ? std::exp(p[n] - lse)
             : f == Fault::unnormalised ? std::exp(p[n] - m)
                                        : std::exp(p[n] - m) / l;
      if constexpr (f == Fault::bfloat16_p) p[n] = as_bfloat16(static_cast<float>(p[n]));
      term += p[n] * dp[n];
      for (std::int64_t d = 0; d < D; ++d)
        out[static_cast<std::size_t>(d)] += p[n] * static_cast<T>(v[key(b, keys[n], h) + d]);
    }
    if constexpr (f == Fault::from_out || f == Fault::half_out) {
      term = 0;
      for (std::int64_t d = 0; d < D; ++d) {
        T o = out[static_cast<std::size_t>(d)];
        if constexpr (f == Fault::half_out)
          o = View::from_half(View::to_half(static_cast<float>(o)));
        term += o * static_cast<T>(dout[of_q + d]);
      }
    }
    if constexpr (f == Fault::row_term_of_values)
      term = dot<T>(dout, of_q, v, key(b, std::min(i, T_ - 1), h), D);
    const T own = term;
    if constexpr (f == Fault::row_before) term = term_before;
    term_before = own;
    if constexpr (f == Fault::no_row_term) term = 0;
    if constexpr (f == Fault::row_term_added) term = -term;
    for (std::size_t n = 0; n < keys.size(); ++n) {
      T ds = p[n] * (dp[n] - term);
      if constexpr (f == Fault::bfloat16_ds) ds = as_bfloat16(static_cast<float>(ds));
      const std::int64_t at = key(b, keys[n], h);
      const std::int64_t next = f == Fault::dq_next_key ? key(b, (keys[n] + 1) % T_, h) : at;
      const T of_p = narrowed(p[n]);
      const T of_s = narrowed(ds);
      for (std::int64_t d = 0; d < D; ++d) {
        T& to_q = dq[static_cast<std::size_t>(of_q + d)];
        T& to_k = dk[static_cast<std::size_t>(at + d)];
        T& to_v = dv[static_cast<std::size_t>(at + d)];
        to_q += of_s * static_cast<T>(k[next + d]);
        if constexpr (f == Fault::bfloat16_sum) to_q = as_bfloat16(static_cast<float>(to_q));
        if (f == Fault::last_query_lost && S > 1 && i + 1 == S) continue;
        if constexpr (f == Fault::dk_overwritten) to_k = 0;
        to_k += of_s * static_cast<T>(f == Fault::dk_from_dout ? dout[of_q + d] : q[of_q + d]);
        to_v += (f == Fault::dv_from_scores ? of_s : of_p) * static_cast<T>(dout[of_q + d]);
      }
    }
  }
};

template <Fault f>
int gradients(void* /*state*/, const halfulp_call* call) {
  using T = typename Head<f>::T;
  const View q = in(call, "q");
  const View k = in(call, "k");
  const auto size = [](const View& x) { return static_cast<std::size_t>(x.count()); };
  Head<f> x{q,
            k,
            in(call, "v"),
            in(call, "dout"),
            q.extent(1),
            k.extent(1),
            q.extent(2),
            q.extent(3),
            q.extent(0),
            static_cast<float>(halfulp::conformance::find_attribute(*call, "scale", 1)),
            halfulp::conformance::find_attribute(*call, "causal", 0) != 0,
            std::vector<T>(size(q)),
            std::vector<T>(size(k)),
            std::vector<T>(size(k))};
  for (std::int64_t b = 0; b < x.B; ++b) {
    for (std::int64_t h = 0; h < x.H; ++h) {
      T before = 0;
      for (std::int64_t i = 0; i < x.S; ++i)
        x.add(b, h, f == Fault::backwards ? x.S - 1 - i : i, before);
    }
  }
  const T scale = f == Fault::no_scale      ? 1
                  : f == Fault::scale_twice ? static_cast<T>(x.scale) * static_cast<T>(x.scale)
                                            : static_cast<T>(x.scale);
  const View dq = out(call, "dq");
  const View dk = out(call, "dk");
  const View dv = out(call, "dv");
  for (std::int64_t n = 0; n < dq.count(); ++n)
    dq.set(n, static_cast<float>(x.dq[static_cast<std::size_t>(n)] * scale));
  const std::int64_t seen = x.S == 0 ? 0 : x.T_;
  for (std::int64_t n = 0; n < dk.count(); ++n) {
    if (f == Fault::unwritten_keys && seen == 0) continue;
    const auto at = static_cast<std::size_t>(n);
    dk.set(n, static_cast<float>(f == Fault::scale_of_dq_alone ? x.dk[at] : x.dk[at] * scale));
    dv.set(n, static_cast<float>(x.dv[at]));
  }
  return HALFULP_OK;
}

}  // namespace

void add_attention_gradients(Subjects& all) {
#define GRADIENT(fault, what, correct) \
  all.push_back({"attention-backward", variant, #fault, what, correct, gradients<Fault::fault>});
  for (const char* variant : {"float32", "float16", "bfloat16"}) {
    GRADIENT(none, "whole matrices", true)
    GRADIENT(from_lse, "weights made again from lse", true)
    GRADIENT(from_out, "the row term from out", true)
    GRADIENT(backwards, "queries and keys from the end", true)
    GRADIENT(in_double, "binary64 inside", true)
    GRADIENT(cast, "P and dS rounded to the operands' type", true)
    GRADIENT(no_row_term, "dS without the row term", false)
    GRADIENT(row_term_added, "the row term added", false)
    GRADIENT(row_term_of_values, "dout times v for dout times out", false)
    GRADIENT(row_before, "the row term of the query before", false)
    GRADIENT(no_scale, "dq and dk without the scale", false)
    GRADIENT(scale_of_dq_alone, "dk without the scale", false)
    GRADIENT(scale_twice, "the scale twice", false)
    GRADIENT(unnormalised, "weights not divided by their sum", false)
    GRADIENT(causal_ignored, "the causal mask is not applied", false)
    GRADIENT(causal_strict, "the diagonal is masked", false)
    GRADIENT(causal_shifted, "the mask aligned to the other corner", false)
    GRADIENT(tile_lost, "keys beyond a multiple of 16 left out", false)
    GRADIENT(last_query_lost, "the last query adds nothing to dk and dv", false)
    GRADIENT(dk_overwritten, "a query's dk replaces those before", false)
    GRADIENT(dv_from_scores, "dS for P in dv", false)
    GRADIENT(dk_from_dout, "dout for q in dk", false)
    GRADIENT(dq_next_key, "the next key in dq", false)
    GRADIENT(heads_exchanged, "scores by keys of the next head", false)
    GRADIENT(batch_exchanged, "scores by keys of the next batch entry", false)
    GRADIENT(masked_row_nan, "a query without keys gives NaN", false)
    GRADIENT(nan_swallowed, "NaN is skipped", false)
    GRADIENT(unwritten_keys, "keys of no query not written", false)
    GRADIENT(d_tail, "the last of D not in dP", false)
  }
  const char* const variant = "float32";
  GRADIENT(bfloat16_p, "weights rounded to bfloat16", false)
  GRADIENT(bfloat16_ds, "dS rounded to bfloat16", false)
  GRADIENT(bfloat16_sum, "dq summed in bfloat16", false)
  GRADIENT(half_out, "the row term from out in binary16", false)
#undef GRADIENT
}

}  // namespace halfulp_strength
