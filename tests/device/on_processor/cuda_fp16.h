// See cuda_runtime.h.
#pragma once

#include "cuda_runtime.h"
#include "kernels/halves.hpp"

struct __half {
  std::uint16_t code;
};
struct __half2 {
  __half x, y;
};
inline float __half2float(__half x) {
  return halfulp::kernels::widen(halfulp::kernels::Binary16{x.code});
}
inline __half2 __floats2half2_rn(float x, float y) {
  using halfulp::kernels::Binary16;
  using halfulp::kernels::narrow;
  return {{narrow<Binary16>(x).code}, {narrow<Binary16>(y).code}};
}
inline unsigned __hneu2_mask(__half2 x, __half2 y) {
  const auto mask = [](std::uint16_t a, std::uint16_t b) {
    const bool nan = (a & 0x7fffU) > 0x7c00U || (b & 0x7fffU) > 0x7c00U;
    return nan || (a != b && ((a | b) & 0x7fffU) != 0) ? 0xffffU : 0U;
  };
  return mask(x.x.code, y.x.code) | mask(x.y.code, y.y.code) << 16;
}
inline __half __ushort_as_half(unsigned short code) {
  return {code};
}
