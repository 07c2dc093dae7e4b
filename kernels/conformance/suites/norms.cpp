// Layer normalisation and RMS normalisation of rows: y (rows, n) of x (rows, n).
//
// Bounds, for kernels that compute inside in binary32, u = 2^-24, η = 2^-149, in any order of
// summation, with two passes or Welford's updates, merged or not. Notation: exact μ, σ², d = x − μ,
// a = mean|x|, q = mean x², r = 1/√(σ² + ε); hats are computed. Overflow excluded (below).
//
// 1. The mean. A sum in any order and a division, or a product with 1/n rounded: |μ̂ − μ| <=
//    γ_(n+2)·a. Welford's M_k = M_(k−1) + (x_k − M_(k−1))·(1/k), four roundings: with e_k = |M̂_k −
//    M_k|,  k·e_k <= (k−1)·e_(k−1) + u·k|M_k| + 3u·|x_k − M_(k−1)|. Summed, with k|M_k| <= Σ|x|:
//    e_n <= (n + 6 + 3·ln n)·u·a to first order. Merging parts A, B costs at most 5u·(n_A|M_A| +
//    n_B|M_B|)/n, 5u·a a level, which is less than the chain that it replaces. Kernels that compute
//    x·s + (b − μ·s), s = r·w, take 5u·|μ| more, relative to s. Together, first order:
//        E = (n + 11 + 3·ln n)·u·a + η.
// 2. The variance. Two passes: Σ(x − μ̂)² = n·(σ² + (μ̂−μ)²), n + 6 roundings: |σ̂² − σ²| <=
//    γ_(n+6)·(σ² + E²) + E². Welford: Σ (x_k − M_(k−1))(x_k − M_k), whose exact terms q_k =
//    (1 − 1/k)(x_k − M_(k−1))² add up to nσ²; the errors of the means enter by at most
//    Σ_(k>=2) |x_k − M_(k−1)|·(e_k + e_(k−1)) <= √(2nσ²)·2·√(Σ e_k²), and, as k·a_k <= √(k·n·q),
//    Σ_(k>=2) e_k² <= u²·n·q·Σ (k + 6 + 3 ln k)²/k <= u²·n·q·n²·F², F² = 1/2 + (48 + 6 ln n)/n
//    ((k + 6 + 3 ln k)² / k <= k + 48 + 6 ln k for k >= 2). So the error is at most
//        V = γ_(n+8)·σ² + 2√2·n·F·u·σ·√q + 2·(n·F·u)²·q + 1.1·E² + u·ε + 2η.
//    Merging: Σ (n_A n_B/n_AB)·2|δ|·(e_A + e_B + u|δ|) over the nodes of L levels, where
//    Σ (n_A n_B/n_AB)·δ² <= nσ² and e_A <= c·u·√(mean_A x²), c <= 5L: at most 2√2·5L·√L·n·u·σ·√q in
//    all and less than the term of the chain (5(L−1)·√L <= n·F for n = 2^L; single elements have
//    no error).
//    One pass, mean(x²) − μ², has γ_n·q in place of γ_n·σ² + n·u·σ·√q: q/σ² = κ² against κ. It does
//    not keep this bound, and must not.
// 3. r̂ = r·(1 + ρ̂), |ρ̂| <= ρ = 1/√(1 − V/(σ² + ε)) − 1; where V >= σ² + ε nothing can be asked.
//    Its sum, root and quotient (or 1/√ within 2 ulp) are at most 6u more.
// 4. y: d̂ = (x − μ̂)(1 + δ); products with r and w in any order; the sum with b:
//    T = |w|·r·[(|d| + E)(1 + ρ)(1 + 12u) − |d|] + η·(1 + |w| + |d| + r),   |ŷ − y| <= T + 2u·(|y|
//    + T). A 16-bit output adds its own rounding.
// Second-order terms: everything of first order is divided by (1 − (n + 20)·u)².
//
// RMS: no mean, V = γ_(n+6)·q + u·ε + 2η, E = 0.
//
// Overflow: where n·(√q + E)², n·a, r·|w| or |d|·r·|w| is 2^126 or more, the order of operations
// decides whether an infinity comes about, and nothing is asked.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/conformance/bounds.hpp"
#include "kernels/conformance/draws.hpp"
#include "kernels/conformance/float_values.hpp"
#include "kernels/conformance/suites.hpp"
#include "kernels/double_double.hpp"
#include "kernels/norms.hpp"

namespace halfulp::conformance {

namespace {

using kernels::DoubleDouble;
using kernels::Moments;
using kernels::NormForm;

constexpr double u = 0x1p-24;
constexpr double eta = 0x1p-149;
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// ---------------------------------------------------------------- builtins

template <bool centred>
int run(NormForm form, const halfulp_call* call) {
  const halfulp_dltensor& x = *find_input(*call, "x");
  const halfulp_dltensor& y = *find_output(*call, "y");
  if (!is_widened(x) || !is_widened(y)) return HALFULP_UNSUPPORTED;
  const auto n = static_cast<std::size_t>(x.shape[1]);
  const auto epsilon = static_cast<float>(find_attribute(*call, "eps", 1e-5));
  const std::vector<float> values = floats_of(x), weight = floats_of(*find_input(*call, "weight"));
  std::vector<float> bias, result(values.size());
  if (centred) bias = floats_of(*find_input(*call, "bias"));
  const Native<float> arith;
  for (std::size_t row = 0; row < static_cast<std::size_t>(x.shape[0]); ++row) {
    const float* from = values.data() + row * n;
    float* to = result.data() + row * n;
    if (centred)
      kernels::layer_norm(arith, form, n, from, weight.data(), bias.data(), epsilon, to);
    else
      kernels::rms_norm(arith, form.lanes, n, from, weight.data(), epsilon, to);
  }
  set_floats(y, result);
  return HALFULP_OK;
}

template <bool centred, Moments moments, std::size_t lanes>
int run(void*, const halfulp_call* call) {
  return run<centred>({moments, lanes}, call);
}

// ---------------------------------------------------------------- the exact result and its bound

// Of a row whose elements are finite.
struct Row {
  DoubleDouble mean, variance, r;  // RMS: 0, mean x², …
  double mean_error = 0;           // E
  double rho = 0;
  bool asked = true;  // the moments are determined well enough
  double a = 0, q = 0;

  Row(const std::vector<double>& x, double epsilon, bool centred) {
    const auto n = static_cast<double>(x.size());
    DoubleDouble sum, squares;
    for (const double v : x) {
      sum = sum + v;
      squares = squares + kernels::dd::two_product(v, v);
      a += std::fabs(v) / n;
    }
    const DoubleDouble count{n};
    const DoubleDouble mean_square = squares / count;
    q = mean_square.high;
    const bool constant = std::all_of(x.begin(), x.end(), [&](double v) { return v == x[0]; });
    if (centred) {
      mean = constant ? DoubleDouble{x[0]} : sum / count;
      DoubleDouble deviations;
      for (const double v : x) {
        const DoubleDouble d = DoubleDouble{v} - mean;
        deviations = deviations + d * d;
      }
      variance = deviations / count;
    } else {
      variance = mean_square;
    }
    const DoubleDouble total = variance + DoubleDouble{epsilon};
    r = DoubleDouble{1.0} / kernels::dd::sqrt(total);

    const double order = 1 / ((1 - (n + 20) * u) * (1 - (n + 20) * u));
    const double log_n = std::log(n), rms = std::sqrt(q), deviation = std::sqrt(variance.high);
    double v = order * (n + 8) * u * variance.high + u * epsilon + 2 * eta;
    if (centred) {
      mean_error = order * (n + 11 + 3 * log_n) * u * a + eta;
      const double f = n * std::sqrt(0.5 + (48 + 6 * log_n) / n) * u;
      if (x.size() > 1) {
        v += order * 2 * std::sqrt(2.0) * f * deviation * rms + 2 * order * f * f * q +
             1.1 * mean_error * mean_error;
      }
    }
    const double share = v / total.high;
    if (total.high == 0) {
      asked = x.size() > 0 && exact_sums(x);  // then 0·∞
    } else if (!(share < 1)) {
      asked = false;
    } else {
      rho = 1 / std::sqrt(1 - share) - 1;
    }
    const double largest = std::sqrt(q) + mean_error;
    if (!(n * largest * largest < 0x1p126) || !(n * a < 0x1p126)) asked = false;
  }

 private:
  // Of equal numbers, in any order, merged or not.
  static bool exact_sums(const std::vector<double>& x) {
    if (x[0] == 0) return true;
    int exponent = 0;
    const double scaled =
        std::ldexp(std::frexp(x[0], &exponent), 24) / static_cast<double>(x.size());
    return (x.size() & (x.size() - 1)) == 0 && scaled == std::floor(scaled);
  }
};

class Norm : public Suite {
 public:
  explicit Norm(bool centred) : centred_(centred) {}

  const char* name() const override { return centred_ ? "layer-norm" : "rms-norm"; }
  int version() const override { return 1; }
  const char* definition() const override {
    return centred_
               ? "y = (x − μ)·r·weight + bias, r = 1/√(σ² + eps), μ and σ² the mean and the mean "
                 "squared deviation of the row (divided by n), in exact arithmetic over the "
                 "extended "
                 "reals. So a row with NaN or an infinity is all NaN; a constant row gives bias, "
                 "or "
                 "NaN with eps = 0 (0·∞)."
               : "y = x·r·weight, r = 1/√(mean(x²) + eps), in exact arithmetic over the extended "
                 "reals. So a row with NaN is all NaN; in a row with an infinity the infinities "
                 "give "
                 "NaN (∞·0) and finite numbers a zero with the sign of x·weight (NaN if weight is "
                 "infinite); a row of zeros gives zeros, or NaN with eps = 0.";
  }
  Signature signature() const override {
    Signature s{{{"x", "(rows, n)", "the rows"}, {"weight", "(n)", "factor of each column"}},
                {{"eps", "", "added to the variance"}},
                {{"y", "(rows, n)", "the normalised rows"}}};
    if (centred_) s.inputs.push_back({"bias", "(n)", "added to each column"});
    return s;
  }
  std::vector<std::string> variants() const override { return {"float32", "float16", "bfloat16"}; }

  std::vector<CaseKey> cases(std::string_view variant, Level level) const override {
    struct Family {
      const char* name;
      std::uint32_t quick;
    };
    static constexpr Family families[] = {{"small", 24},
                                          {"ordinary", 12},
                                          {"plain", 6},
                                          {"large-mean", 24},
                                          {"constant", 12},
                                          {"zero-eps", 8},
                                          {"constant-zero-eps", 6},
                                          {"large-squares", 8},
                                          {"tiny", 8},
                                          {"outlier", 8},
                                          {"ragged", 14},
                                          {"long", 3},
                                          {"wide-range", 8},
                                          {"affine-range", 6},
                                          {"special-values", 24},
                                          {"empty", 2}};
    const std::uint32_t times = level == Level::quick ? 1 : level == Level::full ? 30 : 1000;
    std::vector<CaseKey> keys;
    for (const Family& f : families) {
      const std::uint32_t each = std::string_view(f.name) == "empty" ? f.quick : f.quick * times;
      for (std::uint32_t i = 0; i < each; ++i) keys.push_back({std::string(variant), f.name, i});
    }
    return keys;
  }

  Case make(const CaseKey& key) const override;
  std::vector<Expected> expect(const Case& c) const override;

  std::int64_t row_count(const Case& c) const override { return c.input("x").shape[0]; }
  std::optional<Case> rows(const Case& c, std::int64_t begin, std::int64_t end) const override {
    return cut(c, begin, end, 0, length(c));
  }
  std::int64_t length(const Case& c) const override { return c.input("x").shape[1]; }
  std::optional<Case> shorten(const Case& c, std::int64_t begin, std::int64_t end) const override {
    return cut(c, 0, row_count(c), begin, end);
  }

  std::vector<Builtin> builtins() const override {
    if (centred_) {
      return {{"two-pass-cpu", "mean, then squared deviations, chains in order, inside binary32",
               run<true, Moments::two_pass, 1>},
              {"two-pass-tree-cpu", "the same in 64 lanes, neighbours added",
               run<true, Moments::two_pass, 64>},
              {"welford-cpu", "Welford's updates in order", run<true, Moments::welford, 1>},
              {"welford-merged-cpu", "Welford's updates in 32 lanes, neighbours merged",
               run<true, Moments::welford, 32>}};
    }
    return {
        {"chain-cpu", "squares added in order, inside binary32", run<false, Moments::two_pass, 1>},
        {"tree-cpu", "the same in 64 lanes, neighbours added", run<false, Moments::two_pass, 64>}};
  }

 private:
  Case cut(const Case& c, std::int64_t from, std::int64_t to, std::int64_t begin,
           std::int64_t end) const {
    Case part{c.key, {}, c.attributes, {{"y", c.outputs[0].element, {to - from, end - begin}}}};
    for (const Tensor& t : c.inputs) {
      part.inputs.push_back(t.name == "x" ? sliced(sliced(t, 0, from, to), 1, begin, end)
                                          : sliced(t, 0, begin, end));
    }
    return part;
  }

  bool centred_;
};

Case Norm::make(const CaseKey& key) const {
  Draws draws(name(), version(), key);
  const Element e = element_named(key.variant);
  const std::string_view family = key.family;
  const int precision = info(e).format.precision;
  const int top = e == Element::float16 ? 15 : 55;       // largest exponents, squares far from
  const int bottom = e == Element::float16 ? -24 : -70;  // binary32's ends, or not
  auto rows = static_cast<std::int64_t>(1 + draws.below(4));
  auto n = static_cast<std::int64_t>(4 + draws.below(600));
  double epsilon = draws.one_in(2) ? 1e-5 : draws.one_in(2) ? 1e-6 : 1e-12;
  if (family == "small") n = 1 + key.index % 3;
  if (family == "large-mean" && key.index % 2 == 1)
    n = static_cast<std::int64_t>(2 + draws.below(30));
  if (family == "long") {
    rows = 1;
    n = static_cast<std::int64_t>(4096 + draws.below(4097));
  }
  if (family == "ragged") {
    static constexpr std::int64_t ends[] = {31,  32,  33,  63,  65,   127,  129,
                                            255, 257, 511, 513, 1023, 1025, 2049};
    n = ends[key.index % std::size(ends)];
  }
  if (family == "empty") (key.index % 2 == 0 ? rows : n) = 0;
  if (family == "constant-zero-eps") n = std::int64_t{1} << draws.below(7);
  if (family == "zero-eps" || family == "constant-zero-eps") epsilon = 0;

  Tensor x({"x", e, {rows, n}}), weight({"weight", e, {n}}), bias({"bias", e, {n}});
  for (std::int64_t row = 0; row < rows; ++row) {
    const double sign = draws.one_in(2) ? -1 : 1;
    // A mean of so many deviations: in short rows up to where the format has two bits left for the
    // deviations, in long ones while something can be asked.
    const int largest = n < 32 ? precision - 2 : std::min(precision - 2, 13);
    const double offset =
        sign * std::ldexp(1 + draws.uniform(0, 1),
                          static_cast<int>(draws.below(static_cast<u64>(largest))));
    const double scale = std::ldexp(1.0, static_cast<int>(draws.below(20)) - 10);
    const double same =
        std::ldexp(static_cast<double>(1 + draws.below(7)), static_cast<int>(draws.below(10)) - 5) *
        sign;
    const auto outlier = static_cast<std::int64_t>(draws.below(static_cast<u64>(n) + 1));
    const double value = draws.spread(-6, 6);
    for (std::int64_t i = 0; i < n; ++i) {
      double v = draws.normal();
      if (family == "large-mean")
        v = scale * (v + offset) / (e == Element::float16 ? scale * 2 : 1);
      else if (family == "constant")
        v = value;
      else if (family == "constant-zero-eps")
        v = same;
      else if (family == "large-squares")
        v = std::ldexp(v, top - 4);
      else if (family == "tiny")
        v = std::ldexp(v, static_cast<int>(bottom + static_cast<int>(draws.below(12))));
      else if (family == "outlier")
        v = i == outlier ? v * 4096 : v;
      else if (family == "wide-range")
        v = draws.spread(-14, 12);
      else if (family == "small")
        v = draws.spread(-3, 3) + (draws.one_in(3) ? 8 * sign : 0);
      x.set(static_cast<std::size_t>(row * n + i), v);
    }
  }
  for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
    const bool plain = family == "plain";
    const bool range = family == "affine-range";
    weight.set(i, plain ? 1 : range ? draws.spread(-12, 12) : 1 + 0.25 * draws.normal());
    bias.set(i, plain ? 0 : range ? draws.spread(-12, 12) : 0.5 * draws.normal());
  }
  if (family == "special-values" && rows * n > 0) {
    const std::vector<double> all = boundaries(e, true);
    const auto put = [&](Tensor& t) {
      t.set(draws.below(t.count()), all[draws.below(all.size())]);
    };
    if (key.index % 3 == 0) {
      put(weight);
      put(bias);
    } else {
      x.set(draws.below(x.count()), all[all.size() - 1 - draws.below(3)]);
      if (draws.one_in(2)) put(x);
    }
  }
  Case c{key, {}, {{"eps", epsilon}}, {{"y", e, {rows, n}}}};
  c.inputs.push_back(std::move(x));
  c.inputs.push_back(std::move(weight));
  if (centred_) c.inputs.push_back(std::move(bias));
  return c;
}

std::vector<Expected> Norm::expect(const Case& c) const {
  const Tensor& x = c.input("x");
  const double epsilon = c.attribute("eps");
  const auto rows = static_cast<std::size_t>(x.shape[0]), n = static_cast<std::size_t>(x.shape[1]);
  const std::vector<double> weight = c.input("weight").values();
  const std::vector<double> bias =
      centred_ ? c.input("bias").values() : std::vector<double>(n, 0.0);
  const Element out = c.outputs[0].element;
  Expected y(rows * n);
  std::vector<double> values(n);
  for (std::size_t row = 0; row < rows; ++row) {
    bool any_nan = false, any_infinity = false;
    for (std::size_t i = 0; i < n; ++i) {
      values[i] = x.value(row * n + i);
      any_nan = any_nan || std::isnan(values[i]);
      any_infinity = any_infinity || std::isinf(values[i]);
    }
    if (any_nan || any_infinity) {
      for (std::size_t i = 0; i < n; ++i) {
        const std::size_t at = row * n + i;
        const bool vanishes =
            !centred_ && !any_nan && std::isfinite(values[i]) && std::isfinite(weight[i]);
        const bool negative = std::signbit(values[i]) != std::signbit(weight[i]);
        expect_exactly(y, at, vanishes ? (negative ? -0.0 : 0.0) : nan);
      }
      continue;
    }
    if (n == 0) continue;
    const Row m(values, epsilon, centred_);
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t at = row * n + i;
      const double w = weight[i], b = bias[i];
      if (std::isnan(w) || std::isnan(b)) {
        expect_exactly(y, at, nan);
        continue;
      }
      if (!m.asked) {
        expect_nothing(y, at);
        continue;
      }
      const DoubleDouble d = DoubleDouble{values[i]} - m.mean;
      const double distance = std::fabs(d.high);
      if (!std::isfinite(m.r.high)) {  // ε = 0 and all deviations 0
        expect_exactly(y, at, nan);
        continue;
      }
      if (std::isinf(w)) {
        if (values[i] == 0 && !centred_) {
          expect_exactly(y, at, nan);
        } else if (distance > 2 * m.mean_error) {
          const double product = w * d.high;
          expect_exactly(y, at,
                         std::isinf(b) && (b > 0) != (product > 0) ? nan
                         : product > 0                             ? infinity
                                                                   : -infinity);
        } else {
          expect_nothing(y, at);
        }
        continue;
      }
      const double factor = m.r.high * std::fabs(w);
      if (!(factor < 0x1p126) || !(distance * factor < 0x1p126)) {
        expect_nothing(y, at);
        continue;
      }
      if (std::isinf(b)) {
        expect_exactly(y, at, b);
        continue;
      }
      const DoubleDouble exact = d * m.r * DoubleDouble{w} + DoubleDouble{b};
      const double t =
          factor * ((distance + m.mean_error) * ((1 + m.rho) * (1 + 12 * u) - 1) + m.mean_error) +
          eta * (1 + std::fabs(w) + distance + m.r.high);
      expect_within(y, at, exact, t + 2 * u * (std::fabs(exact.high) + t),
                    factor * (distance + (centred_ ? m.a : 0)) + std::fabs(b), out);
    }
  }
  return {y};
}

}  // namespace

const Suite& layer_norm_suite() {
  static const Norm suite(true);
  return suite;
}

const Suite& rms_norm_suite() {
  static const Norm suite(false);
  return suite;
}

}  // namespace halfulp::conformance
