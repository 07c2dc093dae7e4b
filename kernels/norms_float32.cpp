#include "kernels/norms_float32.hpp"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "emu/arrays/control_word.hpp"
#include "emu/arrays/parallel.hpp"

// A row is read three times, the second and third time from the first cache. The 64 lanes are four
// vectors of AVX-512, so that four additions are under way at once; narrower vectors hold the same
// lanes in more registers.
namespace halfulp::kernels {
namespace {

constexpr int lanes = static_cast<int>(norm_lanes);

template <bool centred, bool square>
[[gnu::always_inline]] inline float sum_over(const float* x, std::size_t n, float mean) {
  const auto term = [mean](float v) {
    const float d = centred ? v - mean : v;
    return square ? d * d : d;
  };
  float sums[lanes] = {};
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
// As in matmul_float32.cpp: g++ would unroll before it looks for vectors.
#if defined(__GNUC__) && !defined(__clang__)
  #pragma GCC unroll 1
#endif
    for (int l = 0; l < lanes; ++l) sums[l] += term(x[i + static_cast<std::size_t>(l)]);
  }
  float tree[lanes];
  std::copy_n(sums, lanes, tree);
  for (int l = 0; i < n; ++i, ++l) tree[l] += term(x[i]);
  for (int m = lanes / 2; m > 0; m /= 2) {
    for (int j = 0; j < m; ++j) tree[j] = tree[2 * j] + tree[2 * j + 1];
  }
  return tree[0];
}

// values: the row as floats (x itself, or a copy).
template <class T, bool centred>
[[gnu::always_inline]] inline void one_row(std::size_t n, const float* values, const float* weight,
                                           const float* bias, float epsilon, T* y) {
  const auto count = static_cast<float>(n);
  const float mean = centred ? sum_over<false, false>(values, n, 0) / count : 0;
  const float variance = sum_over<centred, true>(values, n, mean) / count;
  const float r = 1 / std::sqrt(variance + epsilon);
  const auto unit = [=](std::size_t i) { return (centred ? values[i] - mean : values[i]) * r; };
  if (weight != nullptr && bias != nullptr) {
    for (std::size_t i = 0; i < n; ++i) y[i] = narrow<T>(unit(i) * weight[i] + bias[i]);
  } else if (weight != nullptr) {
    for (std::size_t i = 0; i < n; ++i) y[i] = narrow<T>(unit(i) * weight[i]);
  } else if (bias != nullptr) {
    for (std::size_t i = 0; i < n; ++i) y[i] = narrow<T>(unit(i) + bias[i]);
  } else {
    for (std::size_t i = 0; i < n; ++i) y[i] = narrow<T>(unit(i));
  }
}

template <class T, bool centred>
[[gnu::always_inline]] inline void all_rows(RowShape shape, const T* x, const float* weight,
                                            const float* bias, float epsilon, T* y, float* buffer) {
  for (std::size_t row = 0; row < shape.rows; ++row) {
    const T* from = x + row * shape.n;
    if constexpr (sizeof(T) == 4) {
      one_row<T, centred>(shape.n, from, weight, bias, epsilon, y + row * shape.n);
    } else {
      for (std::size_t i = 0; i < shape.n; ++i) buffer[i] = widen(from[i]);
      one_row<T, centred>(shape.n, buffer, weight, bias, epsilon, y + row * shape.n);
    }
  }
}

#define HALFULP_NORM(name, T, centred)                                                \
  HALFULP_LEVELS(void, name,                                                          \
                 (RowShape shape, const T* x, const float* weight, const float* bias, \
                  float epsilon, T* y, float* buffer),                                \
                 (all_rows<T, centred>(shape, x, weight, bias, epsilon, y, buffer)))
HALFULP_NORM(layer_float, float, true)
HALFULP_NORM(layer_half, Binary16, true)
HALFULP_NORM(layer_bfloat, Bfloat16, true)
HALFULP_NORM(rms_float, float, false)
HALFULP_NORM(rms_half, Binary16, false)
HALFULP_NORM(rms_bfloat, Bfloat16, false)
#undef HALFULP_NORM

template <class T, bool centred>
constexpr auto rows_of() {
  if constexpr (sizeof(T) == 4)
    return centred ? layer_float : rms_float;
  else if constexpr (std::is_same_v<T, Binary16>)
    return centred ? layer_half : rms_half;
  else
    return centred ? layer_bfloat : rms_bfloat;
}

template <class T>
std::vector<float> widened(const T* x, std::size_t n) {
  std::vector<float> y(x != nullptr ? n : 0);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = widen(x[i]);
  return y;
}

template <class T, bool centred>
void norm_rows(RowShape shape, const T* x, const T* weight, const T* bias, float epsilon, T* y,
               int threads, VectorLevel level) {
  if (shape.rows == 0 || shape.n == 0) return;
  std::vector<float> w, b;
  const float *factors = nullptr, *shifts = nullptr;
  if constexpr (sizeof(T) == 4) {
    factors = weight, shifts = bias;
  } else {
    const ControlWord guard;
    w = widened(weight, shape.n), b = widened(bias, shape.n);
    factors = weight != nullptr ? w.data() : nullptr, shifts = bias != nullptr ? b.data() : nullptr;
  }
  const std::size_t useful =
      std::max<std::size_t>(1, shape.rows * shape.n / elements_worth_a_thread);
  const std::size_t parts =
      std::min({useful, static_cast<std::size_t>(std::max(1, threads)), shape.rows});
  parallel_parts(parts, [&](std::size_t k) {
    const ControlWord guard;  // of this thread
    const std::size_t begin = shape.rows * k / parts, end = shape.rows * (k + 1) / parts;
    std::vector<float> buffer(sizeof(T) == 4 ? 0 : shape.n);
    rows_of<T, centred>()[level]({end - begin, shape.n}, x + begin * shape.n, factors, shifts,
                                 epsilon, y + begin * shape.n, buffer.data());
  });
}

}  // namespace

template <class T>
void layer_norm_rows(RowShape shape, const T* x, const T* weight, const T* bias, float epsilon,
                     T* y, int threads, VectorLevel level) {
  norm_rows<T, true>(shape, x, weight, bias, epsilon, y, threads, level);
}

template <class T>
void rms_norm_rows(RowShape shape, const T* x, const T* weight, float epsilon, T* y, int threads,
                   VectorLevel level) {
  norm_rows<T, false>(shape, x, weight, static_cast<const T*>(nullptr), epsilon, y, threads, level);
}

#define HALFULP_INSTANCES(T)                                                               \
  template void layer_norm_rows<T>(RowShape, const T*, const T*, const T*, float, T*, int, \
                                   VectorLevel);                                           \
  template void rms_norm_rows<T>(RowShape, const T*, const T*, float, T*, int, VectorLevel);
HALFULP_INSTANCES(float)
HALFULP_INSTANCES(Binary16)
HALFULP_INSTANCES(Bfloat16)
#undef HALFULP_INSTANCES

}  // namespace halfulp::kernels
