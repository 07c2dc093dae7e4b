#include "kernels/cuda/scaled_matmul.hpp"

#include "emu/arrays/cuda/launch.cuh"
#include "kernels/cuda/panels.cuh"

namespace halfulp::kernels::cuda {
namespace {

using halfulp::cuda::require_launched;

// The exponent of a power of two, subnormal or not; false where x is none.
__device__ inline bool power_of_two(float x, int& exponent) {
  const unsigned bits = __float_as_uint(x), fraction = bits & 0x7fffffu;
  const int field = static_cast<int>(bits >> 23);  // the sign too
  if (field >= 255 || (field == 0 ? __popc(fraction) != 1 : fraction != 0)) return false;
  exponent = field == 0 ? 31 - __clz(static_cast<int>(fraction)) - 149 : field - 127;
  return true;
}

template <ScaleJoin join>
__device__ inline float joined(float acc, float part, float sa, float sb) {
  int ea = 0, eb = 0;
  if constexpr (join == ScaleJoin::dequantised) return part;
  if constexpr (join == ScaleJoin::one_by_one)
    return __fadd_rn(acc, __fmul_rn(__fmul_rn(part, sa), sb));
  if constexpr (join == ScaleJoin::exponents) {
    if (power_of_two(sa, ea) && power_of_two(sb, eb)) return __fadd_rn(acc, ldexpf(part, ea + eb));
  }
  const float both = __fmul_rn(sa, sb);
  if constexpr (join == ScaleJoin::fused) return __fmaf_rn(part, both, acc);
  return __fadd_rn(acc, __fmul_rn(part, both));
}

template <ScaleJoin join>
__global__ void __launch_bounds__(panel_threads)
    product(ScaledLayout l, const float* a, const float* b, const float* a_scale,
            const float* b_scale, const float* tensor_scale, float* out) {
  __shared__ Panel left, right;
  const MatmulShape s = l.shape;
  const std::size_t across = (s.n + panel_side - 1) / panel_side;
  const std::size_t first_row = blockIdx.x / across * panel_side,
                    first_column = blockIdx.x % across * panel_side;
  PanelSums acc{}, part{};
  for (std::size_t from = 0; from < s.k;) {
    const std::size_t to = l.block_end(from);
    if constexpr (join != ScaleJoin::dequantised)
      each_result([&](int i, int j, int, int) { part[i][j] = 0; });
    for (std::size_t k = from; k < to; k += panel_depth) {
      const int count = static_cast<int>(to - k < panel_depth ? to - k : panel_depth);
      __syncthreads();  // nobody reads the panels of before
      fill<true>(left, [&](int i, int d) {
        const std::size_t row = first_row + i;
        if (row >= s.m || d >= count) return 0.0F;
        const float v = a[row * s.k + k + d];
        return join == ScaleJoin::dequantised ? __fmul_rn(v, a_scale[l.a_scale_at(row, from)]) : v;
      });
      fill<false>(right, [&](int j, int d) {
        const std::size_t column = first_column + j;
        if (column >= s.n || d >= count) return 0.0F;
        const float v = b[(k + d) * s.n + column];
        return join == ScaleJoin::dequantised ? __fmul_rn(v, b_scale[l.b_scale_at(from, column)])
                                              : v;
      });
      __syncthreads();
      accumulate([&](int d, int row) { return left.at[d][row]; }, right, count, part);
    }
    each_result([&](int i, int j, int row, int column) {
      const std::size_t r = first_row + row, c = first_column + column;
      if (r < s.m && c < s.n)
        acc[i][j] = joined<join>(acc[i][j], part[i][j], a_scale[l.a_scale_at(r, from)],
                                 b_scale[l.b_scale_at(from, c)]);
    });
    from = to;
  }
  each_result([&](int i, int j, int row, int column) {
    const std::size_t r = first_row + row, c = first_column + column;
    if (r < s.m && c < s.n)
      out[r * s.n + c] = tensor_scale != nullptr ? __fmul_rn(acc[i][j], *tensor_scale) : acc[i][j];
  });
}

}  // namespace

void scaled_matmul(const ScaledLayout& layout, ScaleJoin join, const float* a, const float* b,
                   const float* a_scale, const float* b_scale, const float* tensor_scale,
                   float* out, void* stream) {
  const MatmulShape s = layout.shape;
  if (s.m == 0 || s.n == 0) return;
  const auto tiles = [](std::size_t n) { return (n + panel_side - 1) / panel_side; };
  const auto blocks = static_cast<unsigned>(tiles(s.m) * tiles(s.n));
  const auto launch = [&](auto kernel) {
    kernel<<<blocks, panel_threads, 0, static_cast<cudaStream_t>(stream)>>>(
        layout, a, b, a_scale, b_scale, tensor_scale, out);
  };
  switch (join) {
    case ScaleJoin::fused: launch(product<ScaleJoin::fused>); break;
    case ScaleJoin::separate: launch(product<ScaleJoin::separate>); break;
    case ScaleJoin::one_by_one: launch(product<ScaleJoin::one_by_one>); break;
    case ScaleJoin::exponents: launch(product<ScaleJoin::exponents>); break;
    case ScaleJoin::dequantised: launch(product<ScaleJoin::dequantised>); break;
  }
  require_launched("scaled product");
}

}  // namespace halfulp::kernels::cuda
