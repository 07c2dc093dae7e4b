// LayerNorm and RMSNorm of rows on processors: binary32, binary16 or bfloat16 in and out, binary32
// inside. Equal bit for bit to kernels/norms.hpp over Native<float> in 64 lanes (two passes), each
// result rounded once more where the elements are narrower, for any number of threads, instruction
// set, alignment, and control word of the caller; NaN is the canonical one.
#pragma once

#include <cstddef>

#include "emu/arrays/vector_level.hpp"
#include "kernels/halves.hpp"

namespace halfulp::kernels {

inline constexpr std::size_t norm_lanes = 64;

struct RowShape {
  std::size_t rows, n;
};

// T: float, Binary16, Bfloat16. x, y: (rows, n), row-major; weight, bias: n, or null for 1 and 0. y
// may be x.
template <class T>
void layer_norm_rows(RowShape shape, const T* x, const T* weight, const T* bias, float epsilon,
                     T* y, int threads = 1, VectorLevel level = vector_level());
template <class T>
void rms_norm_rows(RowShape shape, const T* x, const T* weight, float epsilon, T* y,
                   int threads = 1, VectorLevel level = vector_level());

}  // namespace halfulp::kernels
