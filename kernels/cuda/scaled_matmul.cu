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

constexpr int each = 8, side = panel_side<each>;

// Panels of the operands are read from memory while those before are multiplied, and lie in turns
// in two places. No panel reaches beyond its block of K.
template <ScaleJoin join>
__global__ void __launch_bounds__(panel_threads)
    product(ScaledLayout l, const float* a, const float* b, const float* a_scale,
            const float* b_scale, const float* tensor_scale, float* out) {
  __shared__ Panel<each> left[2], right[2];
  const MatmulShape s = l.shape;
  const std::size_t across = (s.n + side - 1) / side;
  const std::size_t first_row = blockIdx.x / across * side,
                    first_column = blockIdx.x % across * side;
  const int x = static_cast<int>(threadIdx.x) % panel_lanes,
            y = static_cast<int>(threadIdx.x) / panel_lanes;
  // Where the scales of rows and columns begin.
  __shared__ std::size_t of_row[side], of_column[side];
  for (int i = static_cast<int>(threadIdx.x); i < side; i += panel_threads) {
    of_row[i] = l.a_scale_at(first_row + i, 0);
    of_column[i] = l.b_scale_at(0, first_column + i);
  }
  __syncthreads();

  float carried_a[each], carried_b[each];
  const auto fetch = [&](std::size_t k, int count) {
    each_carried<true, each>([&](int t, int i, int d) {
      const std::size_t row = first_row + i;
      carried_a[t] = row < s.m && d < count ? a[row * s.k + k + d] : 0;
    });
    each_carried<false, each>([&](int t, int j, int d) {
      const std::size_t column = first_column + j;
      carried_b[t] = column < s.n && d < count ? b[(k + d) * s.n + column] : 0;
    });
  };
  // What begins at k along K. Scales come in here, where what was read is waited for anyway.
  const auto keep = [&](int at, std::size_t k) {
    const std::size_t of_a = ScaledLayout::index(k, l.a_block),
                      of_b = ScaledLayout::index(k, l.b_block) * l.b_scales();
    each_carried<true, each>([&](int t, int i, int d) {
      float v = carried_a[t];
      if (join == ScaleJoin::dequantised && first_row + i < s.m)
        v = __fmul_rn(v, a_scale[of_row[i] + of_a]);
      left[at].at[d][i] = v;
    });
    each_carried<false, each>([&](int t, int j, int d) {
      float v = carried_b[t];
      if (join == ScaleJoin::dequantised && first_column + j < s.n)
        v = __fmul_rn(v, b_scale[of_column[j] + of_b]);
      right[at].at[d][j] = v;
    });
    __syncthreads();  // the panels of before the last are read by nobody any more either
  };
  const auto count_of = [](std::size_t k, std::size_t to) {
    return static_cast<int>(to - k < panel_depth ? to - k : panel_depth);
  };

  PanelSums<each> acc{}, part{};
  std::size_t from = 0, to = l.block_end(0);
  int at = 0, count = count_of(0, to);
  if (s.k != 0) {
    fetch(0, count);
    keep(at, 0);
  }
  for (std::size_t k = 0; k < s.k;) {
    const std::size_t next = k + count;
    const bool ends = next == to;
    const std::size_t next_to = ends && next < s.k ? l.block_end(next) : to;
    const int next_count = count_of(next, next_to);
    if (next < s.k) fetch(next, next_count);
    accumulate<each>(left[at], right[at], count, part);
    if (ends) {
      const std::size_t of_a = ScaledLayout::index(from, l.a_block),
                        of_b = ScaledLayout::index(from, l.b_block) * l.b_scales();
      float sa[each] = {}, sb[each] = {};
      if constexpr (join != ScaleJoin::dequantised) {
#pragma unroll
        for (int i = 0; i < each; ++i) {
          if (first_row + place(y, i) < s.m) sa[i] = a_scale[of_row[place(y, i)] + of_a];
          if (first_column + place(x, i) < s.n) sb[i] = b_scale[of_column[place(x, i)] + of_b];
        }
      }
      each_result<each>([&](int i, int j, int, int) {
        acc[i][j] = joined<join>(acc[i][j], part[i][j], sa[i], sb[j]);
        if constexpr (join != ScaleJoin::dequantised) part[i][j] = 0;
      });
      from = next;
    }
    at = 1 - at;
    if (next < s.k) keep(at, next);
    k = next, to = next_to, count = next_count;
  }
  each_result<each>([&](int i, int j, int row, int column) {
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
  const auto tiles = [](std::size_t n) { return (n + side - 1) / side; };
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
