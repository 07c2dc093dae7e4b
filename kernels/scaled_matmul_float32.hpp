// The scaled product of scaled_matmul.hpp in binary32, vectorised.
#pragma once

#include "emu/arrays/vector_level.hpp"
#include "kernels/scaled_matmul.hpp"

namespace halfulp::kernels {

// The bits of scaled_matmul over Native<float>, NaN for NaN, on at most `threads` threads.
// tensor_scale may be null. Throws as that does.
void scaled_matmul_float32(const ScaledLayout& layout, ScaleJoin join, const float* a,
                           const float* b, const float* a_scale, const float* b_scale,
                           const float* tensor_scale, float* out, int threads = 1,
                           VectorLevel level = vector_level());

}  // namespace halfulp::kernels
