// The operations of a transformer beside its products, each with its backward pass. None of them
// rounds: they are computed in T. Sums along a row go by 16 partial sums (sum_over), sums over rows
// in the order of the rows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/elementary_float32.hpp"
#include "studies/tensor.hpp"

namespace halfulp::studies {

// out = a·b by a Precision (model.hpp), each operand where it lies if it can do that, else copied.
template <class P, class T = typename P::value_type>
void product(P& precision, std::type_identity_t<View<const T>> a,
             std::type_identity_t<View<const T>> b, std::type_identity_t<View<T>> out) {
  if constexpr (requires { precision.matmul(a, b, out); }) {
    precision.matmul(a, b, out);
  } else {
    put(precision.matmul(copied(a), copied(b)), out);
  }
}
template <class P, class T = typename P::value_type>
Tensor<T> product(P& precision, std::type_identity_t<View<const T>> a,
                  std::type_identity_t<View<const T>> b) {
  Tensor<T> out(a.rows, b.cols);
  product(precision, a, b, out);
  return out;
}

template <class T>
Tensor<T> add(Tensor<T> x, const Tensor<T>& y) {
  return map(std::move(x), y, [](T a, T b) { return a + b; });
}

// Element by element.
template <class T>
Tensor<T> multiply(Tensor<T> x, const Tensor<T>& y) {
  return map(std::move(x), y, [](T a, T b) { return a * b; });
}

// The same elements in other rows: (B·T, heads·d) and (B·T·heads, d) lie alike.
template <class T>
Tensor<T> reshaped(Tensor<T> x, int cols) {
  x.rows = static_cast<int>(x.size() / static_cast<std::size_t>(cols));
  x.cols = cols;
  return x;
}

// f(0) + … + f(n − 1): term j goes to partial sum j mod 16, then halves are added, 8 apart, 4, 2
// and
// 1. That is one order on every processor, fit for vectors, and its error grows as n/16.
template <class T, class F>
T sum_over(int n, F f) {
  constexpr int lanes = 16;
  T sums[lanes] = {};
  int j = 0;
  for (; j + lanes <= n; j += lanes) {
    for (int l = 0; l < lanes; ++l) sums[l] += f(j + l);
  }
  for (int l = 0; j + l < n; ++l) sums[l] += f(j + l);
  for (int half = lanes / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) sums[l] += sums[l + half];
  }
  return sums[0];
}

// exp of each element: that of the same bits everywhere for float, libm's else.
template <class T>
Tensor<T> exponential(Tensor<T> x) {
  return map(std::move(x), [](T v) { return std::exp(v); });
}
inline Tensor<float> exponential(Tensor<float> x) {
  kernels::exp_float32(x.data.data(), x.data.data(), x.size());
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
    const T sum = sum_over<T>(norm.unit.cols, [row](int j) { return row[j] * row[j]; });
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
    for (int j = 0; j < x.cols; ++j) row[j] *= gain.row(0)[j];
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
    for (int j = 0; j < g.cols; ++j) gain_gradient.row(0)[j] += row[j] * unit[j];
    for (int j = 0; j < g.cols; ++j) row[j] *= gain.row(0)[j];
    const T sum = sum_over<T>(g.cols, [row, unit](int j) { return row[j] * unit[j]; });
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
// Of scale·x. x holds square blocks of scores below one another: row r is the query at position
// r mod x.cols, column j the key at position j. Later keys get weight 0; their scores are not
// looked at.

template <class T>
Tensor<T> causal_softmax(Tensor<T> x, T scale) {
  for (int r = 0; r < x.rows; ++r) {
    T* row = x.row(r);
    const int seen = r % x.cols + 1;
    for (int j = 0; j < seen; ++j) row[j] *= scale;
    const T most = *std::max_element(row, row + seen);
    for (int j = 0; j < seen; ++j) row[j] -= most;
    std::fill(row + seen, row + x.cols, -std::numeric_limits<T>::infinity());
  }
  x = exponential(std::move(x));
  for (int r = 0; r < x.rows; ++r) {
    T* row = x.row(r);
    const T sum = sum_over<T>(x.cols, [row](int j) { return row[j]; });
    for (int j = 0; j < x.cols; ++j) row[j] /= sum;
  }
  return x;
}

// From g = ∂/∂p to ∂/∂x = p·(g − Σ_row g·p)·scale.
template <class T>
Tensor<T> through_softmax(Tensor<T> g, const Tensor<T>& p, T scale) {
  for (int r = 0; r < g.rows; ++r) {
    T* row = g.row(r);
    const T* weights = p.row(r);
    const int seen = r % g.cols + 1;
    const T sum = sum_over<T>(seen, [row, weights](int j) { return row[j] * weights[j]; });
    for (int j = 0; j < seen; ++j) row[j] = weights[j] * (row[j] - sum) * scale;
    std::fill(row + seen, row + g.cols, T{0});
  }
  return g;
}

// ---------------------------------------------------------------- activations

// f(x) and f'(x).
template <class T>
struct Activated {
  Tensor<T> value;
  Tensor<T> slope;
};

// Φ(x) and φ(x), the normal distribution's function and density.
template <class T>
struct Normal {
  Tensor<T> share;
  Tensor<T> density;
};
template <class T>
Normal<T> normal(const Tensor<T>& x) {
  const T root_half = std::sqrt(T{0.5});
  constexpr double at_0 = 0.3989422804014327;
  return {map(x, [=](T v) { return T{0.5} * std::erfc(-v * root_half); }),
          map(x, [=](T v) { return static_cast<T>(at_0) * std::exp(T{-0.5} * v * v); })};
}
inline Normal<float> normal(const Tensor<float>& x) {
  Normal<float> y{Tensor<float>(x.rows, x.cols), Tensor<float>(x.rows, x.cols)};
  kernels::normal_float32(x.data.data(), y.share.data.data(), y.density.data.data(), x.size());
  return y;
}

// x·Φ(x), of slope Φ(x) + x·φ(x)  (Hendrycks & Gimpel 2016, 1606.08415).
template <class T>
Activated<T> gelu(const Tensor<T>& x) {
  auto [share, density] = normal(x);
  Tensor<T> value = multiply(x, share);
  return {std::move(value), add(std::move(share), multiply(std::move(density), x))};
}

// x·σ(x), of slope σ(x)·(1 + x·(1 − σ(x))): the gate of SwiGLU (Shazeer 2020, 2002.05202).
template <class T>
Activated<T> silu(const Tensor<T>& x) {
  Tensor<T> share = exponential(map(x, [](T v) { return -v; }));
  share = map(std::move(share), [](T e) { return T{1} / (T{1} + e); });
  Tensor<T> value = multiply(x, share);
  return {std::move(value),
          map(std::move(share), x, [](T s, T v) { return s * (T{1} + v * (T{1} - s)); })};
}

}  // namespace halfulp::studies
