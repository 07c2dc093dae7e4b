// LLM.int8() in the memory of a GPU: the bits of kernels/llm_int8.hpp over Native<float>, NaN for
// NaN. Host code: no CUDA types.
//
// Floor: x and w are read twice (which columns are outliers is known only after all of x, and a
// maximum only after all of its row or column): 8·(M·K + K·N) bytes; codes are written and read, 2
// bytes more each; out 4·M·N; the product of int8_matmul.hpp; M·N fused multiply-adds an outlier.
#pragma once

#include "kernels/cuda/int8_matmul.hpp"

namespace halfulp::kernels::cuda {

// out (M, N) = x (M, K) · w (K, N), row-major, of the device, any alignment of 4 bytes, no aliasing
// of out with an operand. Queued on `stream`, with memory of its stream's pool (M·K + K·N bytes, up
// to 512 a row of x, and a little); nothing waits: outliers are found, counted and put in order on
// the device. Throws std::invalid_argument for extents beyond 2^30, and std::runtime_error with
// CUDA's message.
void llm_int8(MatmulShape shape, const float* x, const float* w, float* out, float threshold = 6.0F,
              void* stream = nullptr, ByteInstruction instruction = ByteInstruction::fastest);

}  // namespace halfulp::kernels::cuda
