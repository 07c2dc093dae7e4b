// Cross-entropy without its logits in the memory of a GPU: the bits of kernels/cross_entropy.hpp
// over Float32Exponential in tiles of 64 by 64, NaN for NaN, for any number of blocks. Host code:
// no CUDA types.
//
// Floor: N·V·D fused multiply-adds of binary32 forward; backward makes the logits once for de and
// once for dc, 4·N·V·D in all but for the tiles that the filter skips. No atomic operation adds
// anything: results do not change from run to run.
#pragma once

#include "emu/arrays/arrays.hpp"
#include "kernels/cross_entropy.hpp"

namespace halfulp::kernels::cuda {

// e (n, d) and c (v, d) are of binary32, binary16 or bfloat16, all else as in
// kernels/cross_entropy.hpp and of binary32. v = 0: loss is not written. Queued on `stream`;
// nothing waits. Throws std::invalid_argument for other elements, and std::runtime_error with
// CUDA's message.
void cross_entropy(Element element, CrossEntropyShape shape, const void* e, const void* c,
                   const std::int64_t* target, float* loss, float* lse, void* stream = nullptr);

// skipped: null, or a number in the memory of the GPU, to which the tiles of G that were skipped
// for de are added.
void cross_entropy_backward(Element element, CrossEntropyShape shape, const void* e, const void* c,
                            const std::int64_t* target, const float* lse, const float* dloss,
                            float filter, float* de, float* dc,
                            unsigned long long* skipped = nullptr, void* stream = nullptr);

}  // namespace halfulp::kernels::cuda
