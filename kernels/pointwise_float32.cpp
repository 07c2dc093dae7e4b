#include "kernels/pointwise_float32.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "emu/arrays/control_word.hpp"
#include "emu/arrays/parallel.hpp"
#include "kernels/elementary_float32.hpp"

namespace halfulp::kernels {
namespace {

constexpr std::size_t piece = 1024;  // of binary32, three times: 12 KiB, in the first cache

template <class T>
[[gnu::always_inline]] inline void widen_piece(const T* x, float* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] = widen(x[i]);
}
template <class T>
[[gnu::always_inline]] inline void products(const float* x, const float* share, T* y,
                                            std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] = narrow<T>(x[i] * share[i]);
}
template <class T>
[[gnu::always_inline]] inline void quotients(const float* x, const float* e, T* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) y[i] = narrow<T>(x[i] / (1.0F + e[i]));
}

template <class T>
[[gnu::always_inline]] inline void turn_halves(const T* h, const T* c, const T* s, T* y,
                                               std::size_t half) {
  for (std::size_t i = 0; i < half; ++i) {
    const float p = widen(h[i]), q = widen(h[i + half]), cosine = widen(c[i]), sine = widen(s[i]);
    y[i] = narrow<T>(p * cosine - q * sine);
    y[i + half] = narrow<T>(q * cosine + p * sine);
  }
}
template <class T>
[[gnu::always_inline]] inline void turn_interleaved(const T* h, const T* c, const T* s, T* y,
                                                    std::size_t half) {
  for (std::size_t i = 0; i < half; ++i) {
    const float p = widen(h[2 * i]), q = widen(h[2 * i + 1]);
    const float cosine = widen(c[i]), sine = widen(s[i]);
    y[2 * i] = narrow<T>(p * cosine - q * sine);
    y[2 * i + 1] = narrow<T>(q * cosine + p * sine);
  }
}
template <class T>
[[gnu::always_inline]] inline void turn_rows(const RotaryShape& shape, Pairing pairing, const T* x,
                                             const T* c, const T* s, T* y, std::size_t begin,
                                             std::size_t end) {
  for (std::size_t row = begin; row < end; ++row) {
    const std::size_t at = row * shape.width, angle = shape.angles(row);
    if (pairing == Pairing::halves)
      turn_halves(x + at, c + angle, s + angle, y + at, shape.width / 2);
    else
      turn_interleaved(x + at, c + angle, s + angle, y + at, shape.width / 2);
  }
}

template <class T, bool lerp>
[[gnu::always_inline]] inline void steps(const AdamWFloats& s, T* w, const T* g, float* m, float* v,
                                         std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    const float gradient = widen(g[i]), kept = widen(w[i]) * s.keep;
    const float first =
        lerp ? m[i] + (gradient - m[i]) * s.new1 : s.beta1 * m[i] + s.new1 * gradient;
    const float second = s.beta2 * v[i] + s.new2 * gradient * gradient;
    const float root = std::sqrt(second) / s.root + s.epsilon;
    w[i] = narrow<T>(kept - s.size * first / root);
    m[i] = narrow<float>(first);
    v[i] = narrow<float>(second);
  }
}
template <class T>
[[gnu::always_inline]] inline void all_steps(const AdamWFloats& s, T* w, const T* g, float* m,
                                             float* v, std::size_t n) {
  if (s.lerp)
    steps<T, true>(s, w, g, m, v, n);
  else
    steps<T, false>(s, w, g, m, v, n);
}

#define HALFULP_POINTWISE(T, name)                                                                \
  HALFULP_LEVELS(void, widen_##name, (const T* x, float* y, std::size_t n), widen_piece(x, y, n)) \
  HALFULP_LEVELS(void, products_##name, (const float* x, const float* z, T* y, std::size_t n),    \
                 products(x, z, y, n))                                                            \
  HALFULP_LEVELS(void, quotients_##name, (const float* x, const float* z, T* y, std::size_t n),   \
                 quotients(x, z, y, n))                                                           \
  HALFULP_LEVELS(void, turn_##name,                                                               \
                 (const RotaryShape& shape, Pairing pairing, const T* x, const T* c, const T* s,  \
                  T* y, std::size_t begin, std::size_t end),                                      \
                 turn_rows(shape, pairing, x, c, s, y, begin, end))
HALFULP_POINTWISE(float, float)
HALFULP_POINTWISE(Binary16, half)
HALFULP_POINTWISE(Bfloat16, bfloat)
#undef HALFULP_POINTWISE
HALFULP_LEVELS(void, steps_float,
               (const AdamWFloats& s, float* w, const float* g, float* m, float* v, std::size_t n),
               all_steps(s, w, g, m, v, n))
HALFULP_LEVELS(void, steps_bfloat,
               (const AdamWFloats& s, Bfloat16* w, const Bfloat16* g, float* m, float* v,
                std::size_t n),
               all_steps(s, w, g, m, v, n))

template <class T>
struct Loops;
template <>
struct Loops<float> {
  static constexpr auto widen = widen_float;
  static constexpr auto products = products_float;
  static constexpr auto quotients = quotients_float;
  static constexpr auto turn = turn_float;
};
template <>
struct Loops<Binary16> {
  static constexpr auto widen = widen_half;
  static constexpr auto products = products_half;
  static constexpr auto quotients = quotients_half;
  static constexpr auto turn = turn_half;
};
template <>
struct Loops<Bfloat16> {
  static constexpr auto widen = widen_bfloat;
  static constexpr auto products = products_bfloat;
  static constexpr auto quotients = quotients_bfloat;
  static constexpr auto turn = turn_bfloat;
};

// body(values, y, count) for pieces of x as floats.
template <class T, class Body>
void by_pieces(const T* x, T* y, std::size_t n, int threads, VectorLevel level, Body body) {
  parallel_ranges(n, threads, [&](std::size_t begin, std::size_t end) {
    const ControlWord guard;  // of this thread
    float values[piece];
    for (std::size_t i = begin; i < end; i += piece) {
      const std::size_t count = std::min(piece, end - i);
      Loops<T>::widen[level](x + i, values, count);
      body(values, y + i, count);
    }
  });
}

}  // namespace

template <class T>
void gelu_array(const T* x, T* y, std::size_t n, int threads, VectorLevel level) {
  by_pieces(x, y, n, threads, level, [=](const float* values, T* to, std::size_t count) {
    float share[piece], density[piece];
    normal_float32(values, share, density, count, level);
    Loops<T>::products[level](values, share, to, count);
  });
}

template <class T>
void silu_array(const T* x, T* y, std::size_t n, int threads, VectorLevel level) {
  by_pieces(x, y, n, threads, level, [=](const float* values, T* to, std::size_t count) {
    float e[piece];
    for (std::size_t i = 0; i < count; ++i) e[i] = -values[i];
    exp_float32(e, e, count, level);
    Loops<T>::quotients[level](values, e, to, count);
  });
}

template <class T>
void rotary_array(const RotaryShape& shape, Pairing pairing, const T* x, const T* cosine,
                  const T* sine, T* y, int threads, VectorLevel level) {
  if (shape.width % 2 != 0) {
    throw std::invalid_argument("rotary positions turn pairs, but the width is " +
                                std::to_string(shape.width) + "; it must be even");
  }
  const std::size_t rows = shape.rows(), useful = rows * shape.width / elements_worth_a_thread;
  const std::size_t parts =
      std::clamp<std::size_t>(useful, 1, static_cast<std::size_t>(std::max(1, threads)));
  const std::size_t share = (rows + parts - 1) / parts;
  parallel_parts(parts, [&](std::size_t k) {
    const ControlWord guard;  // of this thread
    const std::size_t begin = std::min(rows, k * share);
    Loops<T>::turn[level](shape, pairing, x, cosine, sine, y, begin, std::min(rows, begin + share));
  });
}

template <class T>
void adamw_array(const AdamWOptions& o, T* parameter, const T* gradient, float* first,
                 float* second, std::size_t n, int threads, VectorLevel level) {
  parallel_ranges(n, threads, [&](std::size_t begin, std::size_t end) {
    const ControlWord guard;  // of this thread
    const AdamWFloats step(o);
    T* w = parameter + begin;
    const T* g = gradient + begin;
    if constexpr (std::is_same_v<T, float>)
      steps_float[level](step, w, g, first + begin, second + begin, end - begin);
    else
      steps_bfloat[level](step, w, g, first + begin, second + begin, end - begin);
  });
}

#define HALFULP_INSTANCES(T)                                                                   \
  template void gelu_array<T>(const T*, T*, std::size_t, int, VectorLevel);                    \
  template void silu_array<T>(const T*, T*, std::size_t, int, VectorLevel);                    \
  template void rotary_array<T>(const RotaryShape&, Pairing, const T*, const T*, const T*, T*, \
                                int, VectorLevel);
HALFULP_INSTANCES(float)
HALFULP_INSTANCES(Binary16)
HALFULP_INSTANCES(Bfloat16)
#undef HALFULP_INSTANCES
template void adamw_array<float>(const AdamWOptions&, float*, const float*, float*, float*,
                                 std::size_t, int, VectorLevel);
template void adamw_array<Bfloat16>(const AdamWOptions&, Bfloat16*, const Bfloat16*, float*, float*,
                                    std::size_t, int, VectorLevel);

}  // namespace halfulp::kernels
