// Matrix products as the matrix instructions of x86 compute them (emu/core/x86_units.hpp).
//
//   out (M, N) = a (M, K) · b (K, N) [+ c (M, N)], row-major; a and b with one element in each
//   word, as x86_dot takes it; c and out words of the unit's result. Without c every sum starts at
//   +0.
#pragma once

#include "emu/core/x86_units.hpp"
#include "kernels/matmul.hpp"

namespace halfulp::kernels {

// K is cut into instructions of u.k products, the last of those that remain. Of kind bf16 K is
// even; of kind convert it is 1. c may be null. Shared among `threads`. Throws
// std::invalid_argument for another K.
void matmul_x86(const X86Unit& u, MatmulShape shape, const std::uint32_t* a, const std::uint32_t* b,
                const std::uint32_t* c, std::uint32_t* out, int threads);

}  // namespace halfulp::kernels
