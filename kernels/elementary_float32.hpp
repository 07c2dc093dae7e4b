// Functions of binary32 arrays that training uses, with the same bits on every processor: from
// additions, multiplications and divisions of binary64 in a fixed order, where libm has variants.
#pragma once

#include <cstddef>

#include "emu/arrays/vector_level.hpp"

namespace halfulp::kernels {

// y[i] = exp(x[i]), within 0.501 ulp; y may be x. Subnormal results included, NaN gives 0x7fc00000.
void exp_float32(const float* x, float* y, std::size_t n, VectorLevel level = vector_level());

// The normal distribution's function Φ and density φ at x[i], each within 0.51 ulp, Φ also where it
// is small. NaN gives 0x7fc00000. `share` and `density` are distinct and may be x.
void normal_float32(const float* x, float* share, float* density, std::size_t n,
                    VectorLevel level = vector_level());

}  // namespace halfulp::kernels
