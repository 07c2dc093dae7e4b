// The binary32 matrix product that training uses: k-sequential FMA, vectorised across columns.
#pragma once

#include <cstddef>

namespace halfulp::kernels {

// out (m, n) = a (m, k) · b (k, n), row-major, out distinct from a and b. out[i][j] =
// fma(a[i][k-1], b[k-1][j], … fma(a[i][0], b[0][j], +0)): the bits of matmul() over Native<float>
// with fma_sequential, on any processor and for any shape.
void matmul_float32(const float* a, const float* b, float* out, int m, int n, int k);

}  // namespace halfulp::kernels
