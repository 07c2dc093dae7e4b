// The matrix product as a model of a hardware matrix unit has it, in the memory of a GPU: equal to
// kernels/matmul_unit.hpp bit for bit. Host code: no CUDA types.
#pragma once

#include "kernels/matmul_unit.hpp"

namespace halfulp::kernels::cuda {

// Whether the device's product takes the unit: block sums of at most 32 products without scales
// whose terms are cut.
bool serves(const MatrixUnit& u);

// out (M, N) = a (M, K) · b (K, N) [+ c (M, N)], row-major codes in the device's memory; c may be
// null, K is at least 1. Queued on `stream`, with memory of its own from the stream's pool; nothing
// waits. Throws std::invalid_argument for a unit it does not take, and std::runtime_error with
// CUDA's message.
void matmul_unit(const MatrixUnit& u, MatmulShape shape, const std::uint32_t* a,
                 const std::uint32_t* b, const std::uint32_t* c, std::uint32_t* out,
                 void* stream = nullptr);

}  // namespace halfulp::kernels::cuda
