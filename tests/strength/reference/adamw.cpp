#include "tests/strength/reference/plug_in.hpp"

#include "kernels/adamw.hpp"

using namespace halfulp::kernels;

int halfulp_kernel_run(void* /*state*/, const halfulp_call* call) {
  const auto get = [&](const char* name) { return halfulp_strength::attribute(call, name); };
  const AdamWOptions options{get("lr"),
                             get("beta1"),
                             get("beta2"),
                             get("eps"),
                             get("weight_decay"),
                             get("step"),
                             halfulp_strength::form() == 0};
  const auto w = halfulp_strength::in(call, "parameter");
  const auto gradient = halfulp_strength::in(call, "gradient");
  const auto m = halfulp_strength::in(call, "m");
  const auto v = halfulp_strength::in(call, "v");
  for (std::size_t i = 0; i < w.extent(0); ++i) {
    const auto next = adamw(halfulp::Native<float>{}, options, AdamWScalars(options),
                            AdamWState<float>{w.data[i], m.data[i], v.data[i]}, gradient.data[i]);
    halfulp_strength::out(call, "parameter").data[i] = next.parameter;
    halfulp_strength::out(call, "m").data[i] = next.first;
    halfulp_strength::out(call, "v").data[i] = next.second;
  }
  return HALFULP_OK;
}
