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

// x rounded by a deterministic plan, whatever it is, as round_magnitude and finish of
// float_plan.hpp have it. plain: as in FloatPlanShape. Where it can be, with conditional operators:
// g++ makes blends by AVX-512's masks of them, half as many instructions as of float_plan.hpp's own
// masks.
template <class F, bool plain>
[[gnu::always_inline]] inline F by_plan(F x, const FloatPlan<F>& p) {
  using halfulp::detail::select;
  using Bits = typename FloatTraits<F>::Bits;
  constexpr Bits infinity = static_cast<Bits>(FloatTraits<F>::format.infinity_code());
  constexpr Bits binade = Bits{1} << FloatTraits<F>::format.fraction_bits();
  constexpr int top = static_cast<int>(sizeof(F)) * 8 - 1;
  const Bits v = std::bit_cast<Bits>(x);
  const Bits u = v & low_mask<Bits>(top);
  const Bits sign = v & (Bits{1} << top);
  const F magnitude = std::bit_cast<F>(u);
  const F least_normal = std::bit_cast<F>(p.below);
  const bool small = u < p.below;

  // As round_magnitude has it: the sum cut towards zero, its last bit set if something was cut off.
  const F sum = magnitude + least_normal;
  const F back = sum - least_normal;
  Bits w = std::bit_cast<Bits>(sum) - binade;
  w = back > magnitude ? w - 1 : w;
  w = back != magnitude ? w | 1 : w;
  w = small ? w : u;
  const Bits odd = plain ? w : w ^ p.parity;
  w += ((odd & p.odd_bit) | (v & p.sign_bit)) != 0 ? p.add[1] : p.add[0];
  w &= ~p.tail;
  const F subnormal = std::bit_cast<F>(w + binade) - least_normal;
  Bits result = small ? std::bit_cast<Bits>(subnormal) : w;
  if constexpr (!plain) {
    const Bits least = select(sign != 0, p.gap_least[1], p.gap_least[0]);
    const Bits across = select<Bits>(u >= least, p.gap_result, 0);
    result = select((small & p.gap) != 0, across, result);
  }

  const bool over = result > p.largest;
  const Bits overflow = sign != 0 ? p.overflow[1] : p.overflow[0];
  const Bits infinite = sign != 0 ? p.infinity[1] : p.infinity[0];
  if constexpr (plain) {
    result |= sign;
  } else {
    const Bits minus = select(result != 0, p.sign, p.negative_zero);
    result |= select<Bits>(sign != 0, minus, 0);
  }
  result = over ? overflow : result;
  result = u >= infinity ? infinite : result;
  result = u > infinity ? p.nan : result;
  return std::bit_cast<F>(result);
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
  return {
      {s.n, s.m, s.k}, o.b.transposed(), o.a.transposed(), o.c.transposed(), o.out.transposed()};
}

// Columns first … first + 31 of b, row by row; zeros beyond the last column.
template <class F>
void pack_panel(const Operands& o, std::size_t first, F* panel) {
  const std::size_t columns = std::min(panel_columns, o.shape.n - first);
  if (columns < panel_columns) std::fill_n(panel, o.shape.k * panel_columns, F{0});
  if (o.b.column == 1) {
    for (std::size_t k = 0; k < o.shape.k; ++k) {
      const float* from = o.b.at(k, first);
      F* to = panel + k * panel_columns;
      for (std::size_t j = 0; j < columns; ++j) to[j] = static_cast<F>(from[j]);
    }
    return;
  }
  constexpr std::size_t block = 64;  // of columns and of panel: stay in the first cache
  for (std::size_t k0 = 0; k0 < o.shape.k; k0 += block) {
    const std::size_t end = std::min(o.shape.k, k0 + block);
    for (std::size_t j = 0; j < columns; ++j) {
      const float* from = o.b.at(0, first + j);
      for (std::size_t k = k0; k < end; ++k)
        panel[k * panel_columns + j] = static_cast<F>(from[k * o.b.row]);
    }
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
