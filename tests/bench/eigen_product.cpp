// HALFULP_EIGEN is the name of the function that this compiles. Eigen gets a namespace of the same
// name: the linker would keep only one of two equally named instances, of one instruction set.
#define HALFULP_JOIN_(a, b) a##b
#define HALFULP_JOIN(a, b)  HALFULP_JOIN_(a, b)
#define Eigen               HALFULP_JOIN(Eigen_, HALFULP_EIGEN)

#include <Eigen/Core>

#include "tests/bench/eigen_product.hpp"

namespace halfulp::bench {
namespace {

using Stride = Eigen::OuterStride<>;
using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ColMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
template <class M>
using Operand = Eigen::Map<const M, 0, Stride>;

// body(x) with x as Eigen's matrix of the layout that it has.
template <class Body>
void as_it_lies(kernels::MatrixView x, int rows, int cols, Body body) {
  if (x.column_stride == 1) {
    body(Operand<RowMajor>(x.data, rows, cols, Stride(x.row_stride)));
  } else {
    body(Operand<ColMajor>(x.data, rows, cols, Stride(x.column_stride)));
  }
}

}  // namespace

void HALFULP_EIGEN(kernels::MatrixView a, kernels::MatrixView b, float* out, int m, int n, int k) {
  Eigen::Map<RowMajor> result(out, m, n);
  as_it_lies(a, m, k, [&](const auto& x) {
    as_it_lies(b, k, n, [&](const auto& y) { result.noalias() = x * y; });
  });
}

}  // namespace halfulp::bench
