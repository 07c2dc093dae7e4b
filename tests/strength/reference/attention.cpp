#include "tests/strength/reference/plug_in.hpp"

#include "kernels/attention.hpp"
#include "kernels/attention_arithmetic.hpp"

using namespace halfulp::kernels;

int halfulp_kernel_run(void* /*state*/, const halfulp_call* call) {
  const auto q = halfulp_strength::in(call, "q");
  const auto k = halfulp_strength::in(call, "k");
  const auto v = halfulp_strength::in(call, "v");
  const AttentionShape shape{q.extent(0), q.extent(1), k.extent(1), q.extent(2), q.extent(3)};
  const AttentionForm forms[] = {{AttentionKind::plain, 1, 1},
                                 {AttentionKind::flash, 16, 4},
                                 {AttentionKind::flash, 1, 1},
                                 {AttentionKind::split, 32, 4, 5, MergeTree::pairwise},
                                 {AttentionKind::fixed_maximum, 64, 8}};
  const FixedMaximum<float> fixed{0.5F, -20, 20};
  attention(all_in(NativeExp<float>{}), forms[halfulp_strength::form()], shape,
            static_cast<float>(halfulp_strength::attribute(call, "scale")),
            halfulp_strength::attribute(call, "causal") != 0, q.data, k.data, v.data,
            halfulp_strength::out(call, "out").data, halfulp_strength::out(call, "lse").data,
            &fixed);
  return HALFULP_OK;
}
