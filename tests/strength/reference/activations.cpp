#include "tests/strength/reference/plug_in.hpp"

#include "kernels/activations.hpp"

using namespace halfulp::kernels;

int halfulp_kernel_run(void* /*state*/, const halfulp_call* call) {
  const auto x = halfulp_strength::in(call, "x");
  const auto y = halfulp_strength::out(call, "y");
  const halfulp::Native<float> arith;
  const LibraryFunctions<float> functions;
  for (std::size_t i = 0; i < x.extent(0); ++i) {
    const float v = x.data[i];
    switch (halfulp_strength::form()) {
      case 0: y.data[i] = gelu(arith, functions, v); break;
      case 1: y.data[i] = gelu_by_erf(arith, functions, v); break;
      case 2: y.data[i] = gelu_tanh(arith, functions, v); break;
      case 3: y.data[i] = silu(arith, functions, v); break;
      default: y.data[i] = silu_by_sigmoid(arith, functions, v);
    }
  }
  return HALFULP_OK;
}
