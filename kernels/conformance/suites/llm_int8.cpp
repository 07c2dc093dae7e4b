// LLM.int8(): products in 8-bit integers with the outlying columns of x in 16 bits
// (kernels/llm_int8.hpp has the definition).
//
// Bound of y = I + O, I = s·r·c/127² (s exact), O = Σ x·w over the outliers: I takes at most 8
// roundings of binary32, O is a sum as in sum_bounds.hpp (matrix_unit), one rounding joins them;
// with an output of 16 bits I, O and y may each be rounded to it. A code is 127·x/r rounded: where
// that lies within 2^-15 of a tie (127·2^-23 is what x·(127/r) in binary32 may be off; ties
// themselves go either way) the code may be one of two, which is worth r·c/127² times the other
// factor's code.
#include <cmath>
#include <limits>

#include "emu/core/emulated.hpp"
#include "emu/core/formats.hpp"
#include "kernels/conformance/product_cases.hpp"
#include "kernels/conformance/suites.hpp"
#include "kernels/double_double.hpp"
#include "kernels/llm_int8.hpp"

namespace halfulp::conformance {

namespace {

using kernels::DoubleDouble;
using kernels::MatmulShape;

constexpr const char* families[] = {"small",     "empty",           "normal",         "outliers",
                                    "threshold", "all-outlier-row", "zero-row",       "ties",
                                    "tiny",      "integers",        "special-values", "tail",
                                    "long"};

MatmulShape shape_of(const Tensor& x, const Tensor& w) {
  return {static_cast<std::size_t>(x.shape[0]), static_cast<std::size_t>(w.shape[1]),
          static_cast<std::size_t>(x.shape[1])};
}

std::vector<float> floats(const Tensor& t) {
  std::vector<float> x(t.count());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(t.value(i));
  return x;
}

enum class How : std::uint8_t { single, wide, parts_of_16_bits };

template <How how>
int run(void*, const halfulp_call* call) {
  const Tensor x = tensor_of(*find_input(*call, "x"), "x"),
               w = tensor_of(*find_input(*call, "w"), "w");
  Tensor y = tensor_of(*find_output(*call, "y"), "y");
  const MatmulShape s = shape_of(x, w);
  const auto a = floats(x), b = floats(w);
  const auto q = kernels::llm_int8_operands(
      s, a.data(), b.data(), static_cast<float>(find_attribute(*call, "threshold", 6.0)));
  if (how == How::wide) {
    std::vector<double> out(s.m * s.n);
    kernels::llm_int8(
        Native<double>{}, [](float v) { return static_cast<double>(v); }, s, a.data(), b.data(), q,
        out.data());
    for (std::size_t i = 0; i < out.size(); ++i) y.set(i, out[i]);
  } else {
    std::vector<float> out(s.m * s.n);
    const auto same = [](float v) { return v; };
    if (how == How::parts_of_16_bits) {
      if (y.element == Element::float32) return HALFULP_UNSUPPORTED;
      kernels::LlmInt8Operands none = q;
      none.outliers.clear();
      kernels::llm_int8(Native<float>{}, same, s, a.data(), b.data(), none, out.data());
      for (std::size_t i = 0; i < s.m; ++i)
        for (std::size_t j = 0; j < s.n; ++j) {
          float sum = 0;
          for (const std::size_t k : q.outliers)
            sum = std::fma(a[i * s.k + k], b[k * s.n + j], sum);
          const std::size_t at = i * s.n + j;
          y.set(at, rounded_to(y.element, static_cast<double>(out[at])) +
                        rounded_to(y.element, static_cast<double>(sum)));
        }
      store(y, *find_output(*call, "y"));
      return HALFULP_OK;
    }
    kernels::llm_int8(Native<float>{}, same, s, a.data(), b.data(), q, out.data());
    for (std::size_t i = 0; i < out.size(); ++i) y.set(i, static_cast<double>(out[i]));
  }
  store(y, *find_output(*call, "y"));
  return HALFULP_OK;
}

// 127·x/absmax: the nearest integer, and whether its neighbour will do too.
struct Code {
  double value = 0;
  bool either = false;
};
Code code_of(double x, double absmax) {
  if (!(absmax > 0)) return {};
  const double q = 127 * x / absmax;
  const double below = std::floor(q), rest = q - below;
  return {rest < 0.5 || (rest == 0.5 && std::fmod(below, 2) == 0) ? below : below + 1,
          std::fabs(rest - 0.5) <= 0x1p-15};
}

class LlmInt8 final : public Suite {
 public:
  const char* name() const override { return "llm-int8"; }
  int version() const override { return 1; }
  const char* definition() const override {
    return "y = x·w by LLM.int8() (arXiv 2208.07339): columns k of x with any |x[m, k]| >= "
           "threshold (NaN and infinities too) are outliers; of the others row maxima r and, of w "
           "over the same k, column maxima c; codes are 127·x/r and 127·w/c rounded to integers "
           "(0 where the maximum is 0; ties either way); y = s·r·c/127² + the sum of x·w over the "
           "outliers, s the exact sum of the codes' products.";
  }
  Signature signature() const override {
    return {{{"x", "(M, K)", "activations"}, {"w", "(K, N)", "weights, finite"}},
            {{"threshold", "", "6.0"}},
            {{"y", "(M, N)", "the product"}}};
  }
  std::vector<std::string> variants() const override {
    return {"float16", "float16:float32", "bfloat16", "bfloat16:float32"};
  }

  std::vector<CaseKey> cases(std::string_view variant, Level level) const override {
    const std::uint32_t each = level == Level::quick ? 12 : level == Level::full ? 500 : 20000;
    std::vector<CaseKey> keys;
    for (const char* family : families)
      for (std::uint32_t i = 0; i < each; ++i) keys.push_back({std::string(variant), family, i});
    return keys;
  }

  Case make(const CaseKey& key) const override {
    Draws draws(name(), version(), key);
    const ProductVariant v = product_variant(key.variant);
    const std::string& f = key.family;
    const auto up_to = [&](std::size_t n) { return 1 + static_cast<std::size_t>(draws.below(n)); };
    MatmulShape s{up_to(5), up_to(6), 4 + draws.below(60)};
    if (f == "small") s = {up_to(3), up_to(3), up_to(3)};
    if (f == "empty") {
      s = {2, 2, up_to(5)};
      (key.index % 3 == 0 ? s.m : key.index % 3 == 1 ? s.n : s.k) = 0;
    }
    if (f == "long") s.k = 1000 + draws.below(2000);
    const auto size = [](std::size_t n) { return static_cast<std::int64_t>(n); };
    Case c{key, {}, {{"threshold", 6.0}}, {{"y", v.output, {size(s.m), size(s.n)}}}};
    Tensor x({"x", v.operand, {size(s.m), size(s.k)}}), w({"w", v.operand, {size(s.k), size(s.n)}});
    const bool few = f == "outliers" || f == "threshold" || f == "special-values" || f == "long";
    std::vector<bool> outlying(s.k);
    for (std::size_t k = 0; k < s.k; ++k)
      outlying[k] = (few && draws.one_in(8)) || (f == "tail" && k + 1 == s.k);
    for (std::size_t i = 0; i < s.m; ++i) {
      for (std::size_t k = 0; k < s.k; ++k) {
        double value = draws.normal();
        value = value > 5.5 ? 5.5 : value < -5.5 ? -5.5 : value;
        if (f == "integers" || f == "ties") value = std::floor(draws.uniform(-5, 6));
        if (f == "ties" && k == 0) value = 127.0 / 32;  // codes of 64 halves: ties
        if (f == "ties" && k != 0) value = std::floor(draws.uniform(-127, 128)) / 64;
        if (f == "tiny") value *= 0x1p-18;
        if (outlying[k] && (draws.one_in(2) || i == 0)) value = outlier(draws, f, v);
        if (f == "all-outlier-row" && i == key.index % s.m) value = outlier(draws, f, v);
        if (f == "zero-row" && (i + key.index) % 2 == 0) value = 0;
        x.set(i * s.k + k, value);
      }
    }
    for (std::size_t k = 0; k < s.k; ++k)
      for (std::size_t j = 0; j < s.n; ++j) {
        double value = draws.normal() * 0.25;
        if (f == "integers") value = std::floor(draws.uniform(-127, 128));
        if (f == "zero-row" && j == 0) value = 0;
        w.set(k * s.n + j, value);
      }
    if (f == "special-values" && s.k > 0) {
      const double infinity = std::numeric_limits<double>::infinity();
      x.set(draws.below(x.count()), draws.one_in(2)   ? infinity
                                    : draws.one_in(2) ? -infinity
                                                      : std::numeric_limits<double>::quiet_NaN());
    }
    c.inputs.push_back(std::move(x));
    c.inputs.push_back(std::move(w));
    return c;
  }

  std::vector<Expected> expect(const Case& c) const override {
    const Tensor &x = c.input("x"), &w = c.input("w");
    const MatmulShape s = shape_of(x, w);
    const std::vector<double> a = x.values(), b = w.values();
    const double threshold = c.attribute("threshold");
    const ProductVariant v = product_variant(c.key.variant);
    std::vector<bool> outlying(s.k, false);
    for (std::size_t k = 0; k < s.k; ++k)
      for (std::size_t i = 0; i < s.m; ++i)
        outlying[k] = outlying[k] || !(std::fabs(a[i * s.k + k]) < threshold);
    const auto largest = [&](const std::vector<double>& from, std::size_t begin, std::size_t step) {
      double most = 0;
      for (std::size_t k = 0; k < s.k; ++k)
        if (!outlying[k]) most = std::max(most, std::fabs(from[begin + k * step]));
      return most;
    };
    Expected y(s.m * s.n);
    for (std::size_t i = 0; i < s.m; ++i) {
      const double r = largest(a, i * s.k, 1);
      for (std::size_t j = 0; j < s.n; ++j) {
        const double column = largest(b, j, s.n);
        double sum = 0, flips = 0;
        BoundedSum outliers;
        for (std::size_t k = 0; k < s.k; ++k) {
          const double left = a[i * s.k + k], right = b[k * s.n + j];
          if (outlying[k]) {
            outliers.product(left, right, -14, -14);
            continue;
          }
          const Code qx = code_of(left, r), qw = code_of(right, column);
          sum += qx.value * qw.value;
          flips += (qx.either ? std::fabs(qw.value) + (qw.either ? 1 : 0) : 0) +
                   (qw.either ? std::fabs(qx.value) : 0);
        }
        const std::size_t at = i * s.n + j;
        Expected of_outliers(1);
        SumContext context{Accumulation::matrix_unit, formats::binary32, formats::binary32, true,
                           0};
        bound_sum(context, outliers, {}, 0, of_outliers);
        // s·r·c is exact: 31 bits and twice 11.
        const DoubleDouble integers =
            kernels::dd::two_product(sum, r * column) / DoubleDouble{16129.0};
        if (outliers.sum.special()) {
          y.reference[at] = outliers.sum.special_value();
          continue;
        }
        const DoubleDouble total =
            integers + DoubleDouble{of_outliers.reference[0], of_outliers.low[0]};
        y.reference[at] = total.high;
        y.low[at] = total.low;
        const double u = 0x1p-24, i_abs = std::fabs(integers.high), o_abs = outliers.sum.absolute();
        y.condition[at] = i_abs + o_abs;
        double bound = 9 * u * i_abs + flips * r * column / 16129 * (1 + 16 * u) +
                       of_outliers.bound[0] + 2 * u * (i_abs + o_abs) + 4 * 0x1p-149;
        if (v.output != Element::float32) {
          const Format f = info(v.output).format;
          const double u16 = std::ldexp(1.0, -f.precision);
          bound += u16 * (2 * i_abs + 2 * std::fabs(of_outliers.reference[0]) + 2 * bound) +
                   1.5 * std::ldexp(1.0, f.least_quantum_exponent());
        }
        y.bound[at] = bound;
        if (s.k == 0) y.bound[at] = 0;
      }
    }
    return {y};
  }

  // No rows: which columns are outliers depends on all of x.
  std::int64_t length(const Case& c) const override { return c.input("x").shape[1]; }
  std::optional<Case> shorten(const Case& c, std::int64_t begin, std::int64_t end) const override {
    Case part{c.key, {}, c.attributes, c.outputs};
    part.inputs.push_back(sliced(c.input("x"), 1, begin, end));
    part.inputs.push_back(sliced(c.input("w"), 0, begin, end));
    return part;
  }

  std::vector<Builtin> builtins() const override {
    return {
        {"float32-cpu", "integers in vectors, the rest in binary32", run<How::single>},
        {"float64-cpu", "the rest in binary64", run<How::wide>},
        {"parts16-cpu", "both parts rounded to 16 bits before they are added, as bitsandbytes does",
         run<How::parts_of_16_bits>}};
  }

 private:
  static double outlier(Draws& draws, std::string_view f, const ProductVariant& v) {
    const double sign = draws.one_in(2) ? -1 : 1;
    // 6 itself, and its neighbours of either side.
    if (f == "threshold") {
      const double step = 8 * std::ldexp(1.0, -v.operand_format().precision);
      return sign * (6 + step * (static_cast<double>(draws.below(3)) - 1));
    }
    return sign * draws.uniform(6, 60);
  }
};

}  // namespace

const Suite& llm_int8_suite() {
  static const LlmInt8 suite;
  return suite;
}

}  // namespace halfulp::conformance
