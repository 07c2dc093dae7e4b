// Products with every sum, and every product but in order fma-sequential, rounded, on this
// processor's vectors: equal bit for bit to matmul.hpp over Emulated. Format, mode and policies are
// run-time data. Sums along k are sequential, so vectors run over columns (over rows, where there
// are fewer columns than rows).
#pragma once

#include "emu/arrays/vector_level.hpp"
#include "kernels/matmul_emulated.hpp"

namespace halfulp::kernels {

// Does the product if it has a way for these formats, this order and these operands, on at most
// `threads` threads, and says whether; else `out` is unchanged. It has one for orders sequential
// and fma-sequential in deterministic modes, formats of at most 51 bits, policies under which
// nothing is an error. Arguments are valid, as matmul_emulated.hpp has them; flags are not
// computed.
bool matmul_rounded(const MatmulFormats& formats, Order order, MatmulShape shape, const float* a,
                    const float* b, const float* c, float* out, int threads,
                    VectorLevel level = vector_level());

}  // namespace halfulp::kernels
