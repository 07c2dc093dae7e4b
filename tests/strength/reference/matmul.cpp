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
  const auto kind = static_cast<OrderKind>(halfulp_strength::form());
  matmul(arith, arith, Order{kind, 32}, shape, a.data, b.data, c.data, d.data);
  if (kind == OrderKind::kahan || kind == OrderKind::compensated) {
    // Corrections of infinities are NaN; the plain chain says what there is.
    std::vector<float> plain(shape.m * shape.n);
    matmul(arith, arith, Order{OrderKind::sequential, 32}, shape, a.data, b.data, c.data,
           plain.data());
    for (std::size_t i = 0; i < plain.size(); ++i) {
      if (!std::isfinite(plain[i])) d.data[i] = plain[i];
    }
  }
  return HALFULP_OK;
}
