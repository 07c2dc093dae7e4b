// Attention of binary32 arrays in vectors, on threads: the form flash of attention.hpp, and its
// gradients.
#pragma once

#include "emu/arrays/vector_level.hpp"
#include "kernels/attention_backward.hpp"

namespace halfulp::kernels {

// The bits of attention() over all_in(NativeExp<float>) with {flash, tile, lanes = 16}, on any
// processor and any number of threads. Arrays are row-major without gaps; out and lse are distinct
// from the operands. tile is at least 1 (std::invalid_argument); 128 is the fastest.
void attention_float32(const AttentionShape& shape, float scale, bool causal, const float* q,
                       const float* k, const float* v, float* out, float* lse, int threads,
                       std::size_t tile = 128, VectorLevel level = vector_level());

// The bits of attention_backward() over all_in(NativeExp<float>) with the same form. Threads share
// the heads.
void attention_backward_float32(const AttentionShape& shape, float scale, bool causal,
                                const float* q, const float* k, const float* v, const float* dout,
                                const float* out, const float* lse, float* dq, float* dk, float* dv,
                                int threads, const BackwardForm& form = {},
                                VectorLevel level = vector_level());

}  // namespace halfulp::kernels
