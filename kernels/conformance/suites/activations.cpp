// GELU, its tanh form, and SiLU, element by element: y (n) of x (n).
//
// Bounds, for kernels that compute inside in binary32, u = 2^-24, η = 2^-149, with library
// functions within 4 ulp (CUDA's and libm's erff, tanhf, expf: 1 or 2; fast exponentials by
// ex2.approx of x·log2 e, off by |x|·u, do not keep it and must not):
//
//   gelu       x·Φ(x) = (x/2)·(1 + erf(z)), z = x·√½. ẑ = z·(1 + 2u·δ): erf moves by
//              2u·z·erf'(z); erf is off by 4 ulp, at most 4u (its values lie below 1); 1 + erf is
//              rounded, u·(1 + erf); three more roundings of the product:
//                  |ŷ − y| <= |x|/2·u·(4 + 2·|z|·erf'(z)) + 5u·|y| + η·(1 + |x|)
//              For x < 0 this is an absolute error where y vanishes: kernels by 1 + erf lose all of
//              it there, as torch's do. A kernel that computes x·Φ(x) with a Φ that is accurate
//              where it is small can promise ulp:C as well.
//   gelu-tanh  (x/2)·(1 + tanh(z)), z = √(2/π)·(x + 0.044715·x³): all terms have one sign, so ẑ =
//              z·(1 + 8u·δ) (x³ 2, its factor 2, the sum 1, the factor 2, and 1 for fma's absence
//              or presence), tanh 4u, as above:
//                  |ŷ − y| <= |x|/2·u·(4 + 8·|z|·sech²(z)) + 5u·|y| + η·(1 + |x|)
//   silu       x/(1 + exp(−x)): exp within 4 ulp, 8u, times exp(−x)/(1 + exp(−x)) <= 1; the sum
//              u, the quotient within 2 ulp, or a reciprocal and a product, 5u:
//                  |ŷ − y| <= 14u·|y| + η·(1 + |x|), and |y| more where exp(−x) overflows
//              (x < −88.72), or 1/(1 + exp(−x)) is subnormal and may be flushed to nothing by the
//              product (there η·|x| is what it is).
//
// Second-order terms: 1 + 2^-10 on everything. A 16-bit output adds its own rounding.
#include <cmath>
#include <limits>

#include "kernels/activations.hpp"
#include "kernels/conformance/bounds.hpp"
#include "kernels/conformance/draws.hpp"
#include "kernels/conformance/float_values.hpp"
#include "kernels/conformance/suites.hpp"
#include "kernels/double_double_normal.hpp"

namespace halfulp::conformance {

namespace {

using kernels::DoubleDouble;
namespace dd = kernels::dd;

constexpr double u = 0x1p-24;
constexpr double eta = 0x1p-149;
constexpr double infinity = std::numeric_limits<double>::infinity();

enum class Function { gelu, gelu_tanh, silu };

template <class F>
int each(const halfulp_call* call, F f) {
  const halfulp_dltensor& x = *find_input(*call, "x");
  const halfulp_dltensor& y = *find_output(*call, "y");
  if (!is_widened(x) || !is_widened(y)) return HALFULP_UNSUPPORTED;
  std::vector<float> values = floats_of(x);
  for (float& v : values) v = f(v);
  set_floats(y, values);
  return HALFULP_OK;
}

const Native<float> arith;
const kernels::LibraryFunctions<float> library;

int gelu_by_erf(void*, const halfulp_call* call) {
  return each(call, [](float x) { return kernels::gelu_by_erf(arith, library, x); });
}
int gelu_by_normal(void*, const halfulp_call* call) {
  return each(call, [](float x) { return kernels::gelu(arith, library, x); });
}
int gelu_tanh(void*, const halfulp_call* call) {
  return each(call, [](float x) { return kernels::gelu_tanh(arith, library, x); });
}
// x·σ(2z): the same function.
int gelu_tanh_by_sigmoid(void*, const halfulp_call* call) {
  return each(call, [](float x) {
    const float inner = x + 0.044715F * (x * x * x);
    return x / (1.0F + library.exp(-1.5957691216057308F * inner));
  });
}
int silu_by_quotient(void*, const halfulp_call* call) {
  return each(call, [](float x) { return kernels::silu(arith, library, x); });
}
int silu_by_sigmoid(void*, const halfulp_call* call) {
  return each(call, [](float x) { return kernels::silu_by_sigmoid(arith, library, x); });
}

class Activation final : public Suite {
 public:
  explicit Activation(Function f) : f_(f) {}

  const char* name() const override {
    return f_ == Function::gelu ? "gelu" : f_ == Function::gelu_tanh ? "gelu-tanh" : "silu";
  }
  int version() const override { return 1; }
  const char* definition() const override {
    switch (f_) {
      case Function::gelu:
        return "y = x·Φ(x), Φ the standard normal distribution's function. NaN gives NaN, +∞ gives "
               "+∞, −∞ gives NaN (−∞·0; the limit is −0).";
      case Function::gelu_tanh:
        return "y = (x/2)·(1 + tanh(√(2/π)·(x + 0.044715·x³))). NaN gives NaN, +∞ gives +∞, −∞ "
               "gives "
               "NaN (−∞·0; the limit is −0).";
      default:
        return "y = x/(1 + exp(−x)). NaN gives NaN, +∞ gives +∞, −∞ gives NaN (−∞/∞; the limit is "
               "−0).";
    }
  }
  Signature signature() const override {
    return {{{"x", "(n)", "arguments"}}, {}, {{"y", "(n)", "values of the function"}}};
  }
  std::vector<std::string> variants() const override { return {"float32", "float16", "bfloat16"}; }

  std::vector<CaseKey> cases(std::string_view variant, Level level) const override {
    const std::uint32_t times = level == Level::quick ? 1 : level == Level::full ? 50 : 2000;
    std::vector<CaseKey> keys;
    for (const char* family : {"small", "ordinary", "spread", "negative-tail", "near-zero",
                               "boundaries", "any-bits", "special-values"}) {
      const bool fixed = std::string_view(family) == "boundaries";
      for (std::uint32_t i = 0; i < (fixed ? 1 : 4 * times); ++i)
        keys.push_back({std::string(variant), family, i});
    }
    keys.push_back({std::string(variant), "empty", 0});
    if (variant != "float32") {
      for (std::uint32_t i = 0; i < 16; ++i)
        keys.push_back({std::string(variant), "every-value", i});
    }
    return keys;
  }

  Case make(const CaseKey& key) const override {
    Draws draws(name(), version(), key);
    const Element e = element_named(key.variant);
    const std::string_view family = key.family;
    std::vector<double> all;
    if (family == "boundaries") all = boundaries(e, true);
    std::size_t n = family == "every-value"  ? 4096
                    : family == "boundaries" ? all.size()
                    : family == "small"      ? 1 + draws.below(3)
                    : family == "empty"      ? 0
                                             : 200 + draws.below(300);
    Tensor x({"x", e, {static_cast<std::int64_t>(n)}});
    for (std::size_t i = 0; i < n; ++i) {
      if (family == "every-value")
        x.set_code(i, key.index * 4096 + i);
      else if (family == "boundaries")
        x.set(i, all[i]);
      else if (family == "ordinary" || family == "special-values" || family == "small")
        x.set(i, 2 * draws.normal());
      else if (family == "spread")
        x.set(i, draws.spread(-30, 8));
      else if (family == "negative-tail")  // to where gelu, and then silu, leaves binary32
        x.set(i, f_ == Function::silu ? draws.uniform(-105, -80) : draws.uniform(-15, -3));
      else if (family == "near-zero")
        x.set(i, draws.spread(info(e).format.emin() - info(e).format.fraction_bits(), -8));
      else
        x.set(i, draws.any_finite(e));
    }
    if (family == "special-values") {
      const std::vector<double> specials = boundaries(e, true);
      for (int k = 0; k < 6; ++k) x.set(draws.below(n), specials[draws.below(specials.size())]);
    }
    Case c{key, {}, {}, {{"y", e, {static_cast<std::int64_t>(n)}}}};
    c.inputs.push_back(std::move(x));
    return c;
  }

  std::vector<Expected> expect(const Case& c) const override {
    const Tensor& x = c.input("x");
    const Element out = c.outputs[0].element;
    Expected y(x.count());
    for (std::size_t i = 0; i < x.count(); ++i) {
      const double v = x.value(i);
      if (!(v > -infinity) || v == infinity) {
        expect_exactly(y, i, v == infinity ? v : std::numeric_limits<double>::quiet_NaN());
        continue;
      }
      const Point p = at(v);
      const double size = std::fabs(p.y.high);
      const double bound = (p.error + eta * (1 + std::fabs(v))) * (1 + 0x1p-10);
      expect_within(y, i, p.y, bound, f_ == Function::silu ? size : std::fabs(v), out);
    }
    return {y};
  }

  std::int64_t row_count(const Case& c) const override { return c.input("x").shape[0]; }
  std::optional<Case> rows(const Case& c, std::int64_t begin, std::int64_t end) const override {
    Case part{c.key, {}, {}, {{"y", c.outputs[0].element, {end - begin}}}};
    part.inputs.push_back(sliced(c.input("x"), 0, begin, end));
    return part;
  }

  std::vector<Builtin> builtins() const override {
    switch (f_) {
      case Function::gelu:
        return {{"erf-cpu", "(x/2)·(1 + erf(x·√½)), inside binary32", gelu_by_erf},
                {"normal-cpu", "x·Φ(x), also where Φ is small", gelu_by_normal}};
      case Function::gelu_tanh:
        return {{"tanh-cpu", "by tanh, inside binary32", gelu_tanh},
                {"sigmoid-cpu", "x/(1 + exp(−2z))", gelu_tanh_by_sigmoid}};
      default:
        return {{"quotient-cpu", "x/(1 + exp(−x)), inside binary32", silu_by_quotient},
                {"sigmoid-cpu", "x·(1/(1 + exp(−x)))", silu_by_sigmoid}};
    }
  }

 private:
  struct Point {
    DoubleDouble y;
    double error;  // without underflow
  };

  static DoubleDouble over_one_plus_exp(double x, const DoubleDouble& exponent) {
    if (exponent.high > 700) return {-0.0};  // below every format
    return DoubleDouble{x} / (DoubleDouble{1.0} + dd::exp(exponent));
  }

  Point at(double x) const {
    if (f_ == Function::silu) {
      Point p{over_one_plus_exp(x, DoubleDouble{-x}), 0};
      const double size = std::fabs(p.y.high);
      p.error = 14 * u * size + (x < -88.7 ? size : 0);
      return p;
    }
    Point p;
    double moved = 0;
    if (f_ == Function::gelu) {
      p.y = x < -38 ? DoubleDouble{-0.0} : DoubleDouble{x} * dd::normal(DoubleDouble{x});
      const double z = std::fabs(x) * std::sqrt(0.5);
      moved = 2 * z * 1.1283791670955126 * std::exp(-z * z);
    } else {
      const DoubleDouble factor{0x1.9884533d43651p-1, -0x1.cbc0d30ebfd15p-55};  // √(2/π)
      const DoubleDouble v{x};
      const DoubleDouble z = std::fabs(x) > 1e3 ? DoubleDouble{x < 0 ? -1e3 : 1e3}
                                                : factor * (v + tanh_coefficient() * v * v * v);
      p.y = over_one_plus_exp(x, dd::ldexp(-z, 1));
      const double sech = 1 / std::cosh(std::fabs(z.high));
      moved = 8 * std::fabs(z.high) * sech * sech;
    }
    p.error = std::fabs(x) / 2 * u * (4 + moved) + 5 * u * std::fabs(p.y.high);
    return p;
  }

  // 0.044715, the decimal.
  static DoubleDouble tanh_coefficient() { return DoubleDouble{44715.0} / DoubleDouble{1e6}; }

  Function f_;
};

}  // namespace

const Suite& gelu_suite() {
  static const Activation suite(Function::gelu);
  return suite;
}

const Suite& gelu_tanh_suite() {
  static const Activation suite(Function::gelu_tanh);
  return suite;
}

const Suite& silu_suite() {
  static const Activation suite(Function::silu);
  return suite;
}

}  // namespace halfulp::conformance
