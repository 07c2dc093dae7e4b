// What the vectorised products share: rounding by a plan, views of operands, panels of 32 columns,
// and the division of a product among threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "emu/arrays/control_word.hpp"
#include "emu/arrays/parallel.hpp"
#include "emu/core/float_plan.hpp"
#include "kernels/matmul.hpp"

namespace halfulp::kernels {

// x rounded by the plan, whatever it is. plain: as in FloatPlanShape.
template <class F, bool plain>
[[gnu::always_inline]] inline F by_plan(F x, const FloatPlan<F>& p) {
  using Bits = typename FloatTraits<F>::Bits;
  constexpr Bits infinity = static_cast<Bits>(FloatTraits<F>::format.infinity_code());
  constexpr int top = static_cast<int>(sizeof(F)) * 8 - 1;
  const Bits v = halfulp::detail::bits_of(x);
  const Bits magnitude =
      round_magnitude<F, Body::deterministic, false, plain, std::uint32_t>(v, p, 0);
  const Bits finite = finish<F, false, plain>(v, magnitude, p);
  const Bits u = v & low_mask<Bits>(top);
  const Bits infinite = halfulp::detail::select((v >> top) != 0, p.infinity[1], p.infinity[0]);
  const Bits special = halfulp::detail::select(u > infinity, p.nan, infinite);
  return halfulp::detail::float_of<F>(halfulp::detail::select(u >= infinity, special, finite));
}

inline constexpr std::size_t panel_columns = 32;

// x(i, j) = data[i · row + j · column].
template <class T>
struct Strided {
  T* data = nullptr;
  std::size_t row = 0, column = 0;

  T* at(std::size_t i, std::size_t j) const { return data + i * row + j * column; }
  Strided transposed() const { return {data, column, row}; }
};

// out (m, n) = a (m, k) · b (k, n) [+ c]; c.data may be null.
struct Operands {
  MatmulShape shape;
  Strided<const float> a, b, c;
  Strided<float> out;
};

// Of row-major matrices, so that n >= m: where there are more rows than columns, outᵀ = bᵀ·aᵀ. A
// product of two numbers does not depend on their order, so that no bit does, where no random bits
// are numbered.
inline Operands operands_of(MatmulShape s, const float* a, const float* b, const float* c,
                            float* out) {
  const Operands o{s, {a, s.k, 1}, {b, s.n, 1}, {c, s.n, 1}, {out, s.n, 1}};
  if (s.n >= s.m || s.n >= panel_columns) return o;
  return {{s.n, s.m, s.k},
          o.b.transposed(),
          o.a.transposed(),
          o.c.transposed(),
          o.out.transposed()};
}

// Columns first … first + 31 of b, row by row; zeros beyond the last column.
template <class F>
void pack_panel(const Operands& o, std::size_t first, F* panel) {
  const std::size_t columns = std::min(panel_columns, o.shape.n - first);
  for (std::size_t k = 0; k < o.shape.k; ++k) {
    F* to = panel + k * panel_columns;
    const float* from = o.b.at(k, first);
    for (std::size_t j = 0; j < columns; ++j) to[j] = static_cast<F>(from[j * o.b.column]);
    for (std::size_t j = columns; j < panel_columns; ++j) to[j] = F{0};
  }
}

// work(first row, last row, first panel, last panel) over parts that make up the product, each
// worth a thread.
template <class Work>
void share(MatmulShape s, int threads, Work work) {
  constexpr std::size_t worth = std::size_t{1} << 19;  // multiply-adds
  const std::size_t panels = (s.n + panel_columns - 1) / panel_columns;
  const bool by_rows = s.m >= panels;
  const std::size_t pieces = by_rows ? s.m : panels;
  const std::size_t useful = s.m * panels * panel_columns * s.k / worth;
  const std::size_t parts = std::max<std::size_t>(
      1, std::min({useful, pieces, static_cast<std::size_t>(std::max(1, threads))}));
  parallel_parts(parts, [&](std::size_t p) {
    const ControlWord guard;
    const std::size_t begin = p * pieces / parts, end = (p + 1) * pieces / parts;
    if (by_rows)
      work(begin, end, std::size_t{0}, panels);
    else
      work(std::size_t{0}, s.m, begin, end);
  });
}

}  // namespace halfulp::kernels
