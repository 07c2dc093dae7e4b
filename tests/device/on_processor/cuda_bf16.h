// See cuda_runtime.h.
#pragma once

#include "cuda_runtime.h"
#include "kernels/halves.hpp"

struct __nv_bfloat16 {
  std::uint16_t code;
};
struct __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
inline float __bfloat162float(__nv_bfloat16 x) {
  return halfulp::kernels::widen(halfulp::kernels::Bfloat16{x.code});
}
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  using halfulp::kernels::Bfloat16;
  using halfulp::kernels::narrow;
  return {{narrow<Bfloat16>(x).code}, {narrow<Bfloat16>(y).code}};
}
inline unsigned __hneu2_mask(__nv_bfloat162 x, __nv_bfloat162 y) {
  const auto mask = [](std::uint16_t a, std::uint16_t b) {
    const bool nan = (a & 0x7fffU) > 0x7f80U || (b & 0x7fffU) > 0x7f80U;
    return nan || (a != b && ((a | b) & 0x7fffU) != 0) ? 0xffffU : 0U;
  };
  return mask(x.x.code, y.x.code) | mask(x.y.code, y.y.code) << 16;
}
