// Matrix product, written once over any arithmetic.
//
//   out (M, N) = a (M, K) · b (K, N) [+ c (M, N)], row-major, no aliasing of out with an operand.
//
// Two arithmetic objects (emu/core/emulated.hpp) say what is rounded: `product` rounds each a·b,
// `sum` each addition; the operands are taken at their exact values. They share a value_type.
//
// Versions: this one (any arithmetic, the reference); matmul_emulated.hpp (arrays of hardware
// floats in, run-time formats), which goes by matmul_rounded.hpp and matmul_exact.hpp (vectors,
// equal bit for bit) where they have a way; matmul_float32.hpp (binary32, fma-sequential,
// vectorised: equal bit for bit to this one over Native<float>). Bound, unit roundoff u, depth h of
// the summation: |out − exact| <= ((1+u)^(h+1) − 1) · sum |a||b| plus underflow; h = K for
// sequential and fma-sequential, ceil(log2 K) + 1 for pairwise, n + ceil(K/n) for blocked(n)
// (Higham 2002, section 3.1). For compensated, to nearest, |out − exact| <= u·|exact| + γ²·sum
// |a||b|, γ = K·u / (1 − K·u) (Ogita, Rump & Oishi 2005, proposition 5.5); for exact, u·|exact|.
#pragma once

#include <algorithm>
#include <cstddef>
#include <stdexcept>

#include "emu/core/wide.hpp"
#include "kernels/exact_sum.hpp"

namespace halfulp::kernels {

enum class OrderKind : std::uint8_t {
  sequential,  // k = 0, 1, …: add(acc, mul(a, b)), from c or +0
  pairwise,    // a tree over k, its root added to c or +0
  blocked,     // sequential from +0 within blocks of n, the block sums added in sequence to c or +0
  fma_sequential,  // k = 0, 1, …: fma(a, b, acc), from c or +0; `product` is not used
  kahan,  // k = 0, 1, …: y = t − e, s' = s + y, e = (s' − s) − y, from s = c or +0, e = +0
  compensated,  // sequential, and beside it the sum of the errors of all products (by fma) and
                // sums (by Knuth's six operations), added at the end: Dot2
  exact,        // exact products, exact sum, one rounding; `product` is not used
};

// Names, in the order of the enumeration.
inline constexpr const char* order_names[] = {
    "sequential", "pairwise", "blocked", "fma-sequential", "kahan", "compensated", "exact"};

constexpr bool rounds_products(OrderKind kind) {
  return kind != OrderKind::fma_sequential && kind != OrderKind::exact;
}

struct Order {
  OrderKind kind = OrderKind::fma_sequential;
  std::size_t block = 0;  // n, for blocked
};

struct MatmulShape {
  std::size_t m = 0, n = 0, k = 0;
};

// The number of the rounding at (row, column, k): 2·((row·N + column)·K + k) + {0 product, 1 sum}.
// The sums that join blocks come after all of these, and so do the further roundings of compensated
// sums, up to 16 for each k. The one rounding of an exact sum is that of the last k.
struct MatmulSites {
  MatmulShape shape;
  constexpr u64 product(std::size_t row, std::size_t column, std::size_t k) const {
    return 2 * ((static_cast<u64>(row) * shape.n + column) * shape.k + k);
  }
  constexpr u64 sum(std::size_t row, std::size_t column, std::size_t k) const {
    return product(row, column, k) + 1;
  }
  constexpr u64 join(std::size_t row, std::size_t column, std::size_t block,
                     std::size_t blocks) const {
    return 2 * static_cast<u64>(shape.m) * shape.n * shape.k +
           (static_cast<u64>(row) * shape.n + column) * blocks + block;
  }
  constexpr u64 further(std::size_t row, std::size_t column, std::size_t k, unsigned which) const {
    const u64 before = 2 * static_cast<u64>(shape.m) * shape.n * shape.k;
    return before + 8 * product(row, column, k) + which;
  }
};

namespace detail {

// One element of the product: row of a and column of b are reached through `term` and `fma`, which
// know their place.
template <class P, class A>
struct DotProduct {
  using V = typename A::value_type;
  const P& product;
  const A& sum;
  MatmulSites sites;
  const V* a;  // row `row`, unit stride
  const V* b;  // column `column`, stride N
  std::size_t row, column;

  V term(std::size_t k) const {
    return product.mul(a[k], b[k * sites.shape.n], sites.product(row, column, k));
  }

  V sequential(V start, std::size_t from, std::size_t to) const {
    for (std::size_t k = from; k < to; ++k)
      start = sum.add(start, term(k), sites.sum(row, column, k));
    return start;
  }

  V fma_sequential(V start) const {
    for (std::size_t k = 0; k < sites.shape.k; ++k) {
      start = sum.fma(a[k], b[k * sites.shape.n], start, sites.sum(row, column, k));
    }
    return start;
  }

  // The left part of a range is the largest power of two below its length: neighbours are added
  // first, then neighbouring sums, and so on, an odd one out waiting. The sum that joins at
  // `middle` is numbered by it.
  V tree(std::size_t from, std::size_t to) const {
    if (to - from == 1) return term(from);
    std::size_t half = 1;
    while (2 * half < to - from) half *= 2;
    const std::size_t middle = from + half;
    const V left = tree(from, middle);
    return sum.add(left, tree(middle, to), sites.sum(row, column, middle));
  }

  V pairwise(V start) const {
    return sum.add(start, tree(0, sites.shape.k), sites.sum(row, column, 0));
  }

  V blocked(V start, std::size_t block) const {
    const std::size_t k = sites.shape.k;
    const std::size_t blocks = (k + block - 1) / block;
    for (std::size_t j = 0; j < blocks; ++j) {
      const std::size_t to = (j + 1) * block < k ? (j + 1) * block : k;
      const V part = sequential(sum.zero(), j * block, to);
      start = sum.add(start, part, sites.join(row, column, j, blocks));
    }
    return start;
  }

  V kahan(V start) const {
    V error = sum.zero();
    for (std::size_t k = 0; k < sites.shape.k; ++k) {
      const V y = sum.sub(term(k), error, sites.further(row, column, k, 0));
      const V next = sum.add(start, y, sites.sum(row, column, k));
      const V gained = sum.sub(next, start, sites.further(row, column, k, 1));
      error = sum.sub(gained, y, sites.further(row, column, k, 2));
      start = next;
    }
    return start;
  }

  // x + y = s + e exactly, to nearest and without overflow (Knuth; five further roundings).
  V error_of_sum(const V& x, const V& y, const V& s, std::size_t k) const {
    const V z = sum.sub(s, x, sites.further(row, column, k, 0));
    const V left = sum.sub(s, z, sites.further(row, column, k, 1));
    const V from_x = sum.sub(x, left, sites.further(row, column, k, 2));
    const V from_y = sum.sub(y, z, sites.further(row, column, k, 3));
    return sum.add(from_x, from_y, sites.further(row, column, k, 4));
  }

  V compensated(V start) const {
    V errors = sum.zero();
    for (std::size_t k = 0; k < sites.shape.k; ++k) {
      const V& x = a[k];
      const V& y = b[k * sites.shape.n];
      const V p = term(k);
      const V negated = product.sub(product.zero(), p, sites.further(row, column, k, 5));
      const V of_product = product.fma(x, y, negated, sites.further(row, column, k, 6));
      const V next = sum.add(start, p, sites.sum(row, column, k));
      const V of_sum = error_of_sum(start, p, next, k);
      const V both = sum.add(of_sum, of_product, sites.further(row, column, k, 7));
      errors = sum.add(errors, both, sites.further(row, column, k, 8));
      start = next;
    }
    return sum.add(start, errors, sites.further(row, column, sites.shape.k - 1, 9));
  }

  // Of arithmetic that can round any exact number.
  V exact(const V& start, bool has_start) const {
    if constexpr (requires { sum.round(start, u64{0}); }) {
      const std::size_t k = sites.shape.k;
      const auto range = exponents(start);
      ExactSum<decltype(start.significand)> total(range.lowest, range.highest);
      for (std::size_t i = 0; i < k; ++i) total.add_product(a[i], b[i * sites.shape.n]);
      if (has_start) total.add(start);
      return sum.round(total.result(sum.rounding.mode), sites.sum(row, column, k - 1));
    } else {
      throw std::invalid_argument("exact sums need emulated arithmetic");
    }
  }

 private:
  struct Range {
    int lowest = 0, highest = 0;
  };

  // The exponents of all bits of all terms.
  Range exponents(const V& start) const {
    Range range{start.exponent, start.leading_exponent()};
    bool any = start.kind == Kind::finite;
    for (std::size_t k = 0; k < sites.shape.k; ++k) {
      const auto term = exact_mul(a[k], b[k * sites.shape.n]);
      if (term.kind != Kind::finite) continue;
      const int high = term.leading_exponent();
      range = any ? Range{std::min(range.lowest, term.exponent), std::max(range.highest, high)}
                  : Range{term.exponent, high};
      any = true;
    }
    return any ? range : Range{};
  }
};

}  // namespace detail

// c may be null. Throws std::invalid_argument for a block of 0, and for an exact sum in native
// arithmetic.
template <class P, class A>
void matmul(const P& product, const A& sum, Order order, MatmulShape shape,
            const typename A::value_type* a, const typename A::value_type* b,
            const typename A::value_type* c, typename A::value_type* out) {
  if (order.kind == OrderKind::blocked && order.block == 0) {
    throw std::invalid_argument("blocked summation needs a block length of at least 1, not 0");
  }
  for (std::size_t row = 0; row < shape.m; ++row) {
    for (std::size_t column = 0; column < shape.n; ++column) {
      const detail::DotProduct<P, A> dot{product,    sum, {shape}, a + row * shape.k,
                                         b + column, row, column};
      const std::size_t at = row * shape.n + column;
      const auto start = c != nullptr ? c[at] : sum.zero();
      if (shape.k == 0) {  // nothing to add: c, or +0 as the sum's format has it
        out[at] = c != nullptr ? start : sum.add(start, sum.zero(), dot.sites.sum(row, column, 0));
        continue;
      }
      switch (order.kind) {
        case OrderKind::sequential: out[at] = dot.sequential(start, 0, shape.k); break;
        case OrderKind::pairwise: out[at] = dot.pairwise(start); break;
        case OrderKind::blocked: out[at] = dot.blocked(start, order.block); break;
        case OrderKind::fma_sequential: out[at] = dot.fma_sequential(start); break;
        case OrderKind::kahan: out[at] = dot.kahan(start); break;
        case OrderKind::compensated: out[at] = dot.compensated(start); break;
        case OrderKind::exact: out[at] = dot.exact(start, c != nullptr); break;
      }
    }
  }
}

}  // namespace halfulp::kernels
