// What the suites of sums and products share: how operands are drawn, the kernels that sum in a
// given order, and their models.
#pragma once

#include "kernels/conformance/draws.hpp"
#include "kernels/conformance/sum_bounds.hpp"
#include "kernels/matmul.hpp"

namespace halfulp::conformance {

// "operands:output:accumulation" taken apart; "float32" is float32:float32:element.
struct ProductVariant {
  Element operand, output;
  Accumulation accumulation = Accumulation::element;
  bool tf32 = false;  // float32 operands of which the upper 19 bits count
  SumContext context() const;
  Format operand_format() const;
};
// Throws std::invalid_argument for a name that no suite of products has.
ProductVariant product_variant(std::string_view name);

// The families that have a structure of their own along the sum; others are drawn one by one.
bool is_structured(std::string_view family);
// x and y of n values: x·y has the structure that the family names. Of `index`, the condition.
struct Vectors {
  std::vector<double> x, y;
};
Vectors draw_vectors(Draws& draws, std::string_view family, std::uint32_t index,
                     const ProductVariant& v, std::size_t n);
// One value of a family that is drawn one by one; `first`: of the first operand. n: terms of a sum.
double draw_value(Draws& draws, std::string_view family, const ProductVariant& v, bool first,
                  std::size_t n);
// Puts special values into t, of a case of family special-values: by index NaN, either infinity,
// both, 0 among infinities' partners, then boundaries.
void put_specials(Draws& draws, std::uint32_t index, Tensor& t, std::size_t begin, std::size_t n);
// x as the element type has it.
double rounded_to(Element e, double x);
// Rounded to the operand's values (tf32: its low 13 bits dropped).
double operand_value(const ProductVariant& v, double x);

// A matrix product (a sum: with ones) of values in the order of that name; c may be null.
// "sequential", "fma-sequential", "pairwise", "blocked:N", "kahan", "compensated", "exact": in
// binary32, in binary64 with in_double; false for other names. Throws std::invalid_argument for
// a block of 0.
bool run_order(std::string_view order, kernels::MatmulShape shape, const double* a, const double* b,
               const double* c, double* out, bool in_double);

// Kernels in those orders, of sums (x), dot products (a, b to y) and matrix products (to d):
// binary64 for float64, else binary32, rounded to the output at the end.
const std::vector<Builtin>& order_builtins();

// A call's tensor, copied.
Tensor tensor_of(const halfulp_dltensor& t, const char* name);
void store(const Tensor& from, const halfulp_dltensor& to);

}  // namespace halfulp::conformance
