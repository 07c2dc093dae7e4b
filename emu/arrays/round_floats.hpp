// Contiguous arrays of hardware floats -> any Format with a plan (float_plan.hpp), in every mode
// but stochastic variants B and C: the fast path of arrays.
#pragma once

#include <cstddef>
#include <cstdint>
#include <variant>

#include "emu/arrays/arrays.hpp"
#include "emu/arrays/vector_level.hpp"
#include "emu/core/float_plan.hpp"

namespace halfulp {

// Everything the loops need, derived once. Elements of type `in` become values of the same type (of
// binary16 and bfloat16, also of binary32), or codes.
class FloatRounder {
 public:
  // Whether the loops do it. NanTo::error counts as NanTo::largest here: see has_nan.
  static bool exists(Element in, Element out, Format format, const Rounding& rounding,
                     int random_count = 32);
  FloatRounder(Element in, Element out, Format format, const Rounding& rounding,
               const RandomStream& random = {}, const LoopOptions& how = {});

  // y[i] = x[i] rounded; y may be x, if out is not wider than in. Element i uses random.at(first +
  // i). Sets and restores the floating-point control word, so that it may be called under any.
  void operator()(const void* x, void* y, std::size_t n, u64 first = 0) const;

 private:
  template <class F>
  void run(const FloatPlan<F>& plan, const void* x, void* y, std::size_t n, u64 first) const;

  Element in_, out_;
  FloatPlanShape shape_;
  RandomStream random_;
  LoopOptions how_;
  std::variant<FloatPlan<float>, FloatPlan<double>> plan_;
};

// Whether there is a NaN among n elements.
bool has_nan(Element type, const void* x, std::size_t n, VectorLevel level = vector_level());

}  // namespace halfulp
