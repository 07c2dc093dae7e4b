// One step of AdamW, element by element; parameters and gradients in one type, moments in binary32.
//
// Bounds, for kernels that compute inside in binary32, u = 2^-24, η = 2^-149. What no element
// changes (1 − β1, 1 − β2, 1 − rate·decay, rate/(1 − β1^t), √(1 − β2^t)) is computed in binary64
// from the attributes and rounded once, or twice; a kernel that forms 1 − β from a β that it has
// rounded to binary32 (off by up to β/(1 − β)·u) does not keep these bounds.
//
//   m' = β1·m + (1 − β1)·g        by two products and a sum, or m + (g − m)·(1 − β1), fused or not:
//                                 |m̂' − m'| <= E_m = 4u·(|m| + (1 − β1)·|g|) + 2η
//   v' = β2·v + (1 − β2)·g²       no cancellation; (1 − β2)·g·g in any order:
//                                 |v̂' − v'| <= E_v = 6u·v' + 2η·(1 + |g|); 0 for g = v = 0
//   D  = √v'/√(1 − β2^t) + ε      D̂ lies between the values at v' ∓ E_v, times 1 ∓ 6u
//   q  = rate/(1 − β1^t)·m'/D     between those of m' ∓ E_m and D̂, times 1 ∓ 8u, ∓ η·(1 + size +
//   1/D) w' = w·(1 − rate·decay) − q   |ŵ' − w'| <= E_q + 3u·|w| + 2u·|w'| + 2η
//
// 16-bit parameters add their own rounding. Where (|g| + |m|)² may overflow (2^62 and more) nothing
// is asked of v' and w'; where m is infinite nothing of m' and w' (the two forms differ: ∞ and
// ∞ − ∞); where v is negative, or D̂ may be 0, nothing of w'.
#include "kernels/adamw.hpp"

#include <cmath>
#include <limits>

#include "kernels/conformance/bounds.hpp"
#include "kernels/conformance/draws.hpp"
#include "kernels/conformance/float_values.hpp"
#include "kernels/conformance/suites.hpp"
#include "kernels/double_double.hpp"

namespace halfulp::conformance {

namespace {

using kernels::DoubleDouble;
namespace dd = kernels::dd;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

template <bool lerp>
int run(void*, const halfulp_call* call) {
  const halfulp_dltensor& parameter = *find_input(*call, "parameter");
  if (!is_widened(parameter)) return HALFULP_UNSUPPORTED;
  kernels::AdamWOptions o;
  o.rate = find_attribute(*call, "lr", o.rate);
  o.beta1 = find_attribute(*call, "beta1", o.beta1);
  o.beta2 = find_attribute(*call, "beta2", o.beta2);
  o.epsilon = find_attribute(*call, "eps", o.epsilon);
  o.decay = find_attribute(*call, "weight_decay", o.decay);
  o.step = find_attribute(*call, "step", o.step);
  o.lerp = lerp;
  const kernels::AdamWScalars scalars(o);
  std::vector<float> w = floats_of(parameter), m = floats_of(*find_input(*call, "m")),
                     v = floats_of(*find_input(*call, "v"));
  const std::vector<float> g = floats_of(*find_input(*call, "gradient"));
  for (std::size_t i = 0; i < w.size(); ++i) {
    const auto next = kernels::adamw(Native<float>{}, o, scalars, {w[i], m[i], v[i]}, g[i]);
    w[i] = next.parameter;
    m[i] = next.first;
    v[i] = next.second;
  }
  set_floats(*find_output(*call, "parameter"), w);
  set_floats(*find_output(*call, "m"), m);
  set_floats(*find_output(*call, "v"), v);
  return HALFULP_OK;
}

DoubleDouble power(DoubleDouble x, u64 n) {
  DoubleDouble result{1.0};
  for (; n != 0; n >>= 1, x = x * x) {
    if ((n & 1) != 0) result = result * x;
  }
  return result;
}

class AdamW final : public Suite {
 public:
  const char* name() const override { return "adamw"; }
  int version() const override { return 1; }
  const char* definition() const override {
    return "w' = w·(1 − lr·weight_decay) − lr/(1 − beta1^step)·m'/(√v'/√(1 − beta2^step) + eps), "
           "m' = beta1·m + (1 − beta1)·g, v' = beta2·v + (1 − beta2)·g² (Loshchilov & Hutter 2019; "
           "PyTorch's order), the attributes taken as the binary64 numbers that they are. A NaN in "
           "m "
           "or v spoils that moment and w, in g all three; an infinite g gives infinite moments "
           "and a "
           "NaN parameter.";
  }
  Signature signature() const override {
    return {{{"parameter", "(n)", "w"},
             {"gradient", "(n)", "g"},
             {"m", "(n)", "first moment, float32"},
             {"v", "(n)", "second moment, float32, not negative"}},
            {{"lr", "", "learning rate"},
             {"beta1", "", "decay of m"},
             {"beta2", "", "decay of v"},
             {"eps", "", "added to the root"},
             {"weight_decay", "", "decoupled decay"},
             {"step", "", "t, from 1"}},
            {{"parameter", "(n)", "w'"}, {"m", "(n)", "m'"}, {"v", "(n)", "v'"}}};
  }
  std::vector<std::string> variants() const override { return {"float32", "bfloat16:float32"}; }

  std::vector<CaseKey> cases(std::string_view variant, Level level) const override {
    const std::uint32_t each = level == Level::quick ? 8 : level == Level::full ? 300 : 10000;
    std::vector<CaseKey> keys;
    for (const char* family : {"small", "ordinary", "first-step", "late-step", "zero-moments",
                               "zero-gradient", "zero-eps", "opposed", "tiny-gradients",
                               "huge-gradients", "wide-range", "strong-decay", "special-values"}) {
      for (std::uint32_t i = 0; i < each; ++i) keys.push_back({std::string(variant), family, i});
    }
    keys.push_back({std::string(variant), "empty", 0});
    return keys;
  }

  Case make(const CaseKey& key) const override {
    Draws draws(name(), version(), key);
    const Element e = key.variant == "float32" ? Element::float32 : Element::bfloat16;
    const std::string_view family = key.family;
    const std::int64_t n = family == "empty"   ? 0
                           : family == "small" ? static_cast<std::int64_t>(1 + draws.below(3))
                                               : static_cast<std::int64_t>(30 + draws.below(200));
    Tensor w({"parameter", e, {n}}), g({"gradient", e, {n}}), m({"m", Element::float32, {n}}),
        v({"v", Element::float32, {n}});
    const bool fresh = family == "first-step" || family == "zero-moments";
    double step = fresh && family == "first-step" ? 1 : static_cast<double>(1 + draws.below(100));
    if (family == "late-step") step = static_cast<double>(100000 + draws.below(100000));
    for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
      double gradient = 0.1 * draws.normal(), first = 0.01 * draws.normal();
      if (family == "tiny-gradients") {
        gradient = draws.spread(-140, -60);
        first = draws.spread(-140, -60);
      } else if (family == "huge-gradients") {
        gradient = draws.spread(40, 80);
        first = draws.spread(40, 80);
      } else if (family == "wide-range") {
        gradient = draws.spread(-40, 20);
        first = draws.spread(-40, 20);
      }
      const double size = first * first * (1 + 4 * draws.uniform(0, 1));
      w.set(i, family == "wide-range" ? draws.spread(-30, 10) : draws.normal());
      g.set(i, family == "zero-gradient" || (family == "zero-eps" && i % 2 == 0) ? 0 : gradient);
      if (family == "opposed") first = -gradient / 9 * (1 + 0x1p-12 * draws.normal());
      m.set(i, fresh ? 0 : first);
      v.set(i, fresh || (family == "zero-gradient" && i % 2 == 0) ||
                       (family == "zero-eps" && i % 4 == 0)
                   ? 0
                   : size);
      if (family == "zero-eps" && i % 8 == 0) m.set(i, 0);
    }
    if (family == "special-values") {
      for (Tensor* t : {&w, &g, &m, &v}) {
        for (int k = 0; k < 2; ++k) {
          const double x = draws.special(t->element);
          t->set(draws.below(t->count()), t == &v ? std::fabs(x) : x);
        }
      }
    }
    const bool usual = draws.one_in(2);
    Case c{key,
           {},
           {{"lr", family == "strong-decay" ? 0.5
                   : usual                  ? 1e-3
                                            : draws.uniform(1e-5, 1e-2)},
            {"beta1", usual ? 0.9 : draws.uniform(0.5, 0.99)},
            {"beta2", usual ? 0.999 : draws.uniform(0.9, 0.9999)},
            {"eps", family == "zero-eps" ? 0
                    : usual              ? 1e-8
                                         : 1e-6},
            {"weight_decay", family == "strong-decay" ? draws.uniform(0.5, 1.9)
                             : usual                  ? 1e-2
                                                      : draws.uniform(0, 0.1)},
            {"step", step}},
           {{"parameter", e, {n}}, {"m", Element::float32, {n}}, {"v", Element::float32, {n}}}};
    for (Tensor* t : {&w, &g, &m, &v}) c.inputs.push_back(std::move(*t));
    return c;
  }

  std::vector<Expected> expect(const Case& c) const override {
    const Tensor &parameter = c.input("parameter"), &gradient = c.input("gradient"),
                 &first = c.input("m"), &second = c.input("v");
    const Scalars s(c);
    const std::size_t n = parameter.count();
    Expected w(n), m(n), v(n);
    for (std::size_t i = 0; i < n; ++i) {
      one(s, parameter.value(i), gradient.value(i), first.value(i), second.value(i), i,
          c.outputs[0].element, w, m, v);
    }
    return {w, m, v};
  }

  std::int64_t row_count(const Case& c) const override { return c.input("parameter").shape[0]; }
  std::optional<Case> rows(const Case& c, std::int64_t begin, std::int64_t end) const override {
    Case part{c.key, {}, c.attributes, c.outputs};
    for (const Tensor& t : c.inputs) part.inputs.push_back(sliced(t, 0, begin, end));
    for (TensorInfo& t : part.outputs) t.shape[0] = end - begin;
    return part;
  }

  std::vector<Builtin> builtins() const override {
    return {{"lerp-cpu", "m by m + (g − m)·(1 − beta1), inside binary32", run<true>},
            {"products-cpu", "m by two products and a sum", run<false>}};
  }

 private:
  struct Scalars {
    double beta1, beta2, epsilon;
    DoubleDouble keep, new1, new2, size, root;

    explicit Scalars(const Case& c)
        : beta1(c.attribute("beta1")), beta2(c.attribute("beta2")), epsilon(c.attribute("eps")) {
      const DoubleDouble one{1.0}, rate{c.attribute("lr")};
      const auto t = static_cast<u64>(c.attribute("step"));
      keep = one - rate * DoubleDouble{c.attribute("weight_decay")};
      new1 = one - DoubleDouble{beta1};
      new2 = one - DoubleDouble{beta2};
      size = rate / (one - power(DoubleDouble{beta1}, t));
      root = dd::sqrt(one - power(DoubleDouble{beta2}, t));
    }
  };

  static void one(const Scalars& s, double w, double g, double m, double v, std::size_t i,
                  Element out, Expected& next_w, Expected& next_m, Expected& next_v) {
    constexpr double u = 0x1p-24, eta = 0x1p-149;
    // First moment.
    const DoubleDouble m1 = DoubleDouble{s.beta1} * DoubleDouble{m} + s.new1 * DoubleDouble{g};
    const double scale_m = std::fabs(m) + s.new1.high * std::fabs(g);
    const double error_m = 4 * u * scale_m + 2 * eta;
    const bool m_open = std::isinf(m) && !std::isnan(g);
    if (m_open)
      expect_nothing(next_m, i);
    else if (std::isfinite(scale_m))
      expect_within(next_m, i, m1, error_m, scale_m, Element::float32);
    else
      expect_exactly(next_m, i, std::isnan(m) || std::isnan(g) ? nan : g);
    // Second moment.
    const bool v_open = v < 0 || (std::isfinite(g) && std::fabs(g) >= 0x1p62);
    const DoubleDouble v1 =
        DoubleDouble{s.beta2} * DoubleDouble{v} + s.new2 * dd::two_product(g, g);
    const double error_v = g == 0 && v == 0 ? 0 : 6 * u * v1.high + 2 * eta * (1 + std::fabs(g));
    const bool v_finite = std::isfinite(v) && std::isfinite(g);
    if (std::isnan(v) || std::isnan(g))
      expect_exactly(next_v, i, nan);
    else if (!v_finite && !(v < 0))
      expect_exactly(next_v, i, infinity);
    else if (v_open || v1.high >= 0x1p127)
      expect_nothing(next_v, i);
    else
      expect_within(next_v, i, v1, error_v, v1.high, Element::float32);
    // Parameter.
    if (std::isnan(w) || std::isnan(g) || std::isnan(m) || std::isnan(v) || std::isinf(g)) {
      expect_exactly(next_w, i, nan);
      return;
    }
    if (m_open || v_open || (v_finite && v1.high >= 0x1p127) || std::fabs(m) >= 0x1p100 ||
        std::fabs(w) >= 0x1p126) {
      expect_nothing(next_w, i);
      return;
    }
    DoubleDouble q;
    double error_q = 0;
    if (std::isfinite(v)) {
      const DoubleDouble d = dd::sqrt(v1) / s.root + DoubleDouble{s.epsilon};
      if (d.high == 0) {
        // v' is 0 in every order of operations; m' too, if m is.
        if (m == 0)
          expect_exactly(next_w, i, nan);
        else if (std::fabs(m) > 0x1p-100 && error_v == 0)
          expect_exactly(next_w, i, m1.high > 0 ? -infinity : infinity);
        else
          expect_nothing(next_w, i);
        return;
      }
      const double low =
          (std::sqrt(std::fmax(0, v1.high - error_v)) / s.root.high + s.epsilon) * (1 - 6 * u);
      const double high = (std::sqrt(v1.high + error_v) / s.root.high + s.epsilon) * (1 + 6 * u);
      if (!(low > 0)) {
        expect_nothing(next_w, i);
        return;
      }
      q = s.size * m1 / d;
      const double size = std::fabs(m1.high), exact = std::fabs(q.high);
      const double most = s.size.high * (size + error_m) * (1 + 8 * u) / low;
      const double inner = size - error_m;
      const double least = s.size.high * inner * (1 - 8 * u) / (inner > 0 ? high : low);
      error_q = std::fmax(most - exact, exact - least) + eta * (1 + s.size.high + 1 / low);
      if (!(most < 0x1p126)) {
        expect_nothing(next_w, i);
        return;
      }
    } else {
      error_q = eta;
    }
    const DoubleDouble w1 = DoubleDouble{w} * s.keep - q;
    expect_within(next_w, i, w1,
                  error_q + 3 * u * std::fabs(w) + 2 * u * std::fabs(w1.high) + 2 * eta,
                  std::fabs(w) + std::fabs(q.high), out);
  }
};

}  // namespace

const Suite& adamw_suite() {
  static const AdamW suite;
  return suite;
}

}  // namespace halfulp::conformance
