// A Precision (model.hpp) that rounds nothing: with it a network is what the gradient check
// differentiates.
#pragma once

#include "studies/spec.hpp"
#include "studies/tensor.hpp"

namespace halfulp::studies {

// No rounding, products by k-sequential sums.
template <class T>
struct Exact {
  using value_type = T;

  Tensor<T> quantise(Role /*role*/, Tensor<T> x) { return x; }

  Tensor<T> matmul(const Tensor<T>& a, const Tensor<T>& b) {
    Tensor<T> out(a.rows, b.cols);
    for (int i = 0; i < a.rows; ++i) {
      for (int k = 0; k < a.cols; ++k) {
        const T x = a.row(i)[k];
        for (int j = 0; j < b.cols; ++j) out.row(i)[j] += x * b.row(k)[j];
      }
    }
    return out;
  }
};

}  // namespace halfulp::studies
