// The binary32 matrix product that training uses: k-sequential FMA, vectorised across columns.
#pragma once

#include <cstddef>

#include "emu/arrays/vector_level.hpp"

namespace halfulp::kernels {

// A matrix in memory: element (i, j) is data[i·row_stride + j·column_stride]. So a block of a
// larger matrix, a transpose, and a block's transpose are operands as they lie.
struct MatrixView {
  const float* data;
  std::ptrdiff_t row_stride;
  std::ptrdiff_t column_stride;
};

// out (m, n) = a (m, k) · b (k, n); out is row-major, its rows `out_stride` apart, distinct from a
// and b. out[i][j] = fma(a[i][k-1], b[k-1][j], … fma(a[i][0], b[0][j], +0)): the bits of matmul()
// over Native<float> with fma_sequential, on any processor, for any shape and any strides.
void matmul_float32(MatrixView a, MatrixView b, float* out, std::ptrdiff_t out_stride, int m, int n,
                    int k, VectorLevel level = vector_level());

// All three row-major without gaps.
inline void matmul_float32(const float* a, const float* b, float* out, int m, int n, int k) {
  matmul_float32({a, k, 1}, {b, n, 1}, out, n, m, n, k);
}

}  // namespace halfulp::kernels
