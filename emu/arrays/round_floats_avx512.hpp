// The loops of round_floats.hpp for processors with AVX-512 (F, BW, DQ, VL).
#pragma once

#include <cstddef>

#include "emu/arrays/arrays.hpp"
#include "emu/core/float_plan.hpp"

namespace halfulp {

// What one call does, beside the plan.
struct VectorCall {
  Element in, out;
  FloatPlanShape shape;
  RandomStream random;
  const void* x;
  void* y;
  std::size_t n;
  u64 first;    // the first element's index
  bool stream;  // past the caches; y is aligned to 64 bytes then
};

// Whether there are loops for it: all but more than 32 random bits into binary32.
constexpr bool avx512_does(Element in, const FloatPlanShape& shape) {
  return in == Element::binary64 || !shape.wide_random;
}

// To be called under ControlWord.
void round_avx512(const FloatPlan<float>& plan, const VectorCall& call);
void round_avx512(const FloatPlan<double>& plan, const VectorCall& call);

}  // namespace halfulp
