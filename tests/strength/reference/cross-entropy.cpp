#include "tests/strength/reference/plug_in.hpp"

#include "kernels/cross_entropy.hpp"
#include "kernels/exponential_arithmetic.hpp"

using namespace halfulp::kernels;

int halfulp_kernel_run(void* /*state*/, const halfulp_call* call) {
  const auto e = halfulp_strength::in(call, "e");
  const auto c = halfulp_strength::in(call, "c");
  const auto* target =
      reinterpret_cast<const std::int64_t*>(halfulp_strength::in(call, "target").data);
  const CrossEntropyShape shape{e.extent(0), c.extent(0), e.extent(1)};
  const int form = halfulp_strength::form();
  const CrossEntropyTile tiles[] = {{4, 16}, {1, 1}, {64, 4096}};
  const Float32Exponential arith;
  std::vector<float> loss(shape.n);
  std::vector<float> lse(shape.n);
  const bool backward = std::string_view(call->suite) == "cross-entropy-backward";
  cross_entropy(arith, shape, tiles[form], e.data, c.data, target,
                backward ? loss.data() : halfulp_strength::out(call, "loss").data, lse.data());
  if (backward)
    cross_entropy_backward(arith, shape, tiles[form], e.data, c.data, target, lse.data(),
                           halfulp_strength::in(call, "dloss").data,
                           form == 2 ? 0.0F : static_cast<float>(cross_entropy_filter_float32),
                           halfulp_strength::out(call, "de").data,
                           halfulp_strength::out(call, "dc").data);
  return HALFULP_OK;
}
