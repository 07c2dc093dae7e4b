// Matrix products of scaled operands, written once over any arithmetic.
//
//   out (M, N) = tensor_scale · Σ_k (a[m, k]·a_scale[m', k']) · (b[k, n]·b_scale[k'', n'])
//
// a (M, K) and b (K, N) hold the values of their codes, row-major. A scale of a serves `a_rows`
// rows and `a_block` elements along K, one of b `b_columns` columns and `b_block` elements (0:
// all); the last ones may be ragged:
//
//   a_scale (⌈M/a_rows⌉, ⌈K/a_block⌉)                b_scale (⌈K/b_block⌉, ⌈N/b_columns⌉)
//                       a_rows  a_block  b_columns  b_block
//   per tensor             0       0         0         0
//   per row and column     1       0         1         0
//   DeepSeek               1     128       128       128     (arXiv 2412.19437, section 3.3.2)
//   MX                     1      32         1        32     (OCP MX 1.0, section 6)
//   NVFP4                  1      16         1        16     (and a tensor scale)
//
// Along K the elements between two changes of a scale form a block; its sum `part` is a chain of
// fma from +0 (orders within a block differ among kernels and count towards the bound alike).
// ScaleJoin says how blocks meet their scales.
//
// Versions: this one; scaled_matmul_float32.hpp (binary32 in vectors, equal bit for bit to this
// over Native<float>); matrix_unit.hpp models the units that add scale exponents inside a fused
// sum.
//
// Bound, unit roundoff u, in the absence of over- and underflow: per output, S = Σ |exact terms|,
//   |out − exact| <= γ_h·S,  h = (longest block) + (number of blocks) + 2 [+ 1 with a tensor scale]
// for each join but `dequantised`, which has h = K + 2 (two operands' roundings, then the chain).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <stdexcept>

#include "kernels/matmul.hpp"

namespace halfulp::kernels {

enum class ScaleJoin : std::uint8_t {
  fused,        // s = a_scale·b_scale; acc = fma(part, s, acc), from +0: DeepGEMM
  separate,     // acc = acc + part·s, the product rounded
  one_by_one,   // acc = acc + (part·a_scale)·b_scale, every product rounded
  exponents,    // scales are powers of two: acc = acc + part·2^(e_a + e_b), the exponents added
  dequantised,  // a·a_scale and b·b_scale rounded, then one chain of fma over K
};
inline constexpr const char* scale_join_names[] = {"fused", "separate", "one-by-one", "exponents",
                                                   "dequantised"};

struct ScaledLayout {
  MatmulShape shape;
  std::size_t a_rows = 0, a_block = 0, b_columns = 0, b_block = 0;

  static constexpr std::size_t index(std::size_t i, std::size_t block) {
    return block == 0 ? 0 : i / block;
  }
  static constexpr std::size_t count(std::size_t n, std::size_t block) {
    return block == 0 ? 1 : (n + block - 1) / block;
  }
  constexpr std::size_t a_scales() const { return count(shape.k, a_block); }  // of a row
  constexpr std::size_t b_scales() const {
    return count(shape.n, b_columns);
  }  // of a row of b_scale
  constexpr std::size_t a_scale_at(std::size_t row, std::size_t k) const {
    return index(row, a_rows) * a_scales() + index(k, a_block);
  }
  constexpr std::size_t b_scale_at(std::size_t k, std::size_t column) const {
    return index(k, b_block) * b_scales() + index(column, b_columns);
  }
  // Where the block of K that begins at `from` ends.
  constexpr std::size_t block_end(std::size_t from) const {
    std::size_t to = shape.k;
    for (const std::size_t block : {a_block, b_block})
      if (block != 0) to = std::min(to, (from / block + 1) * block);
    return to;
  }
};

namespace detail {

// The exponent of a power of two; false where x is none (zeros, NaN and infinities among them).
template <class S>
bool power_of_two(const Unpacked<S>& x, int& exponent) {
  if (x.kind != Kind::finite || x.negative || (x.significand & (x.significand - 1)) != 0)
    return false;
  exponent = x.leading_exponent();
  return true;
}
inline bool power_of_two(double x, int& exponent) {
  if (!(x > 0) || std::frexp(x, &exponent) != 0.5) return false;
  --exponent;
  return true;
}

template <class S>
bool not_a_number(const Unpacked<S>& x) {
  return x.kind == Kind::nan;
}
inline bool not_a_number(double x) {
  return x != x;
}

}  // namespace detail

// tensor_scale may be null. Throws std::invalid_argument for join `exponents` where a scale is
// neither a power of two nor NaN (E8M0 has nothing else).
template <class A>
void scaled_matmul(const A& arith, const ScaledLayout& l, ScaleJoin join,
                   const typename A::value_type* a, const typename A::value_type* b,
                   const typename A::value_type* a_scale, const typename A::value_type* b_scale,
                   const typename A::value_type* tensor_scale, typename A::value_type* out) {
  using V = typename A::value_type;
  const MatmulShape s = l.shape;
  for (std::size_t row = 0; row < s.m; ++row) {
    for (std::size_t column = 0; column < s.n; ++column) {
      u64 site = (row * s.n + column) * (8 * s.k + 8);
      V acc = arith.zero();
      for (std::size_t from = 0; from < s.k;) {
        const std::size_t to = l.block_end(from);
        const V& sa = a_scale[l.a_scale_at(row, from)];
        const V& sb = b_scale[l.b_scale_at(from, column)];
        V part = join == ScaleJoin::dequantised ? acc : arith.zero();
        for (std::size_t k = from; k < to; ++k) {
          V x = a[row * s.k + k], y = b[k * s.n + column];
          if (join == ScaleJoin::dequantised) {
            x = arith.mul(x, sa, site++);
            y = arith.mul(y, sb, site++);
          }
          part = arith.fma(x, y, part, site++);
        }
        switch (join) {
          case ScaleJoin::fused: {
            const V both = arith.mul(sa, sb, site++);
            acc = arith.fma(part, both, acc, site++);
            break;
          }
          case ScaleJoin::separate: {
            const V both = arith.mul(sa, sb, site++);
            const V scaled = arith.mul(part, both, site++);
            acc = arith.add(acc, scaled, site++);
            break;
          }
          case ScaleJoin::one_by_one: {
            const V once = arith.mul(part, sa, site++);
            const V twice = arith.mul(once, sb, site++);
            acc = arith.add(acc, twice, site++);
            break;
          }
          case ScaleJoin::exponents: {
            int ea = 0, eb = 0;
            V scaled = part;
            if (detail::power_of_two(sa, ea) && detail::power_of_two(sb, eb)) {
              scaled = arith.scale(part, ea + eb, site++);
            } else {
              if (!detail::not_a_number(sa) && !detail::not_a_number(sb))
                throw std::invalid_argument(
                    "join exponents takes scales that are powers of two or NaN; take another join");
              const V both = arith.mul(sa, sb, site++);
              scaled = arith.mul(part, both, site++);
            }
            acc = arith.add(acc, scaled, site++);
            break;
          }
          case ScaleJoin::dequantised: acc = part; break;
        }
        from = to;
      }
      out[row * s.n + column] = tensor_scale != nullptr ? arith.mul(acc, *tensor_scale, site) : acc;
    }
  }
}

}  // namespace halfulp::kernels
