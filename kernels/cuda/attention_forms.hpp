// The forms of kernels/attention.hpp in binary32 on a GPU, with the bits of
// attention(all_in(NativeExp<float>{}), …): flash, parts that are merged (Lean Attention,
// arXiv:2405.10480), and one maximum for all keys with flash to fall back on (FlashDecoding++,
// arXiv:2311.01282). For exactness, not for speed: kernels/cuda/attention.hpp is the fast one. Host
// code: no CUDA types.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "kernels/attention.hpp"

namespace halfulp::kernels::cuda {

struct AttentionInForm {
  AttentionForm form{};                   // not plain; tiles of up to 1024 keys, up to 32 lanes
  kernels::AttentionShape shape{};        // packed (batch, token, head, width); width 1 to 256
  FixedMaximum<float> fixed{0, -80, 80};  // of fixed_maximum
  bool causal = false;
  float scale = 1;
};

// Why `attention_in_form` would refuse, as a sentence.
std::optional<std::string> problem_with(const AttentionInForm& a);

// Bytes of memory that one call works in: the states of the parts; 0 for other forms.
std::size_t form_workspace(const AttentionInForm& a);

// `fell_back`, in the memory of the GPU, may be null; else the number of queries that fixed_maximum
// left to flash is added to it. Arrays are aligned to their elements. Queued on `stream`; nothing
// waits. Throws std::invalid_argument with a sentence for what it does not take, and
// std::runtime_error with CUDA's message.
void attention_in_form(const AttentionInForm& a, const float* q, const float* k, const float* v,
                       float* out, float* lse, unsigned long long* fell_back, void* workspace,
                       void* stream = nullptr);

}  // namespace halfulp::kernels::cuda
