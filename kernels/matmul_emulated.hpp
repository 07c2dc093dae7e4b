// The matrix product over emulated formats, on arrays of hardware floats.
#pragma once

#include "emu/core/format.hpp"
#include "emu/core/philox.hpp"
#include "emu/core/rounding.hpp"
#include "kernels/matmul.hpp"

namespace halfulp::kernels {

// What is rounded to what. Operands are taken at their exact values.
struct MatmulFormats {
  Format product;      // of each a·b; unused by fma-sequential
  Format accumulator;  // of each sum
  Rounding rounding{};
  RandomStream random{};
};

// The bits that significands need for every operation, the operands being values of `operand`.
int significand_bits(const MatmulFormats& formats, Order order, Format operand);

// out (m, n) = a (m, k) · b (k, n) [+ c (m, n)], row-major; T is float or double and must hold
// every value of the accumulator's format. c may be null. `raised`, where given, becomes the flags
// raised anywhere; without it the product may go by matmul_rounded.hpp or matmul_exact.hpp,
// the same bits sooner, on at most `threads` threads. Throws std::invalid_argument if T cannot hold
// the result or the product is too wide for 128-bit significands, and RoundingError as
// emu/arrays/arrays.hpp says; out is then unchanged.
template <class T>
void matmul(const MatmulFormats& formats, Order order, MatmulShape shape, const T* a, const T* b,
            const T* c, T* out, Flags* raised = nullptr, int threads = 1);

// The same with k-sequential FMA into one format, no c: what training with a narrow accumulator
// uses.
void matmul_emulated(const float* a, const float* b, float* out, int m, int n, int k,
                     Format accumulator, const Rounding& rounding, const RandomStream& random);

}  // namespace halfulp::kernels
