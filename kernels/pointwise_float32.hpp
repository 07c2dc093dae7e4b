// GELU, SiLU, rotary positions and AdamW over arrays on processors, vectorised: binary32 inside,
// the same bits for any number of threads, instruction set, alignment, and control word of the
// caller; NaN is the canonical one.
//
//   gelu    kernels/activations.hpp's x·Φ(x) over Native<float> with Φ of elementary_float32.hpp,
//           bit for bit: within 1.53 ulp (0.51·2 + 0.51) wherever Φ is normal, x > −12.9
//   silu    its x / (1 + exp(−x)) with exp of elementary_float32.hpp, bit for bit: within 3.01 ulp,
//           and −0 below −88.8, where exp(−x) overflows
//   rotary  kernels/rotary.hpp's over Native<float>, bit for bit
//   adamw   kernels/adamw.hpp's over Native<float>, bit for bit
#pragma once

#include <cstddef>

#include "emu/arrays/vector_level.hpp"
#include "kernels/adamw.hpp"
#include "kernels/halves.hpp"
#include "kernels/rotary.hpp"

namespace halfulp::kernels {

// T: float, Binary16, Bfloat16. y may be x.
template <class T>
void gelu_array(const T* x, T* y, std::size_t n, int threads = 1,
                VectorLevel level = vector_level());
template <class T>
void silu_array(const T* x, T* y, std::size_t n, int threads = 1,
                VectorLevel level = vector_level());

// y may be x. Throws std::invalid_argument where the width is odd.
template <class T>
void rotary_array(const RotaryShape& shape, Pairing pairing, const T* x, const T* cosine,
                  const T* sine, T* y, int threads = 1, VectorLevel level = vector_level());

// In place. T: float, Bfloat16.
template <class T>
void adamw_array(const AdamWOptions& options, T* parameter, const T* gradient, float* first,
                 float* second, std::size_t n, int threads = 1, VectorLevel level = vector_level());

}  // namespace halfulp::kernels
