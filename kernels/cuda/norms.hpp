// LayerNorm and RMSNorm of rows in the memory of a GPU: binary32, binary16 or bfloat16 in and out,
// binary32 inside. Equal bit for bit to kernels/norms.hpp over Native<float> (two passes) in
// row_lanes(element, n) lanes, each result rounded once more where elements are narrower; NaN is
// the canonical one. The bits depend on a row alone: not on the other rows, their number,
// alignment, or the device. Host code: no CUDA types.
#pragma once

#include "emu/arrays/arrays.hpp"

namespace halfulp::kernels::cuda {

std::size_t row_lanes(Element element, std::size_t n);

// y = layer norm of x, (rows, n), row-major; weight, bias: n elements, or null for 1 and 0. y may
// be x. Queued on `stream`; nothing waits. Throws std::invalid_argument for an element that is none
// of the three, and std::runtime_error with CUDA's message.
void layer_norm(Element element, std::size_t rows, std::size_t n, const void* x, const void* weight,
                const void* bias, float epsilon, void* y, void* stream = nullptr);
void rms_norm(Element element, std::size_t rows, std::size_t n, const void* x, const void* weight,
              float epsilon, void* y, void* stream = nullptr);

}  // namespace halfulp::kernels::cuda
