// Matrices and the few operations that networks are written over. Row-major; a vector is a matrix
// of one row.
#pragma once

#include <algorithm>
#include <cstddef>
#include <type_traits>
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

// A matrix that lies in the memory of a tensor, which must live as long: the whole of it, a block,
// a transpose. View<const T> is an operand, View<T> is a place for a result.
template <class T>
struct View {
  using Owner =
      std::conditional_t<std::is_const_v<T>, const Tensor<std::remove_const_t<T>>, Tensor<T>>;

  T* data = nullptr;
  int rows = 0;
  int cols = 0;
  std::ptrdiff_t row_stride = 0;
  std::ptrdiff_t col_stride = 1;

  View(T* first, int r, int c, std::ptrdiff_t rs, std::ptrdiff_t cs)
      : data(first), rows(r), cols(c), row_stride(rs), col_stride(cs) {}
  // NOLINTNEXTLINE(google-explicit-constructor): a tensor is a view of itself
  View(Owner& x) : View(x.data.data(), x.rows, x.cols, x.cols, 1) {}
  // NOLINTNEXTLINE(google-explicit-constructor): and a place is an operand
  operator View<const T>() const requires(!std::is_const_v<T>) {
    return {data, rows, cols, row_stride, col_stride};
  }

  T& at(int i, int j) const { return data[i * row_stride + j * col_stride]; }
};

template <class T>
View<const T> transposed(const Tensor<T>& x) {
  return {x.data.data(), x.cols, x.rows, 1, x.cols};
}
template <class T>
View<T> transposed(View<T> x) {
  return {x.data, x.cols, x.rows, x.col_stride, x.row_stride};
}

// Rows [row, row + rows) and columns [col, col + cols) of x.
template <class T>
View<const T> block(const Tensor<T>& x, int row, int col, int rows, int cols) {
  return {x.row(row) + col, rows, cols, x.cols, 1};
}
template <class T>
View<T> block(Tensor<T>& x, int row, int col, int rows, int cols) {
  return {x.row(row) + col, rows, cols, x.cols, 1};
}

// The elements of x, as a tensor of its own.
template <class T>
Tensor<T> copied(View<const T> x) {
  Tensor<T> y(x.rows, x.cols);
  for (int i = 0; i < x.rows; ++i) {
    for (int j = 0; j < x.cols; ++j) y.row(i)[j] = x.at(i, j);
  }
  return y;
}

// The elements of x put into the place y.
template <class T>
void put(const Tensor<T>& x, View<T> y) {
  for (int i = 0; i < x.rows; ++i) {
    for (int j = 0; j < x.cols; ++j) y.at(i, j) = x.row(i)[j];
  }
}

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
