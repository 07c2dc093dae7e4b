#include "tests/strength/reference/plug_in.hpp"

#include "kernels/attention_arithmetic.hpp"
#include "kernels/attention_backward.hpp"

using namespace halfulp::kernels;

int halfulp_kernel_run(void* /*state*/, const halfulp_call* call) {
  const auto q = halfulp_strength::in(call, "q");
  const auto k = halfulp_strength::in(call, "k");
  const auto v = halfulp_strength::in(call, "v");
  const AttentionShape s{q.extent(0), q.extent(1), k.extent(1), q.extent(2), q.extent(3)};
  const auto scale = static_cast<float>(halfulp_strength::attribute(call, "scale"));
  const bool causal = halfulp_strength::attribute(call, "causal") != 0;
  const auto a = all_in(NativeExp<float>{});
  std::vector<float> out(s.batch * s.queries * s.stride());
  std::vector<float> lse(s.batch * s.queries * s.heads);
  attention(a, {AttentionKind::plain, 1, 1}, s, scale, causal, q.data, k.data, v.data, out.data(),
            lse.data());
  const BackwardForm forms[] = {{1000, 10000}, {5, 16}};
  attention_backward(a, forms[halfulp_strength::form()], s, scale, causal, q.data, k.data, v.data,
                     halfulp_strength::in(call, "dout").data, out.data(), lse.data(),
                     halfulp_strength::out(call, "dq").data, halfulp_strength::out(call, "dk").data,
                     halfulp_strength::out(call, "dv").data);
  return HALFULP_OK;
}
