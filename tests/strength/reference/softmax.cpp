#include "tests/strength/reference/plug_in.hpp"

#include "kernels/softmax.hpp"

#include "kernels/exponential_arithmetic.hpp"

using namespace halfulp::kernels;

int halfulp_kernel_run(void* /*state*/, const halfulp_call* call) {
  const auto x = halfulp_strength::in(call, "x");
  const auto y = halfulp_strength::out(call, "y");
  const std::size_t n = x.extent(1);
  const Float32Exponential arith;
  // Form 3: the online sums of both halves, merged.
  const int form = halfulp_strength::form();
  const auto algorithm = static_cast<SoftmaxAlgorithm>(form == 3 ? 1 : form);
  for (std::size_t row = 0; row < x.extent(0); ++row) {
    if (std::string_view(call->suite) == "softmax") {
      softmax(arith, algorithm, x.data + row * n, n, y.data + row * n);
    } else if (form == 3) {
      const float* v = x.data + row * n;
      const auto total = merge(arith, running_sum(arith, v, n / 2), running_sum(arith, v + n / 2, n - n / 2), 0);
      const float plain = log_sum_exp(arith, algorithm, v, n);
      const bool ordinary = total.any && plain - plain == 0;
      y.data[row] = ordinary ? total.maximum + arith.log(total.sum, 0) : plain;
    } else {
      y.data[row] = log_sum_exp(arith, algorithm, x.data + row * n, n);
    }
  }
  return HALFULP_OK;
}
