// Cross-entropy of a classifier's last layer, loss (N) of e (N, D), c (V, D) and target (N), and
// its gradients.
//
// Bounds, u = 2^-24, first-order terms with their second order in the last factor:
//
//   logit     a = Σ e·c over D in binary32: |â − a| <= α = (2D + 10)·u·Σ|e c|. The factor 2 and the
//             10 are for matrix units, which cut terms to F >= 25 fraction bits and sums towards
//             zero: 0.63·K·u for K >= 16 of them, 10u at most in one block.
//   loss      log-sum-exp is 1-Lipschitz in its logits: Σ g_j·α_j; its own bound
//             (log_sum_exp.cpp) on top, and α of the target, u·|a_target|, u·|loss|.
//   softmax   ĝ_j = g_j·(1 + θ), |θ| <= exp(α_j + Σ g α + β) − 1 with β softmax's bound plus that
//   of
//             a log-sum-exp rounded to binary32, u·(3|lse| + 3|m| + …), as the backward pass takes
//             it.
//   G         (ĝ − one-hot)·dloss: u·|G| for the difference, u_G·|G| for the product or its
//             rounding to 16 bits before the matrix product, least subnormal of that type.
//   filter    what a tile may lose: |G_ij| wherever |softmax − one-hot| < eps·(1 + 2^-6)
//   de, dc    Σ over j (i) of all that times |c| (|e|), the chain's (2V + 10)·u·Σ|G c|, the final
//             rounding.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/conformance/suites.hpp"
#include "kernels/conformance/suites/softmax_rows.hpp"
#include "kernels/cross_entropy.hpp"
#include "kernels/exponential_arithmetic.hpp"

namespace halfulp::conformance {

namespace {

using kernels::DoubleDouble;
namespace dd = kernels::dd;
using kernels::CrossEntropyShape;
using kernels::CrossEntropyTile;
using kernels::Float32Exponential;
using kernels::Float64Exponential;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

double filter_of(Element e) {
  return e == Element::bfloat16  ? kernels::cross_entropy_filter_bfloat16
         : e == Element::float16 ? kernels::cross_entropy_filter_float16
                                 : kernels::cross_entropy_filter_float32;
}

// The operands as T.
template <class T>
struct Operands {
  CrossEntropyShape shape;
  Element element = Element::float32;
  std::vector<T> e, c, dloss;
  std::vector<std::int64_t> target;

  explicit Operands(const halfulp_call& call) {
    const halfulp_dltensor& from = *find_input(call, "e");
    const halfulp_dltensor& rows = *find_input(call, "c");
    element = element_of(from);
    shape = {static_cast<std::size_t>(from.shape[0]), static_cast<std::size_t>(rows.shape[0]),
             static_cast<std::size_t>(from.shape[1])};
    e = values(from);
    c = values(rows);
    const halfulp_dltensor& t = *find_input(call, "target");
    target.assign(data_of<std::int64_t>(t), data_of<std::int64_t>(t) + shape.n);
    if (const halfulp_dltensor* d = find_input(call, "dloss")) dloss = values(*d);
  }
  static std::vector<T> values(const halfulp_dltensor& from) {
    Tensor t({"", element_of(from), {static_cast<std::int64_t>(count_of(from))}});
    if (!t.bytes.empty()) std::memcpy(t.bytes.data(), data_of<char>(from), t.bytes.size());
    std::vector<T> v(t.count());
    for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<T>(t.value(i));
    return v;
  }
};
template <class T>
void store(const halfulp_call& call, const char* name, const std::vector<T>& v) {
  const halfulp_dltensor& to = *find_output(call, name);
  Tensor t({"", element_of(to), {static_cast<std::int64_t>(v.size())}});
  for (std::size_t i = 0; i < v.size(); ++i) t.set(i, static_cast<double>(v[i]));
  if (!t.bytes.empty()) std::memcpy(data_of<char>(to), t.bytes.data(), t.bytes.size());
}

template <class A, class T, std::size_t tile>
int forward(void*, const halfulp_call* call) {
  const Operands<T> o(*call);
  std::vector<T> loss(o.shape.n), lse(o.shape.n);
  kernels::cross_entropy(A{}, o.shape, CrossEntropyTile{tile, tile}, o.e.data(), o.c.data(),
                         o.target.data(), loss.data(), lse.data());
  store(*call, "loss", loss);
  return HALFULP_OK;
}
template <class A, class T, std::size_t tile, bool filtered>
int backward(void*, const halfulp_call* call) {
  const Operands<T> o(*call);
  std::vector<T> loss(o.shape.n), lse(o.shape.n), de(o.e.size()), dc(o.c.size());
  kernels::cross_entropy(A{}, o.shape, CrossEntropyTile{tile, tile}, o.e.data(), o.c.data(),
                         o.target.data(), loss.data(), lse.data());
  kernels::cross_entropy_backward(A{}, o.shape, CrossEntropyTile{tile, tile}, o.e.data(),
                                  o.c.data(), o.target.data(), lse.data(), o.dloss.data(),
                                  static_cast<T>(filtered ? filter_of(o.element) : 0), de.data(),
                                  dc.data());
  store(*call, "de", de);
  store(*call, "dc", dc);
  return HALFULP_OK;
}

const char* const families[] = {
    "tiny",         // N, V, D in 1, 2, 3
    "normal",       // logits of a few units
    "peaked",       // one logit far above: gradients that a filter drops
    "flat",         // zero operands: every probability is 1/V
    "ragged",       // V around multiples of tiles
    "late-target",  // the target or the maximum in the last tile
    "large",        // logits beyond 88: exp overflows without the maximum
    "confident",    // the target's probability near 1: a loss near 0 by cancellation
    "special",      // NaN among the operands
    "empty"};       // N = 0

struct Facts {  // of one token
  std::vector<DoubleDouble> logits, terms;
  std::vector<double> granted;  // α
  DoubleDouble sum;
  double maximum = 0, of_logits = 0, of_sum = 0;  // Σ g·α; log-sum-exp's own relative error: units
  bool nan = false;
};

class CrossEntropyBase : public Suite {
 public:
  int version() const override { return 1; }
  std::vector<std::string> variants() const override { return {"float32", "float16", "bfloat16"}; }
  std::vector<CaseKey> cases(std::string_view variant, Level level) const override {
    const std::uint32_t each = level == Level::quick ? 8 : level == Level::full ? 200 : 5000;
    std::vector<CaseKey> keys;
    for (const std::string_view family : families) {
      const std::uint32_t count = family == "tiny" ? 4 * each : family == "empty" ? 2 : each;
      for (std::uint32_t i = 0; i < count; ++i)
        keys.push_back({std::string(variant), std::string(family), i});
    }
    return keys;
  }

  Case make(const CaseKey& key) const override {
    Draws draws(name(), version(), key);
    const Element element = element_named(key.variant);
    const std::string& family = key.family;
    auto size = [&](u64 low, u64 high) {
      return static_cast<std::int64_t>(low + draws.below(high - low + 1));
    };
    std::int64_t n = size(1, 6), v = size(2, 200), d = size(4, 32);
    if (family == "tiny") n = size(1, 3), v = size(1, 3), d = size(1, 3);
    if (family == "ragged") v = (std::int64_t{16} << draws.below(4)) + size(0, 2) - 1;
    if (family == "empty") n = 0;
    Tensor e({"e", element, {n, d}}), c({"c", element, {v, d}}),
        target({"target", Element::int64, {n}});
    const double width = std::sqrt(static_cast<double>(d));
    const double scale = family == "large" ? 12.0 : family == "flat" ? 0.0 : 1.5;
    for (std::size_t i = 0; i < e.count(); ++i) e.set(i, scale * draws.normal());
    for (std::size_t i = 0; i < c.count(); ++i)
      c.set(i, (family == "large" ? 8.0 : 1.5) / width * draws.normal());
    for (std::int64_t i = 0; i < n; ++i) {
      const auto row = static_cast<std::size_t>(i);
      const std::int64_t t = family == "late-target" ? v - 1 : size(0, static_cast<u64>(v - 1));
      target.set_code(row, static_cast<u64>(t));
      // c of the target (or of another) along e: a logit far above the others.
      if (family == "peaked" || family == "confident" || family == "late-target") {
        const std::int64_t high = family == "peaked"      ? size(0, static_cast<u64>(v - 1))
                                  : family == "confident" ? t
                                                          : v - 1;
        double square = 0;
        for (std::int64_t k = 0; k < d; ++k) {
          const double x = e.value(static_cast<std::size_t>(i * d + k));
          square += x * x;
        }
        const double want = draws.uniform(5, family == "confident" ? 20 : 12);
        for (std::int64_t k = 0; k < d && square > 0; ++k)
          c.set(static_cast<std::size_t>(high * d + k),
                want * e.value(static_cast<std::size_t>(i * d + k)) / square);
      }
    }
    if (family == "special" && e.count() > 0) {
      if (draws.one_in(2))
        e.set(draws.below(e.count()), not_a_number);
      else
        c.set(draws.below(c.count()), not_a_number);
    }
    Case result{key, {}, {}, {}};
    result.inputs.push_back(std::move(e));
    result.inputs.push_back(std::move(c));
    result.inputs.push_back(std::move(target));
    more_inputs(draws, result);
    name_outputs(result);
    return result;
  }

  std::int64_t row_count(const Case& c) const override { return c.input("e").shape[0]; }
  std::int64_t length(const Case& c) const override { return c.input("e").shape[1]; }
  std::optional<Case> shorten(const Case& c, std::int64_t begin, std::int64_t end) const override {
    Case part{c.key, c.inputs, c.attributes, {}};
    for (Tensor& t : part.inputs) {
      if (t.name == "e" || t.name == "c") t = sliced(t, 1, begin, end);
    }
    name_outputs(part);
    return part;
  }

 protected:
  virtual void more_inputs(Draws&, Case&) const {}
  virtual void name_outputs(Case& c) const = 0;

  static Case tokens(const Case& c, std::int64_t begin, std::int64_t end) {
    Case part{c.key, c.inputs, c.attributes, {}};
    for (Tensor& t : part.inputs) {
      if (t.name != "c") t = sliced(t, 0, begin, end);
    }
    return part;
  }

  static Facts facts_of(const Case& c, std::size_t token) {
    const Tensor& e = c.input("e");
    const Tensor& classes = c.input("c");
    const auto v = static_cast<std::size_t>(classes.shape[0]);
    const auto d = static_cast<std::size_t>(e.shape[1]);
    Facts f;
    f.maximum = -infinity;
    for (std::size_t j = 0; j < v; ++j) {
      DoubleDouble a;
      double scale = 0;
      for (std::size_t k = 0; k < d; ++k) {
        const DoubleDouble product =
            dd::two_product(e.value(token * d + k), classes.value(j * d + k));
        a = a + product;
        scale += std::fabs(product.high);
      }
      f.nan = f.nan || std::isnan(a.high);
      f.logits.push_back(a);
      f.granted.push_back((2 * static_cast<double>(d) + 10) * unit_inside * scale);
      f.maximum = std::max(f.maximum, a.high);
    }
    if (f.nan) return f;
    std::vector<std::size_t> order(v);
    for (std::size_t j = 0; j < v; ++j) order[j] = j;
    std::sort(order.begin(), order.end(),
              [&](std::size_t x, std::size_t y) { return f.logits[y] < f.logits[x]; });
    f.terms.resize(v);
    double above = 0, weighted = 0, of_logits = 0;
    for (const std::size_t j : order) {
      f.terms[j] = dd::exp(f.logits[j] - DoubleDouble{f.maximum});
      f.sum = f.sum + f.terms[j];
      const double w = f.terms[j].high;
      of_logits += w * f.granted[j];
      weighted += w * (argument_units * (f.maximum - f.logits[j].high) + exp_units +
                       (exp_units + 1) * above);
      ++above;
    }
    f.of_logits = of_logits / f.sum.high;
    f.of_sum = weighted / f.sum.high + static_cast<double>(v);
    return f;
  }
  // What log-sum-exp in binary32 may be off by.
  static double log_sum_error(const Facts& f) {
    const double log_s = std::log(f.sum.high), m = std::fabs(f.maximum);
    const double own =
        f.of_sum + 4 * log_s + 2 + 3 * (m + log_s + 1) + std::fabs(f.maximum + log_s);
    return f.of_logits + own * unit_inside;
  }
};

class CrossEntropy final : public CrossEntropyBase {
 public:
  const char* name() const override { return "cross-entropy"; }
  const char* definition() const override {
    return "loss[i] = log Σ_j exp(a[i, j]) - a[i, target[i]], a = e cᵀ, computed in binary32 at "
           "least "
           "and rounded to float32. A NaN among a token's logits gives NaN.";
  }
  Signature signature() const override {
    return {{{"e", "(N, D)", "embeddings"},
             {"c", "(V, D)", "classifier"},
             {"target", "(N)", "int64, the class of each token"}},
            {},
            {{"loss", "(N)", "float32, nats"}}};
  }
  std::vector<Expected> expect(const Case& c) const override {
    const auto n = static_cast<std::size_t>(row_count(c));
    Expected loss(n);
    for (std::size_t i = 0; i < n; ++i) {
      const Facts f = facts_of(c, i);
      if (f.nan) {
        loss.reference[i] = not_a_number;
        continue;
      }
      const auto t = static_cast<std::size_t>(c.input("target").code(i));
      const DoubleDouble value = DoubleDouble{f.maximum} + dd::log(f.sum) - f.logits[t];
      loss.reference[i] = value.high;
      loss.low[i] = value.low;
      loss.condition[i] = std::fabs(f.maximum) + std::fabs(f.logits[t].high) + 1;
      const double error = log_sum_error(f) + f.granted[t] +
                           unit_inside * (std::fabs(f.logits[t].high) + std::fabs(value.high));
      loss.bound[i] = error * (1 + error) + 0x1p-149;
    }
    return {loss};
  }
  std::vector<Tensor> baseline(const Case& c) const override {
    return run_here(builtins().back(), name(), c);
  }
  std::optional<Case> rows(const Case& c, std::int64_t begin, std::int64_t end) const override {
    Case part = tokens(c, begin, end);
    name_outputs(part);
    return part;
  }
  std::vector<Builtin> builtins() const override {
    return {{"tiled-cpu", "tiles of 16 classes, log-sum-exps merged",
             forward<Float32Exponential, float, 16>},
            {"online-cpu", "class by class", forward<Float32Exponential, float, 1>},
            {"binary64-cpu", "in binary64", forward<Float64Exponential, double, 64>},
            {"plain-cpu", "all logits of a token", forward<Float32Exponential, float, 4096>}};
  }

 private:
  void name_outputs(Case& c) const override {
    c.outputs = {{"loss", Element::float32, {c.input("e").shape[0]}}};
  }
};

class CrossEntropyBackward final : public CrossEntropyBase {
 public:
  const char* name() const override { return "cross-entropy-backward"; }
  const char* definition() const override {
    return "de = G c and dc = Gᵀ e, G[i, j] = (softmax(a[i])[j] - [j = target[i]]) dloss[i], a = e "
           "cᵀ. "
           "Inside binary32; G may be rounded to the element type before the products; tiles of G "
           "in "
           "which every |softmax - one-hot| < eps may be skipped, eps = 2^-28 (float32), 2^-15 "
           "(float16), 2^-12 (bfloat16). NaN among a token's logits makes its row of de and all of "
           "dc "
           "NaN.";
  }
  Signature signature() const override {
    return {{{"e", "(N, D)", "embeddings"},
             {"c", "(V, D)", "classifier"},
             {"target", "(N)", "int64, the class of each token"},
             {"dloss", "(N)", "float32, the losses' gradients"}},
            {},
            {{"de", "(N, D)", "of the element type"}, {"dc", "(V, D)", "of the element type"}}};
  }

  std::vector<Expected> expect(const Case& c) const override {
    const Tensor& e = c.input("e");
    const Tensor& classes = c.input("c");
    const auto n = static_cast<std::size_t>(e.shape[0]), d = static_cast<std::size_t>(e.shape[1]);
    const auto v = static_cast<std::size_t>(classes.shape[0]);
    const double eps = filter_of(e.element) * (1 + 0x1p-6);
    const Format f = info(e.element).format;
    const double u_g = e.element == Element::float32 ? 0 : std::ldexp(1.0, -f.precision);
    const double least = std::ldexp(1.0, f.least_quantum_exponent());
    Expected de(n * d), dc(v * d);
    std::vector<DoubleDouble> sum_e(n * d), sum_c(v * d);
    std::vector<double> error_e(n * d), error_c(v * d), scale_e(n * d), scale_c(v * d);
    bool any_nan = false;
    for (std::size_t i = 0; i < n; ++i) {
      const Facts facts = facts_of(c, i);
      if (facts.nan) {
        any_nan = true;
        for (std::size_t k = 0; k < d; ++k) de.reference[i * d + k] = not_a_number;
        continue;
      }
      const double dloss = c.input("dloss").value(i);
      const double of_lse = log_sum_error(facts);
      for (std::size_t j = 0; j < v; ++j) {
        const bool hit = c.input("target").code(i) == j;
        const DoubleDouble g = facts.terms[j] / facts.sum;
        DoubleDouble s = g;
        if (hit) {  // 1 − g of the others, without cancellation
          s = DoubleDouble{};
          for (std::size_t l = 0; l < v; ++l)
            if (l != j) s = s - facts.terms[l] / facts.sum;
        }
        const double below = facts.maximum - facts.logits[j].high;
        const double relative =
            facts.granted[j] + of_lse + facts.of_logits +
            unit_inside *
                (argument_units * (below + std::fabs(facts.maximum) + std::log(facts.sum.high)) +
                 exp_units + 4 + facts.of_sum);
        const double of_s =
            g.high * std::expm1(relative) + unit_inside * std::fabs(s.high) + 0x1p-149;
        const bool may_skip = std::fabs(s.high) < eps;
        const double of_g =
            std::fabs(dloss) * (of_s + (u_g + 2 * unit_inside) * (std::fabs(s.high) + of_s) +
                                (may_skip ? std::fabs(s.high) : 0)) +
            least;
        const DoubleDouble big = s * DoubleDouble{dloss};
        for (std::size_t k = 0; k < d; ++k) {
          const double ck = classes.value(j * d + k), ek = e.value(i * d + k);
          sum_e[i * d + k] = sum_e[i * d + k] + big * DoubleDouble{ck};
          sum_c[j * d + k] = sum_c[j * d + k] + big * DoubleDouble{ek};
          error_e[i * d + k] += of_g * std::fabs(ck);
          error_c[j * d + k] += of_g * std::fabs(ek);
          scale_e[i * d + k] += std::fabs(big.high * ck);
          scale_c[j * d + k] += std::fabs(big.high * ek);
        }
      }
    }
    const auto finish = [&](Expected& to, const std::vector<DoubleDouble>& sum,
                            const std::vector<double>& error, const std::vector<double>& scale,
                            std::size_t terms) {
      for (std::size_t k = 0; k < sum.size(); ++k) {
        if (std::isnan(to.reference[k])) continue;
        to.reference[k] = sum[k].high;
        to.low[k] = sum[k].low;
        to.condition[k] = scale[k];
        const double chain = (2 * static_cast<double>(terms) + 10) * unit_inside;
        const double inside = error[k] + chain * (scale[k] + error[k]) + 0x1p-149;
        to.bound[k] = rounded_bound(e.element, sum[k].high, inside);
      }
    };
    finish(de, sum_e, error_e, scale_e, v);
    if (any_nan) std::fill(dc.reference.begin(), dc.reference.end(), not_a_number);
    finish(dc, sum_c, error_c, scale_c, n);
    return {de, dc};
  }
  std::vector<Tensor> baseline(const Case& c) const override {
    return run_here(builtins().back(), name(), c);
  }
  std::vector<Builtin> builtins() const override {
    return {
        {"tiled-cpu", "tiles of 16 by 16, filtered", backward<Float32Exponential, float, 16, true>},
        {"element-cpu", "tiles of one element, filtered",
         backward<Float32Exponential, float, 1, true>},
        {"binary64-cpu", "in binary64, unfiltered",
         backward<Float64Exponential, double, 64, false>},
        {"plain-cpu", "whole rows, unfiltered", backward<Float32Exponential, float, 4096, false>}};
  }

 private:
  void more_inputs(Draws& draws, Case& c) const override {
    Tensor dloss({"dloss", Element::float32, {c.input("e").shape[0]}});
    for (std::size_t i = 0; i < dloss.count(); ++i)
      dloss.set(i, draws.one_in(2) ? 1.0 : draws.spread(-6, 2));
    c.inputs.push_back(std::move(dloss));
  }
  void name_outputs(Case& c) const override {
    const Tensor& e = c.input("e");
    c.outputs = {{"de", e.element, e.shape}, {"dc", e.element, c.input("c").shape}};
  }
};

}  // namespace

const Suite& cross_entropy_suite() {
  static const CrossEntropy suite;
  return suite;
}
const Suite& cross_entropy_backward_suite() {
  static const CrossEntropyBackward suite;
  return suite;
}

}  // namespace halfulp::conformance
