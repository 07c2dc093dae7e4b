// Attention on the device behind a C function, for tests/bench/attention.py. What the numbers mean
// stands in kernels/cuda/attention.hpp.
#include <exception>
#include <string>

#include "kernels/cuda/attention.hpp"

// Null, or a sentence that lives until the thread's next call. element: 0 bfloat16, 1 binary16;
// mask: 0 none, 1 top-left, 2 bottom-right; shape: batch, heads, heads_kv, queries, keys, width;
// strides: batch, row, head of q, k, v and out; parts: of attention_decode, or -1 for attention.
extern "C" __attribute__((visibility("default"))) const char* halfulp_attention(
    int element, const std::uint64_t* shape, const std::int64_t* strides, int mask, float scale,
    const void* q, const void* k, const void* v, void* out, float* lse, int parts, void* stream) {
  using namespace halfulp;
  using namespace halfulp::kernels::cuda;
  static thread_local std::string message;
  if (element < 0 || element > 1 || mask < 0 || mask > 2)
    return "element must be 0 or 1, and mask 0, 1 or 2";
  const auto at = [&](int i) {
    return AttentionStrides{
        .batch = strides[3 * i], .row = strides[3 * i + 1], .head = strides[3 * i + 2]};
  };
  const Attention a{.element = element == 0 ? Element::bfloat16 : Element::binary16,
                    .shape = {.batch = shape[0],
                              .heads = shape[1],
                              .heads_kv = shape[2],
                              .queries = shape[3],
                              .keys = shape[4],
                              .width = shape[5]},
                    .q = at(0),
                    .k = at(1),
                    .v = at(2),
                    .out = at(3),
                    .mask = static_cast<CausalMask>(mask),
                    .scale = scale};
  try {
    if (parts < 0)
      attention(a, q, k, v, out, lse, stream);
    else
      attention_decode(a, q, k, v, out, lse, stream, static_cast<std::size_t>(parts));
    return nullptr;
  } catch (const std::exception& e) {
    message = e.what();
    return message.c_str();
  }
}
