// What exponents and significands the finite values of an array span: by this, and not by a format,
// the fast products know which of their steps are exact.
#pragma once

#include <cstddef>

#include "emu/arrays/vector_level.hpp"

namespace halfulp::kernels {

// Every finite x that is not zero has |x| < 2^high, is a multiple of 2^low, and has at most `bits`
// bits from its first to its last that is set. low and high are as close as can be; bits is up to
// 24 where an x is a subnormal number of binary32.
struct OperandRange {
  bool any = false;      // there is a finite value that is not zero; else low, high and bits are 0
  bool special = false;  // there is an infinity or a NaN
  bool negative_zero = false;  // there is a −0
  int low = 0, high = 0, bits = 0;
  float largest = 0;  // the largest finite magnitude
};

OperandRange range_of(const float* x, std::size_t n, VectorLevel level = vector_level());

}  // namespace halfulp::kernels
