// Softmax and cross-entropy.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "studies/tensor.hpp"

namespace halfulp::studies {

template <class T>
struct CrossEntropy {
  double mean = 0;     // nats
  int correct = 0;     // rows whose first largest logit is the label's; none with a NaN
  Tensor<T> gradient;  // of the mean with respect to the logits: (softmax − one-hot) / rows
};

// Softmax and cross-entropy, computed in double from logits less their maximum, so that no
// exponential overflows.
template <class T>
CrossEntropy<T> cross_entropy(const Tensor<T>& logits, const int* labels) {
  CrossEntropy<T> result{0, 0, Tensor<T>(logits.rows, logits.cols)};
  std::vector<double> exponentials(static_cast<std::size_t>(logits.cols));
  for (int i = 0; i < logits.rows; ++i) {
    const T* row = logits.row(i);
    const int label = labels[i];
    const int best = static_cast<int>(std::max_element(row, row + logits.cols) - row);
    const auto shifted = [&](int j) {
      return static_cast<double>(row[j]) - static_cast<double>(row[best]);
    };
    double sum = 0;
    for (int j = 0; j < logits.cols; ++j)
      sum += exponentials[static_cast<std::size_t>(j)] = std::exp(shifted(j));
    result.mean += std::log(sum) - shifted(label);
    result.correct += best == label && !std::isnan(sum) ? 1 : 0;
    for (int j = 0; j < logits.cols; ++j) {
      const double probability = exponentials[static_cast<std::size_t>(j)] / sum;
      result.gradient.row(i)[j] =
          static_cast<T>((probability - (j == label ? 1 : 0)) / logits.rows);
    }
  }
  result.mean /= logits.rows;
  return result;
}

}  // namespace halfulp::studies
