// The operations of a transformer beside its products, each with its backward pass. None of them
// rounds: they are computed in T, sums in the order of the elements.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "studies/tensor.hpp"

namespace halfulp::studies {

template <class T>
Tensor<T> add(Tensor<T> x, const Tensor<T>& y) {
  return map(std::move(x), y, [](T a, T b) { return a + b; });
}

// The same elements in other rows: (B·T, heads·d) and (B·T·heads, d) lie alike.
template <class T>
Tensor<T> reshaped(Tensor<T> x, int cols) {
  x.rows = static_cast<int>(x.size() / static_cast<std::size_t>(cols));
  x.cols = cols;
  return x;
}

// ---------------------------------------------------------------- RMSNorm
//   u = x / sqrt(mean(x²) + ε)  row by row,   y = u · gain      (Zhang & Sennrich 2019, 1910.07467)

template <class T>
struct RmsNorm {
  Tensor<T> unit;           // u
  std::vector<T> inverses;  // 1 / sqrt(mean(x²) + ε) of each row
};

template <class T>
RmsNorm<T> rms_norm(Tensor<T> x) {
  constexpr double epsilon = 1e-6;
  RmsNorm<T> norm{std::move(x), {}};
  norm.inverses.reserve(static_cast<std::size_t>(norm.unit.rows));
  for (int i = 0; i < norm.unit.rows; ++i) {
    T* row = norm.unit.row(i);
    T sum{0};
    for (int j = 0; j < norm.unit.cols; ++j) sum += row[j] * row[j];
    const T inverse =
        T{1} / std::sqrt(sum / static_cast<T>(norm.unit.cols) + static_cast<T>(epsilon));
    for (int j = 0; j < norm.unit.cols; ++j) row[j] *= inverse;
    norm.inverses.push_back(inverse);
  }
  return norm;
}

// Column j times gain[j].
template <class T>
Tensor<T> scale_columns(Tensor<T> x, const Tensor<T>& gain) {
  for (int i = 0; i < x.rows; ++i) {
    T* row = x.row(i);
    for (int j = 0; j < x.cols; ++j) row[j] *= gain.data[static_cast<std::size_t>(j)];
  }
  return x;
}

// From g = ∂/∂y to ∂/∂x = (h − u·mean(h·u)) / rms, h = g·gain. `gain_gradient` becomes Σ_rows g·u.
template <class T>
Tensor<T> through_rms_norm(Tensor<T> g, const RmsNorm<T>& norm, const Tensor<T>& gain,
                           Tensor<T>& gain_gradient) {
  gain_gradient = Tensor<T>(1, g.cols);
  for (int i = 0; i < g.rows; ++i) {
    T* row = g.row(i);
    const T* unit = norm.unit.row(i);
    T sum{0};
    for (int j = 0; j < g.cols; ++j) {
      const auto column = static_cast<std::size_t>(j);
      gain_gradient.data[column] += row[j] * unit[j];
      row[j] *= gain.data[column];
      sum += row[j] * unit[j];
    }
    const T mean = sum / static_cast<T>(g.cols);
    const T inverse = norm.inverses[static_cast<std::size_t>(i)];
    for (int j = 0; j < g.cols; ++j) row[j] = (row[j] - unit[j] * mean) * inverse;
  }
  return g;
}

// ---------------------------------------------------------------- rotary positions
// The pair (2i, 2i+1) of each head is turned by position · 10000^(−2i/d)  (Su et al. 2021,
// 2104.09864).

template <class T>
class Rotary {
 public:
  Rotary() = default;
  Rotary(int context, int head_width)
      : context_(context), cosines_(context, head_width / 2), sines_(context, head_width / 2) {
    for (int t = 0; t < context; ++t) {
      for (int i = 0; i < head_width / 2; ++i) {
        const double angle = t * std::pow(1e4, -2.0 * i / head_width);
        cosines_.row(t)[i] = static_cast<T>(std::cos(angle));
        sines_.row(t)[i] = static_cast<T>(std::sin(angle));
      }
    }
  }

  // Row r of x is position r mod context; its columns are those of one head after another.
  Tensor<T> turn(Tensor<T> x) const { return turn(std::move(x), T{1}); }
  // The transpose, which is the inverse: from ∂/∂turn(x) to ∂/∂x.
  Tensor<T> turn_back(Tensor<T> x) const { return turn(std::move(x), T{-1}); }

 private:
  Tensor<T> turn(Tensor<T> x, T sign) const {
    const int pairs = cosines_.cols;
    for (int r = 0; r < x.rows; ++r) {
      const T* cosine = cosines_.row(r % context_);
      const T* sine = sines_.row(r % context_);
      T* pair = x.row(r);
      for (int h = 0; h < x.cols / (2 * pairs); ++h) {
        for (int i = 0; i < pairs; ++i, pair += 2) {
          const T a = pair[0];
          const T b = pair[1];
          const T s = sign * sine[i];
          pair[0] = a * cosine[i] - b * s;
          pair[1] = a * s + b * cosine[i];
        }
      }
    }
    return x;
  }

  int context_ = 0;
  Tensor<T> cosines_;
  Tensor<T> sines_;
};

// ---------------------------------------------------------------- causal softmax
// x holds square blocks of scores below one another: row r is the query at position r mod x.cols,
// column j the key at position j. Later keys get weight 0; their scores are not looked at.

template <class T>
Tensor<T> causal_softmax(Tensor<T> x) {
  for (int r = 0; r < x.rows; ++r) {
    T* row = x.row(r);
    const int seen = r % x.cols + 1;
    const T most = *std::max_element(row, row + seen);
    T sum{0};
    for (int j = 0; j < seen; ++j) sum += row[j] = std::exp(row[j] - most);
    for (int j = 0; j < seen; ++j) row[j] /= sum;
    std::fill(row + seen, row + x.cols, T{0});
  }
  return x;
}

// From g = ∂/∂p to ∂/∂x = p·(g − Σ_row g·p).
template <class T>
Tensor<T> through_softmax(Tensor<T> g, const Tensor<T>& p) {
  for (int r = 0; r < g.rows; ++r) {
    T* row = g.row(r);
    const T* weights = p.row(r);
    const int seen = r % g.cols + 1;
    T sum{0};
    for (int j = 0; j < seen; ++j) sum += row[j] * weights[j];
    for (int j = 0; j < seen; ++j) row[j] = weights[j] * (row[j] - sum);
    std::fill(row + seen, row + g.cols, T{0});
  }
  return g;
}

// ---------------------------------------------------------------- activations

// GELU is x·Φ(x) (Hendrycks & Gimpel 2016, 1606.08415), Φ the normal distribution's function, here
// by the error function.
template <class T>
T normal_share(T x) {
  constexpr double root_half = 0.7071067811865476;
  return T{0.5} * (T{1} + std::erf(x * static_cast<T>(root_half)));
}

// Its slope, Φ(x) + x·φ(x); `share` is Φ(x).
template <class T>
T gelu_slope(T x, T share) {
  constexpr double density = 0.3989422804014327;  // φ(0)
  return share + x * (static_cast<T>(density) * std::exp(T{-0.5} * x * x));
}

// x·σ(x), of SwiGLU (Shazeer 2020, 2002.05202).
template <class T>
T silu(T x) {
  return x / (T{1} + std::exp(-x));
}

// σ(x)·(1 + x·(1 − σ(x)))
template <class T>
T silu_slope(T x) {
  const T s = T{1} / (T{1} + std::exp(-x));
  return s * (T{1} + x * (T{1} - s));
}

// ---------------------------------------------------------------- blocks of a matrix

// Rows [row, row + rows) and columns [col, col + cols) of x.
template <class T>
Tensor<T> block(const Tensor<T>& x, int row, int col, int rows, int cols) {
  Tensor<T> y(rows, cols);
  for (int i = 0; i < rows; ++i) std::copy_n(x.row(row + i) + col, cols, y.row(i));
  return y;
}

// Puts y there.
template <class T>
void put_block(Tensor<T>& x, int row, int col, const Tensor<T>& y) {
  for (int i = 0; i < y.rows; ++i) std::copy_n(y.row(i), y.cols, x.row(row + i) + col);
}

// Puts yᵀ there.
template <class T>
void put_transposed(Tensor<T>& x, int row, int col, const Tensor<T>& y) {
  for (int i = 0; i < y.cols; ++i) {
    T* to = x.row(row + i) + col;
    for (int j = 0; j < y.rows; ++j) to[j] = y.row(j)[i];
  }
}

}  // namespace halfulp::studies
