#include "tests/strength/reference/plug_in.hpp"

#include "kernels/matmul.hpp"

using namespace halfulp::kernels;

int halfulp_kernel_run(void* /*state*/, const halfulp_call* call) {
  const auto a = halfulp_strength::in(call, "a");
  const auto b = halfulp_strength::in(call, "b");
  const auto c = halfulp_strength::in(call, "c");
  const auto d = halfulp_strength::out(call, "d");
  const halfulp::Native<float> arith;
  const MatmulShape shape{a.extent(0), b.extent(1), a.extent(1)};
  matmul(arith, arith, Order{static_cast<OrderKind>(halfulp_strength::form()), 32}, shape, a.data, b.data, c.data, d.data);
  return HALFULP_OK;
}
