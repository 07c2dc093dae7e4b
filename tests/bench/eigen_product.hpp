// Eigen's product of binary32 matrices, compiled twice (eigen_product.cpp): for this processor, and
// with the project's own options.
#pragma once

#include "kernels/matmul_float32.hpp"

namespace halfulp::bench {

// out (m, n) = a (m, k) · b (k, n), out row-major without gaps. One stride of a and of b is 1.
using Product = void(kernels::MatrixView a, kernels::MatrixView b, float* out, int m, int n, int k);
Product eigen_for_this_processor;
Product eigen_by_default;

}  // namespace halfulp::bench
