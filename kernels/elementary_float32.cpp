#include "kernels/elementary_float32.hpp"

#include <bit>

#include "emu/arrays/control_word.hpp"
#include "kernels/elementary.hpp"

namespace halfulp::kernels {
namespace {

constexpr float nan = std::bit_cast<float>(0x7fc00000U);

inline void exp_loop(const float* x, float* y, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    const float v = x[i];
    const float result = elementary::exp_float(v);
    y[i] = v == v ? result : nan;
  }
}

inline void normal_loop(const float* x, float* share, float* density, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    const float v = x[i];
    const elementary::Normal result = elementary::normal(v);
    density[i] = v == v ? result.density : nan;
    share[i] = v == v ? result.share : nan;
  }
}

HALFULP_LEVELS(void, exp_of, (const float* x, float* y, std::size_t n), exp_loop(x, y, n))
HALFULP_LEVELS(void, normal_of, (const float* x, float* share, float* density, std::size_t n),
               normal_loop(x, share, density, n))

}  // namespace

void exp_float32(const float* x, float* y, std::size_t n, VectorLevel level) {
  const ControlWord guard;
  exp_of[level](x, y, n);
}

void normal_float32(const float* x, float* share, float* density, std::size_t n,
                    VectorLevel level) {
  const ControlWord guard;
  normal_of[level](x, share, density, n);
}

}  // namespace halfulp::kernels
