// Products of integer matrices, exact.
//
//   out (M, N) = a (M, K) · b (K, N) [+ c (M, N)], row-major, no aliasing of out with an operand
//
// Operands are integers of at most 8 bits, each in an int8_t (int4: −8 to 7 in the same bytes).
// Every product is exact and sums are of 32 bits in two's complement: they wrap, as those of
// `hopper.wgmma.s8.s32` do (docs/matrix-units.md). Nothing wraps while K·2^14 + |c| < 2^31, that
// is without c for K < 131072 of 8 bits, K < 2^25 of 4 bits. So no order matters, and a kernel is
// held to the bits.
//
// Versions: integer_matmul, the definition; int8_matmul, in vectors and on threads. Floor of the
// fast one: M·N·K / 128 instructions of VNNI (64 multiply-adds each, two a cycle);
// docs/performance.md.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/integer_level.hpp"
#include "kernels/matmul.hpp"

namespace halfulp::kernels {

// T: an integer type of at most 16 bits. c may be null.
template <class T>
void integer_matmul(MatmulShape shape, const T* a, const T* b, const std::int32_t* c,
                    std::int32_t* out) {
  for (std::size_t i = 0; i < shape.m; ++i) {
    for (std::size_t j = 0; j < shape.n; ++j) {
      std::uint32_t sum = c != nullptr ? static_cast<std::uint32_t>(c[i * shape.n + j]) : 0;
      for (std::size_t k = 0; k < shape.k; ++k) {
        const std::int32_t x = a[i * shape.k + k], y = b[k * shape.n + j];
        sum += static_cast<std::uint32_t>(x * y);
      }
      out[i * shape.n + j] = static_cast<std::int32_t>(sum);
    }
  }
}

// The same bits on at most `threads` threads.
void int8_matmul(MatmulShape shape, const std::int8_t* a, const std::int8_t* b,
                 const std::int32_t* c, std::int32_t* out, int threads = 1,
                 IntegerLevel level = integer_level());

// Two 4-bit integers a byte, the earlier one in the low half: unpacks n of them, sign extended.
void unpack_int4(const std::uint8_t* packed, std::size_t n, std::int8_t* out);

}  // namespace halfulp::kernels
