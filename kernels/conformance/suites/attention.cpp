// Attention: out and lse of q, k, v. docs/suites/attention.md has the contract in words.
//
// Bounds, of kernels that compute inside in binary32 (u = 2^-24) from operands as they are, in any
// order: all scores first, running maxima over tiles of any length in any order, parts merged by
// (m, l, o) or by lse, a fixed maximum; with e^x or 2^(x·log2 e). Exact: scores s_j, m their
// maximum, lse, weights g_j = e^(s_j − lse).
//
// 1. Scores. D products and sums, in any order, and scale (or scale·log2 e) folded in:
//    |δs_j| <= E_j = (D + 2)·u·scale·Σ|q k_j| + underflow. Matrix units that cut off (rounding
//    toward zero of a block of n >= 8 products and a sum kept with 2 more bits: (n + 1)·u/2 + 2u)
//    stay within (D + 2)·u too.
// 2. Weights. What goes into exp is s_j less a maximum: three roundings of the difference
//    (3u·(m − s_j): subtraction, log2 e, its product) and, where maxima are multiplied first, of
//    two maxima between s_j and m: 2u·max(|s_j|, |m|). exp itself within 5u of its value. Each
//    later change of the maximum costs another exp and a product; there are at most R_j = #{i: s_i
//    + E_i > s_j − E_j} − 1 of them, because each goes to a key whose computed score is larger (the
//    differences that go into exp add up to m − s_j, counted already). Together
//        x_j = E_j + 2u·max(|s_j|, |m|) + 3u·(m − s_j) + 5u·(R_j + 1)
//    |ĝ_j − g_j| <= e_j = g_j·(e^x_j − 1) + 2^-125·e^(m − lse), the last term for weights that
//    underflow or are flushed.
// 3. out = Σ g v / Σ g: what l and o share moves out by Σ e_j·|v_j − out| / (1 − Σ e). What they
//    do not: T + 4 roundings of each sum (2u for the blocks of a matrix unit among them), R_j + 1
//    products with factors, the quotient; merging by lse 4u·(max(|s_j|, |m|) + log T + 1), since a
//    part's lse is rounded; the cast of weights to a 16-bit element type, u_c·g_j, with u_c the
//    unit roundoff of that type, whether l is summed before or after it, and 2^-25 absolute where
//    the type is float16, whose subnormals are coarse. All times |v_j| (|out| where it is l's).
//    Whatever the weights are, they are not negative and add up to 1 but for rounding: so out is
//    never further off than the farthest v_j, and (3T + 10)·u + 2u_c of the largest (the cap).
//    Underflow of products with v: (2T + 8)·2^-126·2. Then the rounding to out's type.
// 4. lse = m + log l: the relative error of l, Σ e + Σ g_j·(T + R_j + 5)·u, through log; rounding
// of m (times
//    log2 e and back), of the sum: 3u|m| + 3u|lse|; of log, 4u·(1 + log T). The weights that are
//    summed are not cast.
//
// A score or an intermediate sum that may overflow binary32 to +∞, or to anything unless all of its
// terms are negative: nothing is asked of that query. Values that are not finite: head of
// docs/suites/attention.md.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <tuple>

#include "emu/core/formats.hpp"
#include "emu/core/operations.hpp"
#include "kernels/attention_arithmetic.hpp"
#include "kernels/attention_float32.hpp"
#include "kernels/conformance/suites.hpp"
#include "kernels/conformance/suites/attention_cases.hpp"

namespace halfulp::conformance {

namespace {

using kernels::AttentionForm;
using kernels::AttentionKind;
using kernels::AttentionShape;
using kernels::DoubleDouble;
using kernels::MergeTree;

constexpr double u = 0x1p-24;
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

// ---------------------------------------------------------------- builtins

struct Operands {
  AttentionShape shape;
  float scale = 1;
  bool causal = false;
  std::vector<float> q, k, v, out, lse;

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
    out.resize(q.size());
    lse.resize(shape.batch * shape.heads * shape.queries);
  }

  void write(const halfulp_call& call) const {
    set_floats(*find_output(call, "out"), out);
    set_floats(*find_output(call, "lse"), lse);
  }
};

bool is_supported(const halfulp_call& call) {
  return is_widened(*find_input(call, "q"));
}

// Weights rounded to the operands' element type before they multiply v, as matrix units need them.
struct ToElement {
  Format format;
  float operator()(float x) const {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const u64 code = convert<u64>(bits, formats::binary32, format, {}).code;
    return std::bit_cast<float>(
        static_cast<std::uint32_t>(convert<u64>(code, format, formats::binary32, {}).code));
  }
};

int run_form(const halfulp_call* call, const AttentionForm& form, bool cast) {
  if (!is_supported(*call)) return HALFULP_UNSUPPORTED;
  Operands x(*call);
  const kernels::NativeExp<float> a;
  const kernels::FixedMaximum<float> fixed{0, -20, 20};
  const auto compute = [&](const auto& arithmetic) {
    attention(arithmetic, form, x.shape, x.scale, x.causal, x.q.data(), x.k.data(), x.v.data(),
              x.out.data(), x.lse.data(), &fixed);
  };
  if (cast) {
    const Format format = info(element_of(*find_input(*call, "q"))).format;
    compute(
        kernels::AttentionArithmetic<kernels::NativeExp<float>, ToElement>{a, a, a, a, {format}});
  } else {
    compute(kernels::all_in(a));
  }
  x.write(*call);
  return HALFULP_OK;
}

int plain(void*, const halfulp_call* call) {
  return run_form(call, {AttentionKind::plain, 1, 1}, false);
}
int plain_cast(void*, const halfulp_call* call) {
  return run_form(call, {AttentionKind::plain, 1, 16}, true);
}
int flash_cast(void*, const halfulp_call* call) {
  return run_form(call, {AttentionKind::flash, 64, 16}, true);
}
int online(void*, const halfulp_call* call) {
  return run_form(call, {AttentionKind::flash, 1, 1}, false);
}
int split(void*, const halfulp_call* call) {
  const auto parts = static_cast<std::size_t>(find_attribute(*call, "splits", 5));
  return run_form(call, {AttentionKind::split, 32, 4, parts, MergeTree::pairwise}, false);
}
int split_sequential(void*, const halfulp_call* call) {
  const auto parts = static_cast<std::size_t>(find_attribute(*call, "splits", 3));
  return run_form(call, {AttentionKind::split, 7, 1, parts, MergeTree::sequential}, false);
}
int fixed_maximum(void*, const halfulp_call* call) {
  return run_form(call, {AttentionKind::fixed_maximum, 64, 8}, false);
}

template <std::size_t tile>
int flash(void*, const halfulp_call* call) {
  if (!is_supported(*call)) return HALFULP_UNSUPPORTED;
  Operands x(*call);
  kernels::attention_float32(x.shape, x.scale, x.causal, x.q.data(), x.k.data(), x.v.data(),
                             x.out.data(), x.lse.data(), 1, tile);
  x.write(*call);
  return HALFULP_OK;
}

// As kernels for GPUs have it: the maximum of q·k before the scale, weights
// 2^(x·(scale·log2 e) − m·(scale·log2 e)) by one fma, keys from the last tile to the first.
int flash_exp2(void*, const halfulp_call* call) {
  if (!is_supported(*call)) return HALFULP_UNSUPPORTED;
  Operands x(*call);
  const AttentionShape& s = x.shape;
  const float factor = x.scale * 1.4426950408889634F;
  constexpr float lowest = -std::numeric_limits<float>::infinity();
  constexpr std::size_t tile = 16;
  for (std::size_t b = 0; b < s.batch; ++b) {
    for (std::size_t h = 0; h < s.heads; ++h) {
      for (std::size_t i = 0; i < s.queries; ++i) {
        const std::size_t keys = keys_seen(s, x.causal, i);
        float m = lowest, l = 0;
        std::vector<float> o(s.width);
        for (std::size_t t = (keys + tile - 1) / tile; t-- > 0;) {
          const std::size_t first = t * tile, count = std::min(tile, keys - first);
          float p[tile];
          float before = m;
          for (std::size_t j = 0; j < count; ++j) {
            p[j] = 0;
            for (std::size_t d = 0; d < s.width; ++d)
              p[j] += x.q[s.q_at(b, i, h) + d] * x.k[s.k_at(b, first + j, h) + d];
            m = std::max(m, p[j]);
          }
          const float less = m == lowest ? 0 : m * factor;
          const float alpha = std::exp2(before * factor - less);
          l *= alpha;
          for (float& y : o) y *= alpha;
          for (std::size_t j = 0; j < count; ++j) {
            const float w = std::exp2(std::fma(p[j], factor, -less));
            l += w;
            for (std::size_t d = 0; d < s.width; ++d) o[d] += w * x.v[s.k_at(b, first + j, h) + d];
          }
        }
        const bool none = l == 0 && m == lowest;
        const float inverse = none ? 0 : 1 / l;
        for (std::size_t d = 0; d < s.width; ++d) x.out[s.q_at(b, i, h) + d] = o[d] * inverse;
        x.lse[s.lse_at(b, h, i)] = none ? lowest : m * x.scale + std::log(l);
      }
    }
  }
  x.write(*call);
  return HALFULP_OK;
}

// ---------------------------------------------------------------- the suite

// What the element type adds.
struct OfElement {
  double cast = 0, cast_floor = 0;  // of weights
  double unit = u, least = 0x1p-149;

  explicit OfElement(Element e) {
    const Format f = info(e).format;
    unit = std::ldexp(1.0, -f.precision);
    least = std::ldexp(1.0, f.emin() - f.fraction_bits());
    if (e != Element::float32) cast = unit;
    if (e == Element::float16) cast_floor = least / 2;
  }
};

class Attention final : public AttentionSuite {
 public:
  explicit Attention(bool decode) : decode_(decode) {}

  const char* name() const override { return decode_ ? "attention-decode" : "attention"; }
  int version() const override { return 2; }
  const char* definition() const override {
    return decode_ ? "The suite attention for one query and long keys and values, as in decoding, "
                     "with the attribute splits: into how many parts a kernel may cut the keys. "
                     "The expected result does not depend on it."
                   : "out = Σ_j exp(s_j − lse)·v_j, lse = log Σ_j exp(s_j), s_j = scale·Σ_d "
                     "q_d·k_jd, over the keys that a query sees: all, or with causal = 1 those j "
                     "<= i + T − S. A query that sees none: out = +0, lse = −∞. A NaN in q or in a "
                     "key that is seen, or a score of +∞, makes all of that query's out and lse "
                     "NaN; a key that is not seen has no say. A score of −∞ has the weight 0. "
                     "scale > 0.";
  }
  Signature signature() const override {
    Signature s{{{"q", "(B, S, H, D)", "queries"},
                 {"k", "(B, T, H, D)", "keys"},
                 {"v", "(B, T, H, D)", "values"}},
                {{"scale", "", "of the scores; greater than 0, a binary32 number"},
                 {"causal", "", "1: query i sees the keys j <= i + T − S; 0: all"}},
                {{"out", "(B, S, H, D)", "as q"}, {"lse", "(B, H, S)", "float32"}}};
    if (decode_) s.attributes.push_back({"splits", "", "into how many parts to cut the keys"});
    return s;
  }

  std::vector<CaseKey> cases(std::string_view variant, Level level) const override {
    static constexpr const char* whole[] = {"small",
                                            "one-key",
                                            "empty",
                                            "ragged",
                                            "normal",
                                            "causal",
                                            "causal-ragged",
                                            "sharp",
                                            "scale",
                                            "rising",
                                            "falling",
                                            "dominant",
                                            "equal",
                                            "all-negative",
                                            "all-positive",
                                            "underflow",
                                            "huge-negative",
                                            "score-cancellation",
                                            "value-cancellation",
                                            "constant-values",
                                            "tiny-values",
                                            "large-values",
                                            "special-queries",
                                            "special-keys",
                                            "special-values",
                                            "masked-special",
                                            "long"};
    static constexpr const char* decode[] = {"decode"};
    const auto families =
        decode_ ? std::span<const char* const>(decode) : std::span<const char* const>(whole);
    const std::uint32_t quick = decode_ ? 16 : 6;
    const std::uint32_t each = level == Level::quick ? quick : level == Level::full ? 100 : 2000;
    std::vector<CaseKey> keys;
    for (const char* family : families)
      for (std::uint32_t i = 0; i < each; ++i) keys.push_back({std::string(variant), family, i});
    return keys;
  }

  Case make(const CaseKey& key) const override {
    Draws draws(name(), version(), key);
    const Element e = element_named(key.variant);
    Case c = draw_attention(draws, key, e);
    if (decode_)
      c.attributes.push_back({"splits", std::ldexp(1.0, static_cast<int>(key.index % 4))});
    const auto& q = c.input("q").shape;
    c.outputs = {{"out", e, q}, {"lse", Element::float32, {q[0], q[2], q[1]}}};
    return c;
  }

  std::vector<Expected> expect(const Case& c) const override {
    const AttentionCase x(c);
    const AttentionShape& s = x.shape;
    const OfElement element(c.input("q").element);
    std::vector<Expected> y{Expected(c.outputs[0].count()), Expected(c.outputs[1].count())};
    for (std::size_t b = 0; b < s.batch; ++b)
      for (std::size_t h = 0; h < s.heads; ++h)
        for (std::size_t i = 0; i < s.queries; ++i) query(x, element, b, h, i, y[0], y[1]);
    return y;
  }

  std::vector<Builtin> builtins() const override {
    return {
        {"plain-cpu", "all scores, their maximum, weights, then their products with v", plain},
        {"flash-cpu", "tiles of 128 keys in vectors: attention_float32", flash<128>},
        {"flash-16-cpu", "the same with tiles of 16 keys", flash<16>},
        {"online-cpu", "tiles of one key", online},
        {"split-cpu", "five parts (or splits) merged pairwise", split},
        {"split-sequential-cpu", "three parts (or splits) merged one after the other",
         split_sequential},
        {"fixed-maximum-cpu", "exp(s) without a maximum while |s| < 20, else flash", fixed_maximum},
        {"flash-exp2-cpu", "weights by exp2 and one fma, tiles from the last to the first",
         flash_exp2},
        {"plain-cast-cpu", "plain, normalised weights rounded to the operands' type", plain_cast},
        {"flash-cast-cpu", "flash, weights rounded to the operands' type", flash_cast}};
  }

 private:
  static void query(const AttentionCase& x, const OfElement& element, std::size_t b, std::size_t h,
                    std::size_t i, Expected& out, Expected& lse) {
    const AttentionShape& s = x.shape;
    const QueryWeights w(x, b, h, i);
    const std::size_t at = s.lse_at(b, h, i), first = s.q_at(b, i, h);
    const std::size_t keys = w.score.size();
    using Kind = QueryWeights::Kind;
    if (w.kind != Kind::finite) {
      const double of_out = w.kind == Kind::nan ? not_a_number : 0.0;
      const double bound = w.kind == Kind::unasked ? infinity : 0;
      lse.reference[at] = w.kind == Kind::nan ? not_a_number : -infinity;
      if (w.kind == Kind::unasked) lse.reference[at] = 0;
      lse.bound[at] = bound;
      for (std::size_t d = 0; d < s.width; ++d) {
        out.reference[first + d] = of_out;
        out.bound[first + d] = bound;
      }
      return;
    }

    const auto count = static_cast<double>(keys);
    double joined = 0;  // Σ g_j·(T + R_j + 5)·u: of l
    for (std::size_t j = 0; j < keys; ++j)
      joined += w.weight[j].high * (count + w.changes[j] + 5) * u;
    const double log_count = std::log(count), of_l = w.total_error + joined;
    const double moved = of_l < 0.5 ? -std::log1p(-of_l) : w.largest_error + log_count + 1;
    lse.reference[at] = w.lse.high;
    lse.low[at] = w.lse.low;
    lse.condition[at] = std::max(1.0, std::fabs(w.lse.high));
    lse.bound[at] = (1 + 0x1p-10) * (moved + 3 * u * (std::fabs(w.m) + std::fabs(w.lse.high)) +
                                     4 * u * (1 + log_count)) +
                    0x1p-149;

    for (std::size_t d = 0; d < s.width; ++d) {
      const auto value = [&](std::size_t j) { return x.v[s.k_at(b, j, h) + d]; };
      const std::size_t to = first + d;
      if (!all_finite(x, b, h, d, s.keys)) {
        std::tie(out.reference[to], out.bound[to]) = not_finite(x, w, b, h, d);
        continue;
      }
      DoubleDouble sum;
      double mass = 0, largest = 0, size = 0;
      for (std::size_t j = 0; j < keys; ++j) {
        sum = sum + w.weight[j] * DoubleDouble{value(j)};
        const double v = std::fabs(value(j));
        mass += w.weight[j].high * v;
        size += v;
        largest = std::max(largest, v);
      }
      const double result = sum.high;
      double shared = 0, own = 0, farthest = 0;
      for (std::size_t j = 0; j < keys; ++j) {
        const double v = std::fabs(value(j)), off = std::fabs(value(j) - result);
        const double g = w.weight[j].high;
        const double merged =
            4 * u * (std::max(std::fabs(w.score[j].high), std::fabs(w.m)) + log_count + 1);
        shared += w.error[j] * off;
        if (g > 0)
          own += g * (((count + w.changes[j] + 5) * u + merged) * (v + std::fabs(result)) +
                      element.cast * std::max(v, off));
        farthest = std::max(farthest, off);
      }
      const double cap = farthest + ((3 * count + 10) * u + 2 * element.cast) * largest;
      double bound = w.total_error < 0.5 ? (shared + own) / (1 - w.total_error) : infinity;
      bound = std::min(bound, cap) + 3 * u * std::fabs(result) + element.cast_floor * size +
              (2 * count + 8) * 0x1p-125;
      out.reference[to] = result;
      out.low[to] = sum.low;
      out.condition[to] = mass;
      out.bound[to] =
          (1 + 0x1p-10) * (bound + element.unit * (std::fabs(result) + bound)) + element.least / 2;
    }
  }

  static bool all_finite(const AttentionCase& x, std::size_t b, std::size_t h, std::size_t d,
                         std::size_t keys) {
    for (std::size_t j = 0; j < keys; ++j)
      if (!std::isfinite(x.v[x.shape.k_at(b, j, h) + d])) return false;
    return true;
  }

  // Of a column of v that holds NaN or infinities: nothing is asked where 0·∞ may or may not arise,
  // from a key that is not seen or whose weight may underflow.
  static std::pair<double, double> not_finite(const AttentionCase& x, const QueryWeights& w,
                                              std::size_t b, std::size_t h, std::size_t d) {
    double sum = 0;
    for (std::size_t j = 0; j < x.shape.keys; ++j) {
      const double v = x.v[x.shape.k_at(b, j, h) + d];
      if (std::isfinite(v)) continue;
      if (j >= w.weight.size() || w.weight[j].high < 0x1p-10) return {0, infinity};
      sum += v;
    }
    return {sum, 0};
  }

  bool decode_;
};

}  // namespace

const Suite& attention_suite() {
  static const Attention suite(false);
  return suite;
}

const Suite& attention_decode_suite() {
  static const Attention suite(true);
  return suite;
}

}  // namespace halfulp::conformance
