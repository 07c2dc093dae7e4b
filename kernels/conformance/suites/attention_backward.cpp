// Gradients of attention: dq, dk and dv of q, k, v and dout. docs/suites/attention-backward.md.
//
// Exact: weights g_ij, dP_ij = Σ_d dout·v, δ_i = Σ_j g_ij·dP_ij, dS = g·(dP − δ). Bounds, of
// kernels that compute inside in binary32, u = 2^-24, by any tiles in any order; x_j and e_j are
// those of attention.cpp:
//   weights  normalised by l or made again from a rounded lse: |δg_j| <= G_j =
//            e_j + g_j·λ,  λ = (Σe + Σ g·(T + R + 5)u)/(1 − …) + 3u(|m| + |lse|) + 4u(1 + log T) +
//            2u·max(|s_j|, |lse|)
//   dP       |δ| <= (D + 2)·u·Σ|dout v_j| = X_j
//   δ        from out as it was stored: Σ_d |dout|·(error of out, its rounding to the element type
//            included) + (D + 2)u·Σ|dout·out|; or from the weights: Σ_j G_j|dP_j| + (g_j + G_j)·X_j
//            + (T + 2)u·g_j|dP_j|. The larger of the two: Y.
//   dS       (g_j + G_j)·(X_j + Y + 2u·|dP_j − δ|) + G_j·|dP_j − δ|, and the cast to a 16-bit
//   element
//            type: u_c·|dS| (float16: and 2^-25)
//   dq       scale·Σ_j (δdS_j + (T + 5)u·|dS_j|)·|k_j|;   dk: the same over queries, with S and q
//   dv       Σ_i (G_ij + g_ij·((S + 5)u + u_c))·|dout_i|  (float16: and 2^-25·Σ|dout|)
// each with its rounding to the element type, and 2^-125 for each term that may underflow. Where
// Σe >= 1/2 nothing is asked.
#include <algorithm>
#include <cmath>
#include <limits>

#include "emu/core/formats.hpp"
#include "kernels/attention_arithmetic.hpp"
#include "kernels/attention_float32.hpp"
#include "kernels/conformance/suites.hpp"
#include "kernels/conformance/suites/attention_cases.hpp"

namespace halfulp::conformance {

namespace {

using kernels::AttentionShape;
using kernels::DoubleDouble;

constexpr double u = 0x1p-24;
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

// ---------------------------------------------------------------- builtins

struct Operands {
  AttentionShape shape;
  float scale = 1;
  bool causal = false;
  std::vector<float> q, k, v, dout, out, lse, dq, dk, dv;

  explicit Operands(const halfulp_call& call) {
    const halfulp_dltensor &of_q = *find_input(call, "q"), &of_k = *find_input(call, "k");
    const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
    shape = {size(of_q.shape[0]), size(of_q.shape[1]), size(of_k.shape[1]), size(of_q.shape[2]),
             size(of_q.shape[3])};
    scale = static_cast<float>(find_attribute(call, "scale", 1));
    causal = find_attribute(call, "causal", 0) != 0;
    q = floats_of(of_q);
    k = floats_of(of_k);
    v = floats_of(*find_input(call, "v"));
    dout = floats_of(*find_input(call, "dout"));
    out.resize(q.size());
    lse.resize(shape.batch * shape.heads * shape.queries);
    dq.resize(q.size());
    dk.resize(k.size());
    dv.resize(k.size());
    kernels::attention_float32(shape, scale, causal, q.data(), k.data(), v.data(), out.data(),
                               lse.data(), 1, 64);
  }

  void write(const halfulp_call& call) const {
    set_floats(*find_output(call, "dq"), dq);
    set_floats(*find_output(call, "dk"), dk);
    set_floats(*find_output(call, "dv"), dv);
  }
};

// Plain: one tile of everything.
int plain(void*, const halfulp_call* call) {
  if (!is_widened(*find_input(*call, "q"))) return HALFULP_UNSUPPORTED;
  Operands x(*call);
  const std::size_t all = std::size_t{1} << 40;
  attention_backward(kernels::all_in(kernels::NativeExp<float>{}), {all, all}, x.shape, x.scale,
                     x.causal, x.q.data(), x.k.data(), x.v.data(), x.dout.data(), x.out.data(),
                     x.lse.data(), x.dq.data(), x.dk.data(), x.dv.data());
  x.write(*call);
  return HALFULP_OK;
}

template <std::size_t queries, std::size_t keys>
int tiles(void*, const halfulp_call* call) {
  if (!is_widened(*find_input(*call, "q"))) return HALFULP_UNSUPPORTED;
  Operands x(*call);
  kernels::attention_backward_float32(x.shape, x.scale, x.causal, x.q.data(), x.k.data(),
                                      x.v.data(), x.dout.data(), x.out.data(), x.lse.data(),
                                      x.dq.data(), x.dk.data(), x.dv.data(), 1, {queries, keys});
  x.write(*call);
  return HALFULP_OK;
}

struct ToElement {
  const halfulp_dltensor* like;
  float operator()(float x) const {
    const Element e = element_of(*like);
    if (e == Element::float32) return x;
    Tensor t({"", e, {1}});
    t.set(0, x);
    return static_cast<float>(t.value(0));
  }
};

// As kernels for GPUs have it: out, P and dS in the element type.
int tiles_cast(void*, const halfulp_call* call) {
  const halfulp_dltensor& q = *find_input(*call, "q");
  if (!is_widened(q)) return HALFULP_UNSUPPORTED;
  Operands x(*call);
  const kernels::NativeExp<float> a;
  const ToElement cast{&q};
  for (float& y : x.out) y = cast(y);
  attention_backward(
      kernels::AttentionArithmetic<kernels::NativeExp<float>, ToElement>{a, a, a, a, cast},
      {32, 16}, x.shape, x.scale, x.causal, x.q.data(), x.k.data(), x.v.data(), x.dout.data(),
      x.out.data(), x.lse.data(), x.dq.data(), x.dk.data(), x.dv.data());
  x.write(*call);
  return HALFULP_OK;
}

// ---------------------------------------------------------------- the suite

class Backward final : public AttentionSuite {
 public:
  const char* name() const override { return "attention-backward"; }
  int version() const override { return 2; }
  const char* definition() const override {
    return "dq, dk, dv: the gradients of Σ dout·out by q, k and v, out as in the suite attention. "
           "A query that sees no key has dq = +0 and no part in dk and dv; a key that no query "
           "sees has dk = dv = +0. A query with a NaN among its scores, in dout or in the values "
           "that it sees makes its dq and the dk of all keys that it sees NaN, and a NaN among its "
           "scores their dv.";
  }
  Signature signature() const override {
    return {{{"q", "(B, S, H, D)", "queries"},
             {"k", "(B, T, H, D)", "keys"},
             {"v", "(B, T, H, D)", "values"},
             {"dout", "(B, S, H, D)", "the gradient by out"}},
            {{"scale", "", "of the scores; greater than 0, a binary32 number"},
             {"causal", "", "1: query i sees the keys j <= i + T − S; 0: all"}},
            {{"dq", "(B, S, H, D)", "as q"},
             {"dk", "(B, T, H, D)", "as k"},
             {"dv", "(B, T, H, D)", "as v"}}};
  }

  std::vector<CaseKey> cases(std::string_view variant, Level level) const override {
    const std::uint32_t each = level == Level::quick ? 5 : level == Level::full ? 60 : 1000;
    std::vector<CaseKey> keys;
    for (const char* family : {"small",
                               "one-key",
                               "empty",
                               "ragged",
                               "causal",
                               "causal-ragged",
                               "sharp",
                               "scale",
                               "rising",
                               "dominant",
                               "equal",
                               "all-negative",
                               "all-positive",
                               "underflow",
                               "score-cancellation",
                               "value-cancellation",
                               "constant-values",
                               "special-queries",
                               "special-keys",
                               "special-values",
                               "special-gradients",
                               "long"}) {
      for (std::uint32_t i = 0; i < each; ++i) keys.push_back({std::string(variant), family, i});
    }
    return keys;
  }

  Case make(const CaseKey& key) const override {
    Draws draws(name(), version(), key);
    const Element e = element_named(key.variant);
    Case c = draw_attention(draws, key, e);
    const Tensor& q = c.input("q");
    Tensor dout({"dout", e, q.shape});
    for (std::size_t n = 0; n < dout.count(); ++n) dout.set(n, draws.normal());
    if (key.family == "special-gradients") dout.set(draws.below(dout.count()), not_a_number);
    c.outputs = {{"dq", e, q.shape}, {"dk", e, c.input("k").shape}, {"dv", e, c.input("k").shape}};
    c.inputs.push_back(std::move(dout));
    return c;
  }

  std::vector<Expected> expect(const Case& c) const override {
    const AttentionCase x(c);
    const AttentionShape& s = x.shape;
    const std::vector<double> dout = c.input("dout").values();
    const Element e = c.input("q").element;
    const Format f = info(e).format;
    const double unit = std::ldexp(1.0, -f.precision);
    const double least = std::ldexp(1.0, f.emin() - f.fraction_bits());
    const Cast cast{e == Element::float32 ? 0 : unit, e == Element::float16 ? least / 2 : 0, unit,
                    least};
    std::vector<Expected> y{Expected(c.outputs[0].count()), Expected(c.outputs[1].count()),
                            Expected(c.outputs[2].count())};
    for (std::size_t b = 0; b < s.batch; ++b)
      for (std::size_t h = 0; h < s.heads; ++h) head(x, dout, cast, b, h, y);
    return y;
  }

  std::vector<Builtin> builtins() const override {
    return {{"plain-cpu", "whole matrices of weights and their gradients", plain},
            {"flash-cpu", "tiles of 64 queries and 64 keys in vectors", tiles<64, 64>},
            {"flash-16-cpu", "tiles of 5 queries and 16 keys", tiles<5, 16>},
            {"flash-cast-cpu", "tiles; out, P and dS rounded to the operands' type", tiles_cast}};
  }

 private:
  struct Cast {
    double unit, floor;  // of weights and dS
    double out, least;   // of results and out
  };

  // A sum with its bound: Σ w·x, |δw| <= e.
  struct Sum {
    DoubleDouble value;
    double bound = 0, size = 0;
    bool nan = false, asked = true;

    void add(const DoubleDouble& w, double error, double x) {
      value = value + w * DoubleDouble{x};
      bound += error * std::fabs(x);
      size += std::fabs(w.high * x);
    }
    void set(const Cast& cast, double terms, double scale, Expected& e, std::size_t at) const {
      if (nan || !asked) {
        e.reference[at] = nan ? not_a_number : 0;
        e.bound[at] = nan ? 0 : infinity;
        return;
      }
      const DoubleDouble result = value * DoubleDouble{scale};
      e.reference[at] = result.high;
      e.low[at] = result.low;
      e.condition[at] = scale * size;
      if (terms == 0) return;  // +0
      const double total = (1 + 0x1p-10) * (scale * (bound + (terms + 5) * u * (size + bound)) +
                                            3 * u * std::fabs(result.high)) +
                           (2 * terms + 8) * 0x1p-125 * (1 + scale);
      e.bound[at] = total + cast.out * (std::fabs(result.high) + total) + cast.least;
    }
  };

  static bool all_finite(const AttentionCase& x, const std::vector<double>& dout, std::size_t b,
                         std::size_t h) {
    const AttentionShape& s = x.shape;
    for (std::size_t d = 0; d < s.width; ++d) {
      for (std::size_t i = 0; i < s.queries; ++i)
        if (!std::isfinite(x.q[s.q_at(b, i, h) + d]) || !std::isfinite(dout[s.q_at(b, i, h) + d]))
          return false;
      for (std::size_t j = 0; j < s.keys; ++j)
        if (!std::isfinite(x.k[s.k_at(b, j, h) + d]) || !std::isfinite(x.v[s.k_at(b, j, h) + d]))
          return false;
    }
    return true;
  }

  static void head(const AttentionCase& x, const std::vector<double>& dout, const Cast& cast,
                   std::size_t b, std::size_t h, std::vector<Expected>& y) {
    const AttentionShape& s = x.shape;
    const std::size_t D = s.width;
    const auto width = static_cast<double>(D);
    std::vector<Sum> dk(s.keys * D), dv(s.keys * D);
    std::vector<std::size_t> seen_by(s.keys);
    // Where a mask hides what is not a finite number, tiles multiply it by 0: nothing is asked.
    const bool hidden = x.causal && !all_finite(x, dout, b, h);
    for (std::size_t i = 0; i < s.queries; ++i) {
      const QueryWeights w(x, b, h, i);
      const std::size_t keys = kernels::keys_seen(s, x.causal, i), to = s.q_at(b, i, h);
      std::vector<Sum> dq(D);
      for (std::size_t j = 0; j < keys; ++j) ++seen_by[j];
      const double* g_out = dout.data() + to;
      bool nan = w.kind == QueryWeights::Kind::nan;
      const bool weights_nan = nan;
      bool asked = !hidden && w.kind != QueryWeights::Kind::unasked && w.total_error < 0.5;
      for (std::size_t d = 0; d < D; ++d) nan = nan || std::isnan(g_out[d]);
      for (std::size_t j = 0; j < keys; ++j) {
        for (std::size_t d = 0; d < D; ++d) {
          const double v = x.v[s.k_at(b, j, h) + d];
          nan = nan || std::isnan(v);
          asked = asked && !std::isinf(v);
        }
        if (!weights_nan && w.kind == QueryWeights::Kind::finite)
          asked = asked && std::isfinite(w.score[j].high);  // 0·∞ of a factor
      }
      if (keys == 0) {
        for (std::size_t d = 0; d < D; ++d) {
          dq[d].asked = !hidden;
          dq[d].set(cast, 0, 1, y[0], to + d);
        }
        continue;
      }
      if (nan || !asked) {
        for (std::size_t d = 0; d < D; ++d) {
          dq[d].nan = nan && !hidden;
          dq[d].asked = false;
          dq[d].set(cast, 0, 1, y[0], to + d);
          for (std::size_t j = 0; j < keys; ++j) {
            Sum &of_k = dk[j * D + d], &of_v = dv[j * D + d];
            of_k.nan = of_k.nan || (nan && !hidden);
            of_k.asked = of_k.asked && asked;
            of_v.nan = of_v.nan || (!hidden && (weights_nan || std::isnan(g_out[d])));
            of_v.asked = of_v.asked && asked;
          }
        }
        // Where the weights are finite they add to dv; what comes of them is not asked.
        for (std::size_t n = 0; n < keys * D; ++n) dv[n].asked = false;
        continue;
      }

      const auto count = static_cast<double>(keys);
      double joined = w.total_error;
      for (std::size_t j = 0; j < keys; ++j)
        joined += w.weight[j].high * (count + w.changes[j] + 5) * u;
      const double common = joined / (1 - std::min(joined, 0.5)) +
                            3 * u * (std::fabs(w.m) + std::fabs(w.lse.high)) +
                            4 * u * (1 + std::log(count));
      std::vector<double> of_weight(keys), of_dp(keys);  // G, X
      std::vector<DoubleDouble> dp(keys);
      DoubleDouble delta;
      double from_weights = 0;
      for (std::size_t j = 0; j < keys; ++j) {
        const double g = w.weight[j].high;
        of_weight[j] =
            w.error[j] +
            (g + w.error[j]) *
                (common + 2 * u * std::max(std::fabs(w.score[j].high), std::fabs(w.lse.high)));
        double size = 0;
        for (std::size_t d = 0; d < D; ++d) {
          const double v = x.v[s.k_at(b, j, h) + d];
          dp[j] = dp[j] + kernels::dd::two_product(g_out[d], v);
          size += std::fabs(g_out[d] * v);
        }
        of_dp[j] = (width + 2) * u * size + width * 0x1p-126;
        delta = delta + w.weight[j] * dp[j];
        from_weights += of_weight[j] * std::fabs(dp[j].high) + (g + of_weight[j]) * of_dp[j] +
                        (count + 2) * u * g * std::fabs(dp[j].high);
      }
      double from_out = 0;
      for (std::size_t d = 0; d < D; ++d) {
        double error = 0, out = 0;
        for (std::size_t j = 0; j < keys; ++j) {
          const double v = x.v[s.k_at(b, j, h) + d];
          const double g = w.weight[j].high;
          out += g * v;
          error += (of_weight[j] + g * ((count + w.changes[j] + 5) * u + cast.unit) + cast.floor) *
                   std::fabs(v);
        }
        error += cast.out * (std::fabs(out) + error) + cast.least;
        from_out += std::fabs(g_out[d]) * (error + (width + 2) * u * std::fabs(out));
      }
      const double of_delta = std::max(from_out, from_weights);
      for (std::size_t j = 0; j < keys; ++j) {
        const double g = w.weight[j].high;
        const DoubleDouble less = dp[j] - delta, ds = w.weight[j] * less;
        const double away = std::fabs(less.high);
        const double of_ds =
            (1 + cast.unit) *
                ((g + of_weight[j]) * (of_dp[j] + of_delta + 2 * u * away) + of_weight[j] * away) +
            cast.unit * std::fabs(ds.high) + cast.floor;
        const double of_p = of_weight[j] * (1 + cast.unit) + g * cast.unit + cast.floor;
        for (std::size_t d = 0; d < D; ++d) {
          dq[d].add(ds, of_ds, x.k[s.k_at(b, j, h) + d]);
          dk[j * D + d].add(ds, of_ds, x.q[to + d]);
          dv[j * D + d].add(w.weight[j], of_p, g_out[d]);
        }
      }
      for (std::size_t d = 0; d < D; ++d) dq[d].set(cast, count, x.scale, y[0], to + d);
    }
    for (std::size_t j = 0; j < s.keys; ++j) {
      for (std::size_t d = 0; d < D; ++d) {
        const std::size_t to = s.k_at(b, j, h) + d;
        const auto terms = static_cast<double>(seen_by[j]);
        if (hidden) dk[j * D + d].asked = dv[j * D + d].asked = false;
        dk[j * D + d].set(cast, terms, x.scale, y[1], to);
        dv[j * D + d].set(cast, terms, 1, y[2], to);
      }
    }
  }
};

}  // namespace

const Suite& attention_backward_suite() {
  static const Backward suite;
  return suite;
}

}  // namespace halfulp::conformance
