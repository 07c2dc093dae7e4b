#include "kernels/cuda/matmul.hpp"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "emu/arrays/cuda/launch.cuh"
#include "emu/core/float_plan.hpp"
#include "emu/names.hpp"

namespace halfulp::kernels::cuda {
namespace {

using halfulp::cuda::require_launched;

// ---------------------------------------------------------------- arithmetic, two columns at a
// time

// The GPU's own instructions on pairs. (`_rn` forbids fusing a product with a sum.)
struct NativeHalf {
  using Stored = std::uint16_t;
  using Pair = __half2;
  __device__ static Pair load(Stored x, Stored y) {
    return __halves2half2(__ushort_as_half(x), __ushort_as_half(y));
  }
  __device__ Pair step(Pair acc, Pair a, Pair b) const { return __hadd2_rn(acc, __hmul2_rn(a, b)); }
  __device__ static Stored first(Pair v) { return canonical(__half_as_ushort(__low2half(v))); }
  __device__ static Stored second(Pair v) { return canonical(__half_as_ushort(__high2half(v))); }
  __device__ static Stored canonical(Stored code) {
    return (code & 0x7fff) > 0x7c00 ? 0x7e00 : code;
  }
};
struct NativeBfloat {
  using Stored = std::uint16_t;
  using Pair = __nv_bfloat162;
  __device__ static Pair load(Stored x, Stored y) {
    return __halves2bfloat162(__ushort_as_bfloat16(x), __ushort_as_bfloat16(y));
  }
  __device__ Pair step(Pair acc, Pair a, Pair b) const { return __hadd2_rn(acc, __hmul2_rn(a, b)); }
  __device__ static Stored first(Pair v) {
    return canonical(__bfloat16_as_ushort(__low2bfloat16(v)));
  }
  __device__ static Stored second(Pair v) {
    return canonical(__bfloat16_as_ushort(__high2bfloat16(v)));
  }
  __device__ static Stored canonical(Stored code) {
    return (code & 0x7fff) > 0x7f80 ? 0x7fc0 : code;
  }
};

template <class F>
struct Two {
  F x, y;
};

// To nearest even in binary32: adding 1.5 · 2^(e + 24 − p), e the exponent of x but at least emin,
// leaves p bits, and subtracting it is exact. The sum stays in one binade as p <= 22, and its last
// bit is the parity of the code.
struct SingleNearest {
  using Stored = std::uint32_t;
  using Pair = Two<float>;
  std::uint32_t least_normal, magic;  // bits of 2^emin; what makes bits of 2^e those of the addend
  float largest, overflow;
  std::uint32_t nan;

  __device__ static Pair load(Stored x, Stored y) {
    return {__uint_as_float(x), __uint_as_float(y)};
  }
  __device__ float round(float x) const {
    const std::uint32_t exponent = __float_as_uint(x) & 0x7f800000u;
    const float addend = __uint_as_float(max(exponent, least_normal) + magic);
    float r = __fsub_rn(__fadd_rn(x, addend), addend);
    r = fabsf(r) > largest ? overflow : r;
    r = exponent == 0x7f800000u ? x : r;
    return copysignf(r, x);
  }
  __device__ float one(float acc, float a, float b) const {
    return round(__fadd_rn(acc, round(__fmul_rn(a, b))));
  }
  __device__ Pair step(Pair acc, Pair a, Pair b) const {
    return {one(acc.x, a.x, b.x), one(acc.y, a.y, b.y)};
  }
  __device__ Stored stored(float v) const { return v != v ? nan : __float_as_uint(v); }
  __device__ Stored first(Pair v) const { return stored(v.x); }
  __device__ Stored second(Pair v) const { return stored(v.y); }
};

// Any mode: the exact product, or the sum to odd, through the plan. plain: as in FloatPlanShape.
template <class F, bool plain>
struct Planned {
  using Stored = std::uint32_t;
  using Bits = typename FloatTraits<F>::Bits;
  using Pair = Two<F>;
  FloatPlan<F> plan;
  Bits down_sign;  // the sign bit under `down`, where an exact sum of x and −x is −0
  std::uint32_t nan;

  __device__ static Pair load(Stored x, Stored y) {
    return {static_cast<F>(__uint_as_float(x)), static_cast<F>(__uint_as_float(y))};
  }
  __device__ F round(F x) const {
    const Bits bits = std::bit_cast<Bits>(x);
    Bits r = round_magnitude<F, Body::deterministic, false, plain, std::uint32_t>(bits, plan, 0);
    if (r > plan.largest) {
      r = is_special<F>(bits) ? special_result(bits, plan) : finish<F, false, plain>(bits, r, plan);
    } else if constexpr (plain) {
      r |= bits & plan.sign;
    } else {
      r = finish<F, false, plain>(bits, r, plan);
    }
    return std::bit_cast<F>(r);
  }
  // a + b cut towards zero, with the last bit set if something was cut off: then one rounding to at
  // least two bits fewer is right in every mode. Neighbours differ in the last bit, so sums rounded
  // up and down tell. Their signs differ only where the sum is zero exactly.
  __device__ F sum(F a, F b) const {
    F low, up, down;
    if constexpr (sizeof(F) == 4)
      low = __fadd_rz(a, b), up = __fadd_ru(a, b), down = __fadd_rd(a, b);
    else
      low = __dadd_rz(a, b), up = __dadd_ru(a, b), down = __dadd_rd(a, b);
    const Bits cut = (std::bit_cast<Bits>(up) ^ std::bit_cast<Bits>(down)) & 1;
    return std::bit_cast<F>(std::bit_cast<Bits>(low) | cut |
                            (std::bit_cast<Bits>(down) & down_sign));
  }
  __device__ F product(F a, F b) const {
    if constexpr (sizeof(F) == 4)
      return __fmul_rn(a, b);
    else
      return __dmul_rn(a, b);
  }
  __device__ F one(F acc, F a, F b) const { return round(sum(acc, round(product(a, b)))); }
  __device__ Pair step(Pair acc, Pair a, Pair b) const {
    return {one(acc.x, a.x, b.x), one(acc.y, a.y, b.y)};
  }
  __device__ Stored stored(F v) const {
    return v != v ? nan : __float_as_uint(static_cast<float>(v));
  }
  __device__ Stored first(Pair v) const { return stored(v.x); }
  __device__ Stored second(Pair v) const { return stored(v.y); }
};

// ---------------------------------------------------------------- tiles

// 256 threads make a tile of 16·R rows and 32·C columns; a thread has R rows and C pairs of
// columns, all neighbours, so that it loads 16 bytes at a time. k is walked in steps of `depth`,
// one after another: that is the order.
template <class A, int R, int C>
__global__ void __launch_bounds__(256)
    matmul_kernel(const __grid_constant__ A arith, const typename A::Stored* a,
                  const typename A::Stored* b, const typename A::Stored* c, typename A::Stored* out,
                  int m, int n, int k) {
  using Stored = typename A::Stored;
  using Pair = typename A::Pair;
  constexpr int depth = 16;
  constexpr int rows = 16 * R, columns = 32 * C;
  struct alignas(16) Left {
    Pair at[R];
  };
  struct alignas(16) Right {
    Pair at[C];
  };
  __shared__ Left a_tile[depth][16];  // each element twice
  __shared__ Right b_tile[depth][16];
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  const int row0 = static_cast<int>(blockIdx.y) * rows,
            column0 = static_cast<int>(blockIdx.x) * columns;
  const auto at = [&](const Stored* p, int row, int column, int height, int width) {
    return row < height && column < width ? p[static_cast<std::int64_t>(row) * width + column]
                                          : Stored{0};
  };

  Pair acc[R][C];
#pragma unroll
  for (int i = 0; i < R; ++i) {
#pragma unroll
    for (int j = 0; j < C; ++j) {
      const int row = row0 + ty * R + i, column = column0 + 2 * (tx * C + j);
      acc[i][j] = c == nullptr ? A::load(0, 0)
                               : A::load(at(c, row, column, m, n), at(c, row, column + 1, m, n));
    }
  }
  for (int k0 = 0; k0 < k; k0 += depth) {
    for (int e = threadIdx.x; e < rows * depth; e += 256) {
      const int row = e / depth, l = e % depth;
      const Stored v = at(a, row0 + row, k0 + l, m, k);
      a_tile[l][row / R].at[row % R] = A::load(v, v);
    }
    for (int e = threadIdx.x; e < columns / 2 * depth; e += 256) {
      const int l = e / (columns / 2), pair = e % (columns / 2);
      b_tile[l][pair / C].at[pair % C] = A::load(at(b, k0 + l, column0 + 2 * pair, k, n),
                                                 at(b, k0 + l, column0 + 2 * pair + 1, k, n));
    }
    __syncthreads();
    const int steps = min(depth, k - k0);
    const auto step = [&](int l) {
      const Left left = a_tile[l][ty];
      const Right right = b_tile[l][tx];
#pragma unroll
      for (int i = 0; i < R; ++i) {
#pragma unroll
        for (int j = 0; j < C; ++j) acc[i][j] = arith.step(acc[i][j], left.at[i], right.at[j]);
      }
    };
    if (steps == depth) {
      constexpr int unrolled = sizeof(Stored) == 2 ? 4 : 1;
#pragma unroll unrolled
      for (int l = 0; l < depth; ++l) step(l);
    } else {
      for (int l = 0; l < steps; ++l) step(l);
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < R; ++i) {
#pragma unroll
    for (int j = 0; j < C; ++j) {
      const int row = row0 + ty * R + i, column = column0 + 2 * (tx * C + j);
      if (row >= m) continue;
      const std::int64_t place = static_cast<std::int64_t>(row) * n + column;
      if (column < n) out[place] = arith.first(acc[i][j]);
      if (column + 1 < n) out[place + 1] = arith.second(acc[i][j]);
    }
  }
}

template <int R, int C, class A>
void launch(const A& arith, MatmulShape shape, const void* a, const void* b, const void* c,
            void* out, cudaStream_t stream) {
  using Stored = typename A::Stored;
  const dim3 grid(static_cast<unsigned>((shape.n + 32 * C - 1) / (32 * C)),
                  static_cast<unsigned>((shape.m + 16 * R - 1) / (16 * R)));
  matmul_kernel<A, R, C><<<grid, 256, 0, stream>>>(
      arith, static_cast<const Stored*>(a), static_cast<const Stored*>(b),
      static_cast<const Stored*>(c), static_cast<Stored*>(out), static_cast<int>(shape.m),
      static_cast<int>(shape.n), static_cast<int>(shape.k));
  require_launched("matrix product on the device");
}

std::uint32_t float_bits(u128 code, Format f) {
  return static_cast<std::uint32_t>(round_pack(unpack<u128>(code, f), formats::binary32, {}).code);
}

template <class F>
void launch_planned(Format f, const Rounding& rounding, MatmulShape shape, const void* a,
                    const void* b, const void* c, void* out, cudaStream_t stream) {
  using Bits = typename FloatTraits<F>::Bits;
  const FloatPlan<F> plan = make_float_plan<F>(f, rounding, 32, false);
  const Bits down_sign = rounding.mode == Mode::down ? Bits{1} << (sizeof(F) * 8 - 1) : 0;
  const std::uint32_t nan = float_bits(f.nan_code(), f);
  if (shape_of(plan, rounding, 32).plain) {
    launch<4, 2>(Planned<F, true>{plan, down_sign, nan}, shape, a, b, c, out, stream);
  } else {
    launch<4, 2>(Planned<F, false>{plan, down_sign, nan}, shape, a, b, c, out, stream);
  }
}

}  // namespace

Family family_of(Format f, const Rounding& rounding, Element element) {
  if (is_stochastic(rounding.mode) || rounding.overflow == Overflow::error || !f.has_nan() ||
      !f.has_negative_zero())
    return Family::none;
  const bool plain = rounding.mode == Mode::nearest_even && rounding.overflow == Overflow::ieee;
  if (element == Element::binary16 || element == Element::bfloat16)
    return plain && f == format_of(element) ? Family::native : Family::none;
  if (element != Element::binary32 || !holds_every_value(formats::binary32, f)) return Family::none;
  const int least = f.least_quantum_exponent();
  const int top = f.emax() + 1;
  // Products: 2p bits, quanta down to 2^2·least, magnitudes below 2^2·top.
  const bool exact32 = f.precision <= 11 && 2 * least >= -149 && 2 * top <= 128;
  // (It takes infinite operands for results.)
  const bool moves_infinity = f.has_infinity() && rounding.overflow == Overflow::saturate;
  if (exact32 && rounding.mode == Mode::nearest_even && !moves_infinity && f.subnormals &&
      f.precision >= 2 && 2 * top + 24 - f.precision <= 127 &&
      f.emin() - 3 * f.precision + 1 >= -149)
    return Family::single_nearest;
  if (exact32 && has_float_plan<float>(f, rounding, 32, false)) return Family::single;
  if (f.precision <= 24 && 2 * least >= -1074 && 2 * top <= 1023 &&
      has_float_plan<double>(f, rounding, 32, false))
    return Family::dual;
  return Family::none;
}

void matmul(Format f, const Rounding& rounding, MatmulShape shape, Element element, const void* a,
            const void* b, const void* c, void* out, void* stream) {
  const Family family = family_of(f, rounding, element);
  if (family == Family::none) {
    throw std::invalid_argument("a matrix product on the device has no path for " + name_of(f) +
                                " in this mode and element type; the host's has");
  }
  constexpr std::size_t most = std::size_t{1} << 30;
  if (shape.m > most || shape.n > most || shape.k > most)
    throw std::invalid_argument("a matrix product on the device takes extents up to 2^30");
  if (shape.m == 0 || shape.n == 0) return;
  const auto handle = static_cast<cudaStream_t>(stream);
  switch (family) {
    case Family::native:
      if (element == Element::binary16)
        return launch<8, 4>(NativeHalf{}, shape, a, b, c, out, handle);
      return launch<8, 4>(NativeBfloat{}, shape, a, b, c, out, handle);
    case Family::single_nearest: {
      SingleNearest s{};
      s.least_normal = static_cast<std::uint32_t>(f.emin() + 127) << 23;
      s.magic = (static_cast<std::uint32_t>(24 - f.precision) << 23) | 0x400000u;
      s.largest = std::bit_cast<float>(float_bits(f.largest_code(), f));
      const auto over = round_pack(
          Unpacked<u128>{.kind = Kind::finite, .exponent = f.emax() + 2, .significand = 1}, f,
          rounding);
      s.overflow = std::bit_cast<float>(float_bits(over.code, f));
      s.nan = float_bits(f.nan_code(), f);
      return launch<4, 2>(s, shape, a, b, c, out, handle);
    }
    case Family::single: return launch_planned<float>(f, rounding, shape, a, b, c, out, handle);
    default: return launch_planned<double>(f, rounding, shape, a, b, c, out, handle);
  }
}

}  // namespace halfulp::kernels::cuda
