// The scaled product of kernels/scaled_matmul.hpp in the memory of a GPU: the bits of that over
// Native<float>, NaN for NaN. Host code: no CUDA types.
//
// Floor: M·N·K fused multiply-adds of binary32, which is what it waits for; the operands are
// values, not codes. (Matrix units do not compute these bits: kernels/cuda/matmul_unit.hpp.)
#pragma once

#include "kernels/scaled_matmul.hpp"

namespace halfulp::kernels::cuda {

// All arrays in the memory of the GPU, binary32; tensor_scale may be null. Under join `exponents` a
// scale that is no power of two is multiplied as join `separate` has it: nobody can throw there.
// Queued on `stream`; nothing waits. Throws std::runtime_error with CUDA's message.
void scaled_matmul(const ScaledLayout& layout, ScaleJoin join, const float* a, const float* b,
                   const float* a_scale, const float* b_scale, const float* tensor_scale,
                   float* out, void* stream = nullptr);

}  // namespace halfulp::kernels::cuda
