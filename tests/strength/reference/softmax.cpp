#include "tests/strength/reference/plug_in.hpp"

#include "kernels/softmax.hpp"

#include "kernels/exponential_arithmetic.hpp"

using namespace halfulp::kernels;

int halfulp_kernel_run(void* /*state*/, const halfulp_call* call) {
  const auto x = halfulp_strength::in(call, "x");
  const auto y = halfulp_strength::out(call, "y");
  const std::size_t n = x.extent(1);
  const Float32Exponential arith;
  const auto algorithm = static_cast<SoftmaxAlgorithm>(halfulp_strength::form());
  for (std::size_t row = 0; row < x.extent(0); ++row) {
    if (std::string_view(call->suite) == "softmax") {
      softmax(arith, algorithm, x.data + row * n, n, y.data + row * n);
    } else {
      y.data[row] = log_sum_exp(arith, algorithm, x.data + row * n, n);
    }
  }
  return HALFULP_OK;
}
