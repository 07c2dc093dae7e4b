// Attention on the device behind C functions, for tests/bench/attention.py. What the numbers mean
// stands in kernels/cuda/attention.hpp and attention_backward.hpp.
#include <exception>
#include <stdexcept>
#include <string>

#include "kernels/cuda/attention_backward.hpp"

namespace {

using namespace halfulp;
using namespace halfulp::kernels::cuda;

// f()'s exception, as a sentence that lives until the thread's next call; or null.
template <class F>
const char* problem_of(F f) {
  static thread_local std::string message;
  try {
    f();
    return nullptr;
  } catch (const std::exception& e) {
    message = e.what();
    return message.c_str();
  }
}

AttentionStrides strides_of(const std::int64_t* strides, int array) {
  const std::int64_t* s = strides + 3 * array;
  return {.batch = s[0], .row = s[1], .head = s[2]};
}

Attention attention_of(int element, const std::uint64_t* shape, const std::int64_t* strides,
                       int mask, float scale) {
  if (element < 0 || element > 1 || mask < 0 || mask > 2)
    throw std::invalid_argument("element must be 0 or 1, and mask 0, 1 or 2");
  return {.element = element == 0 ? Element::bfloat16 : Element::binary16,
          .shape = {.batch = shape[0],
                    .heads = shape[1],
                    .heads_kv = shape[2],
                    .queries = shape[3],
                    .keys = shape[4],
                    .width = shape[5]},
          .q = strides_of(strides, 0),
          .k = strides_of(strides, 1),
          .v = strides_of(strides, 2),
          .out = strides_of(strides, 3),
          .mask = static_cast<CausalMask>(mask),
          .scale = scale};
}

}  // namespace

// Null, or a sentence that lives until the thread's next call. element: 0 bfloat16, 1 binary16;
// mask: 0 none, 1 top-left, 2 bottom-right; shape: batch, heads, heads_kv, queries, keys, width;
// strides: batch, row, head of q, k, v and out; parts: of attention_decode, or -1 for attention.
extern "C" __attribute__((visibility("default"))) const char* halfulp_attention(
    int element, const std::uint64_t* shape, const std::int64_t* strides, int mask, float scale,
    const void* q, const void* k, const void* v, void* out, float* lse, int parts, void* stream) {
  return problem_of([&] {
    const Attention a = attention_of(element, shape, strides, mask, scale);
    if (parts < 0)
      attention(a, q, k, v, out, lse, stream);
    else
      attention_decode(a, q, k, v, out, lse, stream, static_cast<std::size_t>(parts));
  });
}

// The gradients; strides: of q, k, v, out, dout, dq, dk and dv.
extern "C" __attribute__((visibility("default"))) const char* halfulp_attention_backward(
    int element, const std::uint64_t* shape, const std::int64_t* strides, int mask, float scale,
    const void* q, const void* k, const void* v, const void* out, const float* lse,
    const void* dout, void* dq, void* dk, void* dv, void* stream) {
  return problem_of([&] {
    const AttentionBackward a{.forward = attention_of(element, shape, strides, mask, scale),
                              .dout = strides_of(strides, 4),
                              .dq = strides_of(strides, 5),
                              .dk = strides_of(strides, 6),
                              .dv = strides_of(strides, 7)};
    attention_backward(a, q, k, v, out, lse, dout, dq, dk, dv, stream);
  });
}
