// How far a sum of products may be from the exact one, for every order of its additions: the bounds
// of the suites sum, dot, matmul and scaled-matmul. docs/products.md has the proofs.
//
// t terms x_i that are not zero (products, and c), S = Σ|x_i|, u and η unit roundoff and least
// subnormal of the accumulator, γ_h = h·u/(1 − h·u). Additions of zero are exact and cost nothing.
//
//   Accumulation::element  products and sums rounded to the element type, products by
//   multiplication
//                  or fused:          γ_t·S + t·η         (sums alone: γ_(t−1)·S)
//   single         binary32; products exact but for underflow:           γ_(t−1)·S + t·η
//   matrix_unit    as single, or fused blocks of at least 4 products whose terms are cut at 2^-24
//   of
//                  2^M, the largest term's exponent, and whose sums are cut to 23 fraction bits;
//                  blocks joined in any way. With n_b = ⌈K/4⌉, G = max(S, 2^M):
//                  (t − 1 + n_b)·2^-24·G + n_b·(2^-23 + 2^-24)·S + (t + n_b)·η, over 1 − the factor
//   fp8_unit       the same with blocks of at least 16, cut at 2^-13, sums cut to 13 fraction bits
//   fp8_promoted   fp8_unit for each 128 of K, the parts added in binary32:  Σ_j … + γ_(K/128)·S
//
// Each holds for IEEE arithmetic in binary32 too, whichever the order. matrix_unit covers NVIDIA's
// Ampere to Blackwell (F = 24 or 25), not Volta's (F = 23); FP16 accumulators fall under none.
//
// A rounding to the output's format follows where that is another. Where every term is a multiple
// of some 2^q and S < 2^(q + p), p the bits that the accumulation keeps of anything, every order is
// exact: the output is then the exact sum, rounded once, and its bits are asked for (signs of zeros
// excepted). Where an order may overflow on the way, nothing is asked, unless all terms have one
// sign.
#pragma once

#include <vector>

#include "kernels/conformance/exact_accumulator.hpp"
#include "kernels/conformance/suite.hpp"

namespace halfulp::conformance {

enum class Accumulation : std::uint8_t { element, single, matrix_unit, fp8_unit, fp8_promoted };

// One sum as its terms are added.
struct BoundedSum {
  ExactAccumulator sum;
  double top = 0;  // 2^M of the products: exponents of operands are at least their formats' emin
  std::size_t length = 0;  // of all terms
  bool products = false;

  void term(double x) {
    sum.add(x);
    ++length;
    top = std::max(top, std::fabs(x));
  }
  // emin of the operands' formats. The factors are those of a (x) and b (y), exact in binary64.
  void product(double a, double b, int a_emin, int b_emin, double x = 1, double y = 1) {
    sum.add_product(a * x, b * y);
    products = true;
    ++length;
    const double scale = std::fabs(x) * std::fabs(y);
    if (a != 0 && b != 0 && std::isfinite(a) && std::isfinite(b) && std::isfinite(scale))
      top = std::max(top, binade(a, a_emin) * binade(b, b_emin) * scale);
  }

 private:
  static double binade(double x, int emin) {
    return std::ldexp(1.0, std::max(std::ilogb(x), emin));
  }
};

// `part` are the sums of every 128 products, for fp8_promoted. `further` roundings of relative
// error u follow the sum of each term (scales). Writes element i.
struct SumContext {
  Accumulation accumulation = Accumulation::element;
  Format accumulator;  // of element: the element's own
  Format output;
  bool exact_products = false;  // products of operands need no rounding
  int further = 0;
  double operand_error = 0;  // relative, of each product: operands may be read in two ways
};
void bound_sum(const SumContext& context, const BoundedSum& whole,
               const std::vector<BoundedSum>& parts, std::size_t i, Expected& e);

}  // namespace halfulp::conformance
