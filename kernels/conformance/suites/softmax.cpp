// Softmax along rows: y (rows, n) of x (rows, n), by any algorithm in binary32 inside.
//
// Bound. With u = 2^-24, every correct kernel's weights are exp(x_i − m)·(1 + θ), |θ| <=
// (3(m − x_i) + 5)·u: the argument is rounded as x − m, by the constant log2 e and as their product
// (each at most u·(m − x_i) in exp's argument), exp itself errs by 5u. The sum in any order adds
// (n − 1)u. A kernel that meets maxima one after another multiplies what it has by exp(m' − m'')
// each time: the arguments' errors telescope into 3(m − x_i)·u, each change costs 5u + u, and an
// element sees no more changes than there are distinct values above it. The quotient is two
// roundings at most. So |y − g| <= g·(exp(c·u) − 1) + 3·2^-149, c = 3(m − x) + 5 + 2 + the sum's;
// the last for exponentials and quotients that are subnormal. Kernels that flush those fail here.
// 16-bit results are rounded once more. Shape of the bound: Blanchard, Higham & Higham, "Accurately
// computing the log-sum-exp and softmax functions", IMA J. Numer. Anal. 41 (2021).
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
      kernels::softmax_float32(algorithm, data_of<float>(*x), rows, n, data_of<float>(*y));
      return HALFULP_OK;
    case Element::float16:
    case Element::bfloat16:
      kernels::softmax_float16(algorithm,
                               element_of(*x) == Element::float16 ? kernels::HalfType::binary16
                                                                  : kernels::HalfType::bfloat16,
                               data_of<std::uint16_t>(*x), rows, n, data_of<std::uint16_t>(*y));
      return HALFULP_OK;
    default: return HALFULP_UNSUPPORTED;
  }
}
template <SoftmaxAlgorithm algorithm, class A, class T>
int plain(void*, const halfulp_call* call) {
  return run_rows(*call, false, [](const T* x, std::size_t n, T* y) {
    kernels::softmax(A{}, algorithm, x, n, y);
  });
}

class Softmax final : public SoftmaxRowSuite {
 public:
  const char* name() const override { return "softmax"; }
  const char* definition() const override {
    return "y[r, i] = exp(x[r, i]) / Σ_j exp(x[r, j]), computed in binary32 at least and rounded "
           "to the element type. A row with NaN or +inf, or of -inf alone, is all NaN; -inf in any "
           "other row gives +0 exactly; an empty row gives nothing.";
  }
  Signature signature() const override {
    return {{{"x", "(rows, n)", "the logits"}}, {}, {{"y", "(rows, n)", "the probabilities"}}};
  }

  std::vector<Expected> expect(const Case& c) const override {
    const Tensor& x = c.input("x");
    const auto rows = static_cast<std::size_t>(x.shape[0]),
               n = static_cast<std::size_t>(x.shape[1]);
    Expected y(rows * n);
    for (std::size_t row = 0; row < rows; ++row) {
      const ExactRow exact = exact_row(x, row, n);
      for (std::size_t k = 0; k < n; ++k) {
        const std::size_t i = row * n + k;
        if (exact.rule != RowRule::ordinary) {
          y.reference[i] = std::numeric_limits<double>::quiet_NaN();
          continue;
        }
        const double below = exact.maximum - x.value(i);
        if (std::isinf(below) && std::isinf(x.value(i))) continue;  // −∞: +0
        const DoubleDouble g = exact.terms[k] / exact.sum;
        y.reference[i] = g.high;
        y.low[i] = g.low;
        y.condition[i] = g.high * (1 + below);
        const double units = argument_units * below + exp_units + 2 + exact.sum_units;
        const double error = g.high > 0 ? g.high * std::expm1(units * unit_inside) : 0;
        y.bound[i] = rounded_bound(x.element, g.high, error + 3 * 0x1p-149) * (1 + 0x1p-40);
      }
    }
    return {y};
  }

  std::vector<Builtin> builtins() const override {
    using kernels::Float32Exponential;
    using kernels::Float64Exponential;
    return {
        {"three-pass-cpu", "maximum, sum, quotients; vectors", fast<SoftmaxAlgorithm::three_pass>},
        {"two-pass-cpu", "sums of (significand, exponent) pairs; vectors",
         fast<SoftmaxAlgorithm::two_pass>},
        {"online-cpu", "maximum and sum in one pass, element by element",
         plain<SoftmaxAlgorithm::online, Float32Exponential, float>},
        {"pairs-cpu", "two-pass, element by element",
         plain<SoftmaxAlgorithm::two_pass, Float32Exponential, float>},
        {"binary64-cpu", "three-pass in binary64",
         plain<SoftmaxAlgorithm::three_pass, Float64Exponential, double>},
        {"plain-cpu", "three-pass, element by element",
         plain<SoftmaxAlgorithm::three_pass, Float32Exponential, float>}};
  }

 private:
  bool has_one_result_a_row() const override { return false; }
};

}  // namespace

const Suite& softmax_suite() {
  static const Softmax suite;
  return suite;
}

}  // namespace halfulp::conformance
