// Products by exact sums, each rounded once, on this processor's vectors: equal bit for bit to
// matmul.hpp over Emulated in order exact.
#pragma once

#include "emu/arrays/vector_level.hpp"
#include "kernels/matmul_emulated.hpp"

namespace halfulp::kernels {

// As matmul_rounded.hpp says: in every mode, where the exponents of the operands' bits are not too
// far apart, as those of 8-bit formats are not.
bool matmul_exact(const MatmulFormats& formats, MatmulShape shape, const float* a, const float* b,
                  const float* c, float* out, int threads, VectorLevel level = vector_level());

}  // namespace halfulp::kernels
