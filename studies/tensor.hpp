// Matrices and the few operations that networks are written over. Row-major; a vector is a matrix
// of one row.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace halfulp::studies {

template <class T>
struct Tensor {
  int rows = 0;
  int cols = 0;
  std::vector<T> data;

  Tensor() = default;
  Tensor(int r, int c)
      : rows(r), cols(c), data(static_cast<std::size_t>(r) * static_cast<std::size_t>(c)) {}

  std::size_t size() const { return data.size(); }
  T* row(int i) { return data.data() + static_cast<std::ptrdiff_t>(i) * cols; }
  const T* row(int i) const { return data.data() + static_cast<std::ptrdiff_t>(i) * cols; }
};

template <class T>
Tensor<T> transpose(const Tensor<T>& x) {
  constexpr int side = 16;  // of the squares that it goes by, so that both stay in the cache
  Tensor<T> y(x.cols, x.rows);
  for (int top = 0; top < x.rows; top += side) {
    for (int left = 0; left < x.cols; left += side) {
      for (int j = left; j < std::min(left + side, x.cols); ++j) {
        T* to = y.row(j);
        for (int i = top; i < std::min(top + side, x.rows); ++i) to[i] = x.row(i)[j];
      }
    }
  }
  return y;
}

// x[i] = f(x[i])
template <class T, class F>
Tensor<T> map(Tensor<T> x, F f) {
  for (T& v : x.data) v = f(v);
  return x;
}

// x[i] = f(x[i], y[i])
template <class T, class F>
Tensor<T> map(Tensor<T> x, const Tensor<T>& y, F f) {
  for (std::size_t i = 0; i < x.data.size(); ++i) x.data[i] = f(x.data[i], y.data[i]);
  return x;
}

// The row vector `v` added to each row of x.
template <class T>
Tensor<T> add_to_rows(Tensor<T> x, const Tensor<T>& v) {
  for (int i = 0; i < x.rows; ++i) {
    T* row = x.row(i);
    for (int j = 0; j < x.cols; ++j) row[j] += v.data[static_cast<std::size_t>(j)];
  }
  return x;
}

// Sums over rows, in the order of the rows.
template <class T>
Tensor<T> sum_of_rows(const Tensor<T>& x) {
  Tensor<T> y(1, x.cols);
  for (int i = 0; i < x.rows; ++i) {
    const T* row = x.row(i);
    for (int j = 0; j < x.cols; ++j) y.data[static_cast<std::size_t>(j)] += row[j];
  }
  return y;
}

}  // namespace halfulp::studies
