// Log-sum-exp along rows: y (rows) of x (rows, n), by any algorithm in binary32 inside.
//
// Bound. The sum s of exp(x − m) has the relative error δ of softmax.cpp; log s errs by δ, and
// log itself by 4u·log s + 2u (the 2u for hardware logarithms of base 2, whose error near 1 is
// absolute). m + log s, or in base 2 (m·log2 e + log2 s)·ln 2, or E·ln 2 + log v with |E·ln 2| <=
// |m|
// + log n + 1, has at most three roundings relative to |m| + log s + 1, and the result one: |y −
// exact| <= u·(δ + 4·log s + 2 + 3(|m| + log s + 1) + |y|) to first order (the second is below its
// square), and the rounding of 16-bit results.
#include <cmath>
#include <limits>

#include "kernels/conformance/suites.hpp"
#include "kernels/conformance/suites/softmax_rows.hpp"
#include "kernels/exponential_arithmetic.hpp"
#include "kernels/softmax_float32.hpp"

namespace halfulp::conformance {

namespace {

using kernels::DoubleDouble;
using kernels::SoftmaxAlgorithm;

template <SoftmaxAlgorithm algorithm>
int fast(void*, const halfulp_call* call) {
  const halfulp_dltensor* x = find_input(*call, "x");
  const halfulp_dltensor* y = find_output(*call, "y");
  if (x == nullptr || y == nullptr || x->ndim != 2) return HALFULP_UNSUPPORTED;
  const auto rows = static_cast<std::size_t>(x->shape[0]),
             n = static_cast<std::size_t>(x->shape[1]);
  switch (element_of(*x)) {
    case Element::float32:
      kernels::log_sum_exp_float32(algorithm, data_of<float>(*x), rows, n, data_of<float>(*y));
      return HALFULP_OK;
    case Element::float16:
    case Element::bfloat16:
      kernels::log_sum_exp_float16(algorithm,
                                   element_of(*x) == Element::float16 ? kernels::HalfType::binary16
                                                                      : kernels::HalfType::bfloat16,
                                   data_of<std::uint16_t>(*x), rows, n, data_of<std::uint16_t>(*y));
      return HALFULP_OK;
    default: return HALFULP_UNSUPPORTED;
  }
}
template <SoftmaxAlgorithm algorithm, class A, class T>
int plain(void*, const halfulp_call* call) {
  return run_rows(*call, true, [](const T* x, std::size_t n, T* y) {
    *y = kernels::log_sum_exp(A{}, algorithm, x, n);
  });
}

class LogSumExp final : public SoftmaxRowSuite {
 public:
  const char* name() const override { return "log-sum-exp"; }
  const char* definition() const override {
    return "y[r] = log Σ_j exp(x[r, j]), computed in binary32 at least and rounded to the element "
           "type. NaN gives NaN; else +inf gives +inf; a row of -inf alone and an empty row give "
           "-inf.";
  }
  Signature signature() const override {
    return {{{"x", "(rows, n)", "the logits"}}, {}, {{"y", "(rows)", "the results"}}};
  }

  std::vector<Expected> expect(const Case& c) const override {
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const Tensor& x = c.input("x");
    const auto rows = static_cast<std::size_t>(x.shape[0]),
               n = static_cast<std::size_t>(x.shape[1]);
    Expected y(rows);
    for (std::size_t row = 0; row < rows; ++row) {
      const ExactRow exact = exact_row(x, row, n);
      switch (exact.rule) {
        case RowRule::has_nan:
          y.reference[row] = std::numeric_limits<double>::quiet_NaN();
          continue;
        case RowRule::has_infinity: y.reference[row] = infinity; continue;
        case RowRule::empty:
        case RowRule::all_lowest: y.reference[row] = -infinity; continue;
        case RowRule::ordinary: break;
      }
      const DoubleDouble log_s = kernels::dd::log(exact.sum);
      const DoubleDouble value = DoubleDouble{exact.maximum} + log_s;
      y.reference[row] = value.high;
      y.low[row] = value.low;
      const double m = std::fabs(exact.maximum);
      y.condition[row] = m + log_s.high + 1;
      const double units =
          exact.sum_units + 4 * log_s.high + 2 + 3 * (m + log_s.high + 1) + std::fabs(value.high);
      const double error = units * unit_inside;
      y.bound[row] = rounded_bound(x.element, value.high, error * (1 + error) + 0x1p-149);
    }
    return {y};
  }

  std::vector<Builtin> builtins() const override {
    using kernels::Float32Exponential;
    using kernels::Float64Exponential;
    return {
        {"three-pass-cpu", "maximum, sum, logarithm; vectors", fast<SoftmaxAlgorithm::three_pass>},
        {"two-pass-cpu", "sums of (significand, exponent) pairs; vectors",
         fast<SoftmaxAlgorithm::two_pass>},
        {"online-cpu", "maximum and sum in one pass, element by element",
         plain<SoftmaxAlgorithm::online, Float32Exponential, float>},
        {"pairs-cpu", "two-pass, element by element",
         plain<SoftmaxAlgorithm::two_pass, Float32Exponential, float>},
        {"binary64-cpu", "in binary64",
         plain<SoftmaxAlgorithm::three_pass, Float64Exponential, double>},
        {"plain-cpu", "maximum, sum, logarithm, element by element",
         plain<SoftmaxAlgorithm::three_pass, Float32Exponential, float>}};
  }

 private:
  bool has_one_result_a_row() const override { return true; }
};

}  // namespace

const Suite& log_sum_exp_suite() {
  static const LogSumExp suite;
  return suite;
}

}  // namespace halfulp::conformance
