#include "tests/strength/reference/plug_in.hpp"

#include "kernels/norms.hpp"

using namespace halfulp::kernels;

int halfulp_kernel_run(void* /*state*/, const halfulp_call* call) {
  const auto x = halfulp_strength::in(call, "x");
  const auto y = halfulp_strength::out(call, "y");
  const auto weight = halfulp_strength::in(call, "weight");
  const auto bias = halfulp_strength::in(call, "bias");
  const auto eps = static_cast<float>(halfulp_strength::attribute(call, "eps"));
  const std::size_t n = x.extent(1);
  const halfulp::Native<float> arith;
  const NormForm form{static_cast<Moments>(halfulp_strength::form()), 4};
  for (std::size_t row = 0; row < x.extent(0); ++row) {
    if (bias.data != nullptr) {
      layer_norm(arith, form, n, x.data + row * n, weight.data, bias.data, eps, y.data + row * n);
    } else {
      rms_norm(arith, 4, n, x.data + row * n, weight.data, eps, y.data + row * n);
    }
  }
  return HALFULP_OK;
}
