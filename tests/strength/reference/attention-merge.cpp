#include "tests/strength/reference/plug_in.hpp"

#include "kernels/attention_arithmetic.hpp"
#include "kernels/attention_merge.hpp"

using namespace halfulp::kernels;

int halfulp_kernel_run(void* /*state*/, const halfulp_call* call) {
  const auto m = halfulp_strength::in(call, "m");
  const auto l = halfulp_strength::in(call, "l");
  const auto o = halfulp_strength::in(call, "o");
  const std::size_t rows = o.extent(1);
  const std::size_t width = o.extent(2);
  for (std::size_t row = 0; row < rows; ++row) {
    std::vector<AttentionState<float>> parts;
    for (std::size_t p = 0; p < o.extent(0); ++p) {
      const std::size_t at = p * rows + row;
      parts.push_back({m.data[at], l.data[at], {o.data + at * width, o.data + (at + 1) * width}});
    }
    const auto whole = merge_all(NativeExp<float>{}, parts,
                                 static_cast<MergeTree>(halfulp_strength::form()), width);
    halfulp_strength::out(call, "m").data[row] = whole.m;
    halfulp_strength::out(call, "l").data[row] = whole.l;
    std::memcpy(halfulp_strength::out(call, "o").data + row * width, whole.o.data(),
                width * sizeof(float));
  }
  return HALFULP_OK;
}
