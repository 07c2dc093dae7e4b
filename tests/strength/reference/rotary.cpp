#include "tests/strength/reference/plug_in.hpp"

#include "kernels/rotary.hpp"

using namespace halfulp::kernels;

int halfulp_kernel_run(void* /*state*/, const halfulp_call* call) {
  const auto x = halfulp_strength::in(call, "x");
  const auto cosine = halfulp_strength::in(call, "cos");
  const auto sine = halfulp_strength::in(call, "sin");
  const auto y = halfulp_strength::out(call, "y");
  const std::size_t S = x.extent(1);
  const std::size_t H = x.extent(2);
  const std::size_t D = x.extent(3);
  const bool neighbours = halfulp_strength::attribute(call, "interleaved") != 0;
  for (std::size_t row = 0; row < x.extent(0) * S * H; ++row) {
    const std::size_t at = row / H % S * (D / 2);
    rotary(halfulp::Native<float>{}, neighbours ? Pairing::interleaved : Pairing::halves,
           halfulp_strength::form() == 1, D, x.data + row * D, cosine.data + at, sine.data + at,
           y.data + row * D);
  }
  return HALFULP_OK;
}
