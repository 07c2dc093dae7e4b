// GELU, SiLU, rotary positions and AdamW over arrays in the memory of a GPU: bit for bit what
// kernels/pointwise_float32.hpp computes on a processor. Host code: no CUDA types.
//
// Floor in bytes: an element read and one written (AdamW: the parameter, the gradient and two
// moments read, three of them written). Floor in operations: GELU takes some 50 of binary64 an
// element, SiLU 25, which is what they wait for on a GPU.
#pragma once

#include "emu/arrays/arrays.hpp"
#include "kernels/adamw.hpp"
#include "kernels/rotary.hpp"

namespace halfulp::kernels::cuda {

// Elements of binary32, binary16 or bfloat16; y may be x. Queued on `stream`; nothing waits. They
// throw std::invalid_argument for other elements, and std::runtime_error with CUDA's message.
void gelu(Element element, const void* x, std::size_t n, void* y, void* stream = nullptr);
void silu(Element element, const void* x, std::size_t n, void* y, void* stream = nullptr);

// cosine, sine: of the element type too. Throws std::invalid_argument where the width is odd.
void rotary(Element element, const RotaryShape& shape, Pairing pairing, const void* x,
            const void* cosine, const void* sine, void* y, void* stream = nullptr);

// In place; the moments are binary32. Elements of binary32 or bfloat16.
void adamw(Element element, const AdamWOptions& options, void* parameter, const void* gradient,
           float* first, float* second, std::size_t n, void* stream = nullptr);

}  // namespace halfulp::kernels::cuda
