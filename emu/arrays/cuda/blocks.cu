#include "emu/arrays/cuda/blocks.hpp"

#include <cmath>

#include <cuda_fp16.h>

#include "emu/arrays/cuda/launch.cuh"
#include "emu/block_names.hpp"
#include "emu/core/float_plan.hpp"
#include "emu/names.hpp"

namespace halfulp::cuda {
namespace {

constexpr int threads = 256;
// Neighbouring elements that a thread quantises: 32 bytes of binary32, 8 or 4 bytes of codes.
constexpr int elements = 8;
constexpr std::uint32_t infinity_bits = 0x7f800000u;
constexpr std::uint32_t nan_bits = 0x7fc00000u;

// Of binary32.
__device__ inline bool is_positive_finite(std::uint32_t code) {
  return code - 1 < infinity_bits - 1;
}

// ---------------------------------------------------------------- a thread's elements

struct Binary32 {
  using Stored = std::uint32_t;
  __device__ static std::uint32_t load(Stored x) { return x; }
};
struct Binary16 {
  using Stored = std::uint16_t;
  __device__ static std::uint32_t load(Stored x) {
    return __float_as_uint(__half2float(__ushort_as_half(x)));
  }
};
struct Bfloat16 {
  using Stored = std::uint16_t;
  __device__ static std::uint32_t load(Stored x) { return static_cast<std::uint32_t>(x) << 16; }
};

// As binary32, exactly; zeros from n on.
template <class In>
__device__ inline void load_elements(const typename In::Stored* x, u64 first, u64 n,
                                     std::uint32_t (&v)[elements]) {
  using Stored = typename In::Stored;
  constexpr int size = 16 / sizeof(Stored);
  if (first + elements <= n) {
#pragma unroll
    for (int g = 0; g < elements / size; ++g) {
      const auto in = *reinterpret_cast<const Pack<Stored, size>*>(x + first + g * size);
#pragma unroll
      for (int k = 0; k < size; ++k) v[g * size + k] = In::load(in.at[k]);
    }
  } else {
#pragma unroll
    for (int k = 0; k < elements; ++k) v[k] = first + k < n ? In::load(x[first + k]) : 0;
  }
}

// The largest magnitude of the `lanes` neighbours that share a block.
template <int lanes>
__device__ inline std::uint32_t largest_of_block(const std::uint32_t (&v)[elements]) {
  std::uint32_t m = 0;
#pragma unroll
  for (int k = 0; k < elements; ++k) m = max(m, v[k] & 0x7fffffffu);
#pragma unroll
  for (int d = 1; d < lanes; d *= 2) m = max(m, __shfl_xor_sync(~0u, m, d));
  return m;
}

// The codes of elements first … first + 7, of at most 8 bits each. empty: zeros instead.
template <bool packed>
__device__ inline void store_codes(std::uint8_t* codes, u64 first, u64 n, bool empty,
                                   const std::uint32_t (&code)[elements]) {
  constexpr int bits = packed ? 4 : 8;
  constexpr int per_word = 32 / bits;
  constexpr int words = elements / per_word;
  Pack<std::uint32_t, words> out;
#pragma unroll
  for (int w = 0; w < words; ++w) {
    std::uint32_t word = 0;
#pragma unroll
    for (int k = 0; k < per_word; ++k) word |= code[w * per_word + k] << (bits * k);
    out.at[w] = empty ? 0 : word;
  }
  if (first + elements <= n) {
    *reinterpret_cast<Pack<std::uint32_t, words>*>(codes + first * bits / 8) = out;
  } else if (first < n) {
    const u64 bytes = (n * bits + 7) / 8 - first * bits / 8;  // codes beyond n are zeros
#pragma unroll
    for (int k = 0; k < elements * bits / 8; ++k) {
      if (k < bytes)
        codes[first * bits / 8 + k] = static_cast<std::uint8_t>(out.at[k / 4] >> (8 * (k % 4)));
    }
  }
}

// ---------------------------------------------------------------- powers of two: MX
//
// The exponent of a block is that of amax after an addend in binary32's fraction, less emax of the
// element (with f the 23 bits of amax's fraction, and p the element's precision):
//
//   floor  0            ceil   2^23 − 1: carries unless f = 0
//   rceil  2^23 − 1 − fraction of the largest element: carries if f is above it
//   even   2^(23 − p): carries if the p leading bits of f are ones
//
// |x| · 2^−e is a multiplication, rounded up. It is exact unless it leaves binary32's normal range.
// Below, at most 2^-126 stands for something above zero, and both lie between zero and the first
// point where any mode changes its mind, half the element's least quantum, which is 2^-100 at
// least. Above, infinity stands for something that saturates as it does. So the rest is the plan of
// emu/core/float_plan.hpp.

struct PowerRule {
  std::uint32_t addend;
  int emax;
};

PowerRule power_rule(const BlockFormat& f) {
  constexpr std::uint32_t ones = 0x7fffffu;
  const int p = f.element.precision;
  const auto largest = unpack<u64>(static_cast<u64>(f.element.largest_code()), f.element);
  const u64 significand = largest.significand << (24 - bit_length(largest.significand));
  switch (f.rule) {
    case ScaleRule::ceil: return {ones, f.element.emax()};
    case ScaleRule::rceil:
      return {ones - (static_cast<std::uint32_t>(significand) & ones), f.element.emax()};
    case ScaleRule::even: return {1u << (23 - p), f.element.emax()};
    default: return {0, f.element.emax()};
  }
}

__device__ inline std::uint32_t e8m0_code(std::uint32_t amax, const PowerRule& rule) {
  int shift = 0;
  if (amax < 0x00800000u) {  // zero, or subnormal: as if its leading bit were the hidden one
    if (amax == 0) return 0;
    shift = __clz(static_cast<int>(amax)) - 8;
  }
  const int field = static_cast<int>(((amax << shift) + rule.addend) >> 23) - shift - rule.emax;
  return static_cast<std::uint32_t>(min(max(field, 0), 254));
}

template <class In, bool integers, bool packed>
__global__ void __launch_bounds__(threads)
    power_kernel(const typename In::Stored* x, std::uint8_t* codes, std::uint8_t* scales, u64 n,
                 const __grid_constant__ FloatPlan<float> plan, PowerRule rule, int sign_shift,
                 std::uint32_t mask) {
  constexpr int lanes = 32 / elements;
  const u64 first = (static_cast<u64>(blockIdx.x) * threads + threadIdx.x) * elements;
  std::uint32_t v[elements];
  load_elements<In>(x, first, n, v);
  const std::uint32_t amax = largest_of_block<lanes>(v);
  const bool special = amax >= infinity_bits;
  const std::uint32_t scale = special ? 255 : e8m0_code(amax, rule);
  const float factor = __uint_as_float(scale >= 254 ? 0x00400000u : (254 - scale) << 23);
  std::uint32_t code[elements];
#pragma unroll
  for (int k = 0; k < elements; ++k) {
    const float magnitude = __fmul_ru(__uint_as_float(v[k] & 0x7fffffffu), factor);
    const std::uint32_t y = __float_as_uint(magnitude) | (v[k] & 0x80000000u);
    const std::uint32_t c =
        min(round_magnitude<float, Body::deterministic, true, true>(y, plan, 0u), plan.largest);
    if constexpr (integers)
      code[k] = (v[k] >> 31) != 0 ? (0u - c) & mask : c;
    else
      code[k] = c | ((v[k] >> sign_shift) & plan.sign);
  }
  store_codes<packed>(codes, first, n, special, code);
  if (threadIdx.x % lanes == 0 && first < n) scales[first / 32] = static_cast<std::uint8_t>(scale);
}

// ---------------------------------------------------------------- two levels: NVFP4
//
// The scale is a quotient of 24 bits, amax, by one of 27, largest · tensor scale. In binary64 it is
// correctly rounded, and that decides as the exact one: with amax = A·2^i and the divisor D·2^j, it
// differs from a number M·2^k of at most 5 bits (a scale, or half-way between two) not at all, or
// by 1/A or 1/(M·D) of itself at least, more than 2^-32. As binary32 cut towards zero, with the
// last bit set for what was cut off, it goes through the plan of the scale format.
//
// With D = scale · tensor scale (28 bits) element k begins at a point c·D, c a value of the element
// or half-way between two, 3 bits: exact in binary64. |x| >= c·D where a mode gives the point
// itself to the upper element, else |x| > c·D. With t the point, or in the first case the next
// lower binary64 number, both are |x| > t; and as |x| is of binary32, |x| > (t cut to binary32).
//
// Up and down take the values themselves for points, which belong to the upper element towards zero
// and not away from it. So that both signs compare with one number, it is twice the cut point, and
// one more if anything was cut off: |x| >= c·D is then 2|x| + 1 > key, and |x| > c·D is 2|x| > key,
// in bits of binary32. Away from zero there is one point more, at zero.

constexpr int points = 7;  // of E2M1
struct Points {
  double at[points];
  long long included[points];  // 1: the point itself belongs to the upper element
  std::uint32_t down;          // by sign: 1 for down, 0 for up
};

bool is_by_sign(Mode mode) {
  return mode == Mode::up || mode == Mode::down;
}

Points points_of(Format element, Mode mode) {
  Points p{.down = mode == Mode::down ? 1u : 0u};
  const auto value = [&](u64 code) {
    const Unpacked<u64> v = unpack(code, element);
    return std::ldexp(static_cast<double>(v.significand), v.exponent);
  };
  for (u64 k = 0; k < points; ++k) {
    const double lower = value(k), upper = value(k + 1);
    const bool odd = k % 2 != 0;
    const auto set = [&](double at, bool included) {
      p.at[k] = at, p.included[k] = included ? 1 : 0;
    };
    switch (mode) {
      case Mode::nearest_even: set((lower + upper) / 2, odd); break;
      case Mode::nearest_away: set((lower + upper) / 2, true); break;
      case Mode::nearest_zero: set((lower + upper) / 2, false); break;
      case Mode::toward_zero: set(upper, true); break;
      case Mode::away: set(lower, false); break;
      case Mode::odd: set(odd ? upper : lower, odd); break;
      default: set(upper, false);  // up, down
    }
  }
  return p;
}

// The number of thresholds below u.
__device__ inline std::uint32_t count_below(std::uint32_t u, const std::uint32_t (&t)[points]) {
  const bool a = u > t[3];
  const bool b = u > (a ? t[5] : t[1]);
  const std::uint32_t low = b ? t[2] : t[0], high = b ? t[6] : t[4];
  const bool c = u > (a ? high : low);
  return (a ? 4u : 0u) + (b ? 2u : 0u) + (c ? 1u : 0u);
}

template <class In, bool by_sign, bool packed>
__global__ void __launch_bounds__(threads)
    two_level_kernel(const typename In::Stored* x, std::uint8_t* codes, std::uint8_t* scales, u64 n,
                     const TensorScale* tensor_scale,
                     const __grid_constant__ FloatPlan<float> scale_plan,
                     const __grid_constant__ Points edge) {
  constexpr int lanes = 16 / elements;
  // From the end: a pass that looked for amax has left it in the cache.
  const u64 block = gridDim.x - 1 - blockIdx.x;
  const u64 first = (block * threads + threadIdx.x) * elements;
  const std::uint32_t tensor_code = tensor_scale->code;
  const auto tensor = static_cast<double>(__uint_as_float(tensor_code));
  std::uint32_t v[elements];
  load_elements<In>(x, first, n, v);
  const std::uint32_t amax = largest_of_block<lanes>(v);
  const bool special = amax >= infinity_bits || !is_positive_finite(tensor_code);

  const double quotient =
      __ddiv_rn(static_cast<double>(__uint_as_float(special ? 0 : amax)), tensor * 6);
  const float cut = __double2float_rz(quotient);
  const std::uint32_t odd = __float_as_uint(cut) | (static_cast<double>(cut) != quotient ? 1u : 0u);
  const std::uint32_t scale =
      special ? 0x7fu
              : min(round_magnitude<float, Body::deterministic, true, true>(odd, scale_plan, 0u),
                    scale_plan.largest);
  const double unit =
      static_cast<double>(__uint_as_float(scale << 20) * 0x1p120f) * tensor;  // both exact

  std::uint32_t t[points];
#pragma unroll
  for (int k = 0; k < points; ++k) {
    const double point = edge.at[k] * unit;
    if constexpr (by_sign) {
      const float at = __double2float_rz(point);
      t[k] = 2 * __float_as_uint(at) + (static_cast<double>(at) != point ? 1u : 0u);
    } else {
      // A point at zero is never included, and unit is not zero but for empty blocks.
      const long long bits = __double_as_longlong(point) - edge.included[k];
      t[k] = __float_as_uint(__double2float_rz(__longlong_as_double(bits)));
    }
  }
  std::uint32_t code[elements];
#pragma unroll
  for (int k = 0; k < elements; ++k) {
    std::uint32_t c = 0;
    if constexpr (by_sign) {
      const std::uint32_t key = __funnelshift_l(v[k], v[k], 1) ^ edge.down;  // odd: towards zero
      c = count_below(key, t);
      c = min(c + ((key & 1) == 0 && key != 0 ? 1u : 0u), 7u);
    } else {
      c = count_below(v[k] & 0x7fffffffu, t);
    }
    code[k] = c | ((v[k] >> 28) & 8u);
  }
  store_codes<packed>(codes, first, n, special || scale == 0, code);
  if (threadIdx.x % lanes == 0 && first < n) scales[first / 16] = static_cast<std::uint8_t>(scale);
}

// The largest finite magnitude into tensor->amax, which was 0.
template <class Bits>
__global__ void __launch_bounds__(threads)
    amax_kernel(const Bits* x, u64 n, Bits infinity, TensorScale* tensor) {
  constexpr int size = 16 / sizeof(Bits);
  constexpr Bits magnitude = static_cast<Bits>(low_mask<Bits>(width_of<Bits> - 1));
  constexpr int groups = 4;
  const auto finite = [&](Bits v) -> Bits {
    const Bits u = v & magnitude;
    return u < infinity ? u : Bits{0};
  };
  Bits m = 0;
  const u64 step = static_cast<u64>(gridDim.x) * threads;
  const u64 lane = static_cast<u64>(blockIdx.x) * threads + threadIdx.x;
  const u64 packs = reinterpret_cast<std::uintptr_t>(x) % 16 == 0 ? n / size : 0;
  u64 i = lane;
  for (; i + (groups - 1) * step < packs; i += groups * step) {
    Pack<Bits, size> in[groups];
#pragma unroll
    for (int g = 0; g < groups; ++g)
      in[g] = reinterpret_cast<const Pack<Bits, size>*>(x)[i + g * step];
#pragma unroll
    for (int g = 0; g < groups; ++g) {
#pragma unroll
      for (int k = 0; k < size; ++k) m = max(m, finite(in[g].at[k]));
    }
  }
  for (; i < packs; i += step) {
    const auto in = reinterpret_cast<const Pack<Bits, size>*>(x)[i];
#pragma unroll
    for (int k = 0; k < size; ++k) m = max(m, finite(in.at[k]));
  }
  for (i = packs * size + lane; i < n; i += step) m = max(m, finite(x[i]));

  u64 wide = m;
#pragma unroll
  for (int d = 16; d > 0; d /= 2)
    wide =
        max(wide, static_cast<u64>(__shfl_xor_sync(~0u, static_cast<unsigned long long>(wide), d)));
  if (threadIdx.x % 32 == 0 && wide != 0)
    atomicMax(reinterpret_cast<unsigned long long*>(&tensor->amax),
              static_cast<unsigned long long>(wide));
}

__global__ void tensor_scale_kernel(TensorScale* tensor, Format x, BlockFormat f) {
  tensor->code = static_cast<std::uint32_t>(tensor_scale_code(unpack<u128>(tensor->amax, x), f));
}

template <class Bits>
void launch_amax(const Array& x, TensorScale* tensor, int processors, cudaStream_t stream) {
  const auto needed = static_cast<int>(
      std::min<u64>(static_cast<u64>(processors) * 8, x.size() * sizeof(Bits) / 16 / threads + 1));
  amax_kernel<Bits><<<static_cast<unsigned>(needed), threads, 0, stream>>>(
      static_cast<const Bits*>(x.data), x.size(), static_cast<Bits>(x.format.largest_code() + 1),
      tensor);
  require_launched("the largest magnitude on the device");
}

void find_tensor_scale(const Array& x, TensorScale* tensor, const BlockFormat& f,
                       cudaStream_t stream) {
  if (cudaMemsetAsync(tensor, 0, sizeof(TensorScale), stream) != cudaSuccess)
    require_launched("clearing the tensor scale");
  int device = 0, processors = 1;
  if (cudaGetDevice(&device) == cudaSuccess)
    cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  switch (size_of(x.element)) {
    case 2: launch_amax<std::uint16_t>(x, tensor, processors, stream); break;
    case 4: launch_amax<std::uint32_t>(x, tensor, processors, stream); break;
    default: launch_amax<u64>(x, tensor, processors, stream);
  }
  tensor_scale_kernel<<<1, 1, 0, stream>>>(tensor, x.format, f);
  require_launched("the tensor scale on the device");
}

// ---------------------------------------------------------------- back to numbers

// Elements and scales of at most 8 bits each, by code, exactly.
struct ValueTables {
  float element[256];
  float scale[256];
};

ValueTables value_tables(const BlockFormat& f) {
  ValueTables t{};
  const auto value = [](const Unpacked<u128>& x) {
    return std::bit_cast<float>(
        static_cast<std::uint32_t>(round_pack(x, formats::binary32, {}).code));
  };
  for (u64 c = 0; c < 256; ++c) {
    t.element[c] = value(decode_element(c & low_mask<u64>(f.element_bits()), 0, f));
    t.scale[c] = value(unpack<u128>(c & low_mask<u64>(f.scale.width()), f.scale));
  }
  return t;
}

template <class Out>
__device__ inline Out canonical(Out y) {
  if constexpr (sizeof(Out) == 4)
    return y != y ? __uint_as_float(nan_bits) : y;
  else
    return y != y ? __longlong_as_double(0x7ff8000000000000ll) : y;
}

// Without a tensor scale and to binary32, the product of element and scale is rounded once by
// binary32's multiplication; else it is exact in binary64's, and rounded after.
template <class Out, bool two_level, bool packed>
__global__ void __launch_bounds__(threads)
    value_kernel(const std::uint8_t* codes, const std::uint8_t* scales, Out* out, u64 n,
                 int columns_shift, const TensorScale* tensor_scale,
                 const __grid_constant__ ValueTables tables) {
  using Unit = std::conditional_t<two_level, double, Out>;
  constexpr int size = 16 / sizeof(Out);  // elements of a group: of one block, stored at once
  constexpr int groups = 16 / size;
  using Codes = std::conditional_t<
      size*(packed ? 4 : 8) == 8, std::uint8_t,
      std::conditional_t<size*(packed ? 4 : 8) == 16, std::uint16_t, std::uint32_t>>;
  constexpr u64 step = static_cast<u64>(threads) * size;
  __shared__ Unit element[256];
  __shared__ Unit scale[256];
  const Unit tensor = two_level ? static_cast<Unit>(__uint_as_float(tensor_scale->code)) : Unit{1};
  element[threadIdx.x] = static_cast<Unit>(tables.element[threadIdx.x]);
  scale[threadIdx.x] = static_cast<Unit>(tables.scale[threadIdx.x]) * tensor;
  __syncthreads();
  const auto value = [&](std::uint32_t code, Unit unit) {
    return canonical(static_cast<Out>(element[code] * unit));
  };

  const u64 pieces = (n + groups * step - 1) / (groups * step);
  for (u64 piece = blockIdx.x; piece < pieces; piece += gridDim.x) {
    const u64 first = piece * groups * step + static_cast<u64>(threadIdx.x) * size;
    if ((piece + 1) * groups * step <= n) {
      std::uint32_t in[groups];
      std::uint8_t of[groups];
#pragma unroll
      for (int g = 0; g < groups; ++g) {
        const u64 at = first + static_cast<u64>(g) * step;
        in[g] = *reinterpret_cast<const Codes*>(codes + (packed ? at / 2 : at));
        of[g] = scales[at >> columns_shift];
      }
#pragma unroll
      for (int g = 0; g < groups; ++g) {
        const Unit unit = scale[of[g]];
        Pack<Out, size> y;
#pragma unroll
        for (int k = 0; k < size; ++k)
          y.at[k] = value(packed ? (in[g] >> (4 * k)) & 15u : (in[g] >> (8 * k)) & 255u, unit);
        *reinterpret_cast<Pack<Out, size>*>(out + first + static_cast<u64>(g) * step) = y;
      }
    } else {
      for (u64 i = piece * groups * step + threadIdx.x; i < n; i += threads) {
        const std::uint32_t code =
            packed ? (codes[i / 2] >> (4 * (i % 2))) & 15u : static_cast<std::uint32_t>(codes[i]);
        out[i] = value(code, scale[scales[i >> columns_shift]]);
      }
    }
  }
}

// ---------------------------------------------------------------- the core, element by element

// C-contiguous memory, seen as [outer][along][inner]; blocks cut `along`.
struct Cut {
  u64 outer = 1, along = 1, inner = 1, blocks = 1;  // blocks: along, of `columns` elements
  u64 columns = 1;
};

struct CoreArrays {
  std::byte* codes;
  std::byte* scales;
  std::int32_t* zero_points;
  const TensorScale* tensor;
  int code_bytes;  // 0: two codes to a byte
  int scale_bytes;
};

__device__ inline Unpacked<u128> tensor_value(const CoreArrays& a) {
  if (a.tensor == nullptr) return {.kind = Kind::finite, .exponent = 0, .significand = 1};
  return unpack<u128>(a.tensor->code, formats::binary32);
}

// One thread to a block of elements.
template <class S>
__global__ void __launch_bounds__(threads)
    core_quantize_kernel(const std::byte* x, int bytes, Format from, CoreArrays to, Cut cut,
                         BlockFormat f, Mode mode, RandomStream random) {
  const u64 block = static_cast<u64>(blockIdx.x) * threads + threadIdx.x;
  if (block >= cut.outer * cut.blocks * cut.inner) return;
  const u64 inner = block % cut.inner;
  const u64 begin = block / cut.inner % cut.blocks * cut.columns;
  const u64 outer = block / cut.inner / cut.blocks;
  const u64 end = min(begin + cut.columns, cut.along);
  const auto index = [&](u64 k) { return (outer * cut.along + k) * cut.inner + inner; };

  const int sign = from.width() - 1;
  u64 positive = 0, negative = 0;
  for (u64 k = begin; k < end; ++k) {
    const u64 bits = load(x + index(k) * static_cast<u64>(bytes), bytes);
    u64& side = ((bits >> sign) & 1) != 0 ? negative : positive;
    side = max(side, bits & low_mask<u64>(sign));
  }
  BlockExtent extent{.special = max(positive, negative) > static_cast<u64>(from.largest_code()) ||
                                (to.tensor != nullptr && !is_positive_finite(to.tensor->code))};
  if (!extent.special) {
    extent.positive = unpack<u128>(positive, from);
    extent.negative = unpack<u128>(negative, from);
  }
  const Unpacked<u128> tensor = tensor_value(to);
  const Unpacked<u128> amax =
      to.tensor != nullptr ? unpack<u128>(to.tensor->amax, from) : Unpacked<u128>{};
  const BlockScale s = block_scale(extent, f, tensor, amax);
  store(to.scales + block * static_cast<u64>(to.scale_bytes), s.code, to.scale_bytes);
  if (to.zero_points != nullptr) to.zero_points[block] = s.zero_point;

  const Unpacked<S> divisor =
      s.is_nan ? Unpacked<S>{} : detail::resized<S>(block_divisor(s.code, f, tensor));
  u64 low = 0;
  for (u64 k = begin; k < end; ++k) {
    const u64 i = index(k);
    u64 code = 0;
    if (s.is_nan) {
      code = 0;
    } else if (divisor.kind == Kind::zero) {
      code = zero_element_code(s.zero_point, f);
    } else {
      const RandomBits r = is_stochastic(mode) ? random.at(i) : RandomBits{};
      const u64 bits = load(x + i * static_cast<u64>(bytes), bytes);
      code =
          encode_element(unpack<S>(static_cast<S>(bits), from), divisor, s.zero_point, f, mode, r);
    }
    if (to.code_bytes != 0) {
      store(to.codes + i * static_cast<u64>(to.code_bytes), code, to.code_bytes);
    } else if (i % 2 == 0) {  // packed: blocks begin at even elements
      low = code;
      if (k + 1 == end) store(to.codes + i / 2, low, 1);
    } else {
      store(to.codes + i / 2, low | code << 4, 1);
    }
  }
}

__global__ void __launch_bounds__(threads)
    core_dequantize_kernel(CoreArrays from, std::byte* out, int bytes, Format to, Cut cut,
                           BlockFormat f, Mode mode) {
  const u64 i = static_cast<u64>(blockIdx.x) * threads + threadIdx.x;
  if (i >= cut.outer * cut.along * cut.inner) return;
  const u64 inner = i % cut.inner;
  const u64 along = i / cut.inner % cut.along;
  const u64 outer = i / cut.inner / cut.along;
  const u64 block = (outer * cut.blocks + along / cut.columns) * cut.inner + inner;
  const u64 code = from.code_bytes != 0
                       ? load(from.codes + i * static_cast<u64>(from.code_bytes), from.code_bytes)
                       : (static_cast<u64>(from.codes[i / 2]) >> (4 * (i % 2))) & 15;
  const u64 scale =
      load(from.scales + block * static_cast<u64>(from.scale_bytes), from.scale_bytes);
  const int zero_point = from.zero_points != nullptr ? from.zero_points[block] : 0;
  const Unpacked<u128> value = block_value(code, scale, zero_point, f, tensor_value(from));
  store(out + i * static_cast<u64>(bytes),
        static_cast<u64>(round_pack(value, to, {.mode = mode}).code), bytes);
}

// ---------------------------------------------------------------- what is done where

Cut cut_of(const BlockFormat& f, const BlockLayout& layout) {
  Cut cut{.columns = static_cast<u64>(f.columns)};
  // The axis is where the cut has another extent than 1; if none has (columns = 1), the last.
  std::size_t axis = layout.shape.empty() ? 0 : layout.shape.size() - 1;
  for (std::size_t d = 0; d < layout.extent.size(); ++d)
    if (layout.extent[d] != 1) axis = d;
  for (std::size_t d = 0; d < layout.shape.size(); ++d) {
    const auto extent = static_cast<u64>(layout.shape[d]);
    (d < axis ? cut.outer : d == axis ? cut.along : cut.inner) *= extent;
  }
  cut.blocks = (cut.along + cut.columns - 1) / cut.columns;
  return cut;
}

// Whether blocks are runs of memory, one after the other, of which only the last may be shorter.
bool is_flat(const Cut& cut) {
  return cut.inner == 1 && (cut.along % cut.columns == 0 || cut.outer == 1);
}

CoreArrays core_arrays(const DeviceBlocks& a, const BlockFormat& f) {
  return {.codes = static_cast<std::byte*>(a.codes.data),
          .scales = static_cast<std::byte*>(a.scales.data),
          .zero_points = is_affine(f.coding) ? a.zero_points : nullptr,
          .tensor = f.tensor_target != 0 ? a.tensor : nullptr,
          .code_bytes = a.packed ? 0 : static_cast<int>(size_of(a.codes.element)),
          .scale_bytes = static_cast<int>(size_of(a.scales.element))};
}

void require_matching(const DeviceBlocks& a, const BlockFormat& f, const BlockLayout& layout) {
  if (const auto problem = problem_with(f)) throw std::invalid_argument(*problem);
  if (f.grouping != Grouping::block || f.rows != 1) {
    throw std::invalid_argument(name_of(f) +
                                ": on a device blocks are 1 x n; square blocks and scales of "
                                "channels or tensors are for arrays of the host");
  }
  const auto room = [](const Array& codes, int bits, const char* what) {
    if (!holds_codes(codes.element) || static_cast<int>(8 * size_of(codes.element)) < bits ||
        (codes.size() != 0 && !codes.is_contiguous())) {
      throw std::invalid_argument(std::string(what) + " of " + std::to_string(bits) +
                                  " bits need a contiguous array of codes of as many");
    }
  };
  room(a.scales, f.scale.width(), "scales");
  if (a.scales.size() != layout.block_count())
    throw std::invalid_argument("there must be one scale for each block");
  if (a.packed && f.element_bits() != 4) {
    throw std::invalid_argument("elements of " + std::to_string(f.element_bits()) +
                                " bits; two codes to a byte are for elements of 4");
  }
  if (a.packed && a.codes.element != Element::code8)
    throw std::invalid_argument("packed codes are bytes");
  room(a.codes, a.packed ? 8 : f.element_bits(), "codes");
  std::size_t n = 1;
  for (const std::ptrdiff_t extent : layout.shape) n *= static_cast<std::size_t>(extent);
  if (a.codes.size() != (a.packed ? (n + 1) / 2 : n))
    throw std::invalid_argument("there must be one code for each element");
  if (a.packed && n != 0) {
    const Cut cut = cut_of(f, layout);
    if (!is_flat(cut) || cut.columns % 2 != 0) {
      throw std::invalid_argument(
          "two codes to a byte need blocks of an even number of elements along the last dimension, "
          "which must be whole blocks");
    }
  }
  if (is_affine(f.coding) && a.zero_points == nullptr && layout.block_count() != 0)
    throw std::invalid_argument("integers with a zero point need an array of zero points");
  if (f.tensor_target != 0 && a.tensor == nullptr)
    throw std::invalid_argument("a format with a tensor scale needs memory for it");
}

bool is_aligned_16(const void* p) {
  return is_aligned<uint4>(p);
}

bool is_mx(const BlockFormat& f) {
  return is_power_of_two_rule(f.rule) && f.scale == formats::float8_e8m0fnu && f.columns == 32 &&
         f.tensor_target == 0 && (f.coding == Coding::floating || f.coding == Coding::symmetric) &&
         f.element.subnormals && f.element.emin() >= -64 && f.element.emax() <= 64 &&
         f.element.least_quantum_exponent() >= -100 && f.element.has_negative_zero();
}
bool is_nvfp4(const BlockFormat& f) {
  return f.rule == ScaleRule::absmax && f.scale == formats::float8_e4m3fn && f.columns == 16 &&
         f.tensor_target != 0 && f.coding == Coding::floating &&
         f.element == formats::float4_e2m1fn;
}

Rounding saturating(Format f, Mode mode) {
  return {.mode = mode,
          .overflow = Overflow::saturate,
          .nan_to = f.has_nan() ? NanTo::error : NanTo::zero};
}

// Codes by the plan, without the rarer cases of its body.
bool has_plain_plan(Format f, Mode mode) {
  const Rounding rounding = saturating(f, mode);
  return has_float_plan<float>(f, rounding, 0, true) &&
         shape_of(make_float_plan<float>(f, rounding, 0, true), rounding, 0).plain;
}

template <class In, bool packed>
void launch_quantize(const Array& x, const DeviceBlocks& to, const BlockFormat& f, Mode mode,
                     cudaStream_t stream) {
  const u64 n = x.size();
  const auto blocks = static_cast<unsigned>((n + threads * elements - 1) / (threads * elements));
  const auto* values = static_cast<const typename In::Stored*>(x.data);
  auto* codes = static_cast<std::uint8_t*>(to.codes.data);
  auto* scales = static_cast<std::uint8_t*>(to.scales.data);
  if (is_mx(f)) {
    const auto plan = make_float_plan<float>(f.element, saturating(f.element, mode), 0, true);
    const auto kernel = f.coding == Coding::symmetric ? power_kernel<In, true, packed>
                                                      : power_kernel<In, false, packed>;
    kernel<<<blocks, threads, 0, stream>>>(values, codes, scales, n, plan, power_rule(f),
                                           31 - f.element.magnitude_bits(),
                                           low_mask<std::uint32_t>(f.element_bits()));
  } else {
    const auto plan = make_float_plan<float>(f.scale, saturating(f.scale, f.scale_mode), 0, true);
    const Points edge = points_of(f.element, mode);
    const auto kernel =
        is_by_sign(mode) ? two_level_kernel<In, true, packed> : two_level_kernel<In, false, packed>;
    kernel<<<blocks, threads, 0, stream>>>(values, codes, scales, n, to.tensor, plan, edge);
  }
  require_launched("quantising on the device");
}

template <bool packed>
void launch_quantize_from(const Array& x, const DeviceBlocks& to, const BlockFormat& f, Mode mode,
                          cudaStream_t stream) {
  switch (x.element) {
    case Element::binary16: return launch_quantize<Binary16, packed>(x, to, f, mode, stream);
    case Element::bfloat16: return launch_quantize<Bfloat16, packed>(x, to, f, mode, stream);
    default: return launch_quantize<Binary32, packed>(x, to, f, mode, stream);
  }
}

template <class Out, bool two_level, bool packed>
void launch_values(const DeviceBlocks& from, const Array& out, const BlockFormat& f,
                   cudaStream_t stream) {
  int device = 0, processors = 1;
  if (cudaGetDevice(&device) == cudaSuccess)
    cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  const u64 pieces = (out.size() + 16 * threads - 1) / (16 * threads);
  const auto blocks =
      static_cast<unsigned>(std::min<u64>(pieces, static_cast<u64>(processors) * 8));
  value_kernel<Out, two_level, packed><<<blocks, threads, 0, stream>>>(
      static_cast<const std::uint8_t*>(from.codes.data),
      static_cast<const std::uint8_t*>(from.scales.data), static_cast<Out*>(out.data), out.size(),
      bit_length(static_cast<u64>(f.columns)) - 1, from.tensor, value_tables(f));
  require_launched("dequantising on the device");
}

template <class Out>
void launch_values_to(const DeviceBlocks& from, const Array& out, const BlockFormat& f,
                      cudaStream_t stream) {
  if (f.tensor_target != 0) {
    if (from.packed) return launch_values<Out, true, true>(from, out, f, stream);
    return launch_values<Out, true, false>(from, out, f, stream);
  }
  if (from.packed) return launch_values<Out, false, true>(from, out, f, stream);
  return launch_values<Out, false, false>(from, out, f, stream);
}

}  // namespace

bool quantize_has_fast_path(const Array& x, const DeviceBlocks& to, const BlockFormat& f,
                            const BlockLayout& layout, Mode mode) {
  if (x.element != Element::binary32 && x.element != Element::binary16 &&
      x.element != Element::bfloat16)
    return false;
  if (is_stochastic(mode) || f.element_bits() > 8 || to.codes.element != Element::code8 ||
      to.scales.element != Element::code8 || !is_flat(cut_of(f, layout)))
    return false;
  if (!is_aligned_16(x.data) || !is_aligned_16(to.codes.data)) return false;
  if (is_mx(f)) return has_plain_plan(f.element, mode);
  return is_nvfp4(f) && has_plain_plan(f.scale, f.scale_mode);
}

void quantize(const Array& x, const DeviceBlocks& to, const BlockFormat& f,
              const BlockLayout& layout, Mode mode, const RandomStream& random, void* stream) {
  require_matching(to, f, layout);
  if (x.shape != layout.shape || holds_codes(x.element) || (x.size() != 0 && !x.is_contiguous()))
    throw std::invalid_argument("x must be a contiguous array of values, of the layout's shape");
  if (looks_at_elements(f.rule)) {
    throw std::invalid_argument("rule " + std::string(name_of(f.rule)) +
                                " is for arrays of the host; on a device choose one by the largest "
                                "magnitude, such as absmax");
  }
  if (!f.scale.has_nan()) {
    throw std::invalid_argument("a scale of " + name_of(f.scale) +
                                " cannot say that its block holds NaN, and a device cannot report "
                                "it without waiting; choose a scale format with NaN");
  }
  const u64 total = x.size();
  if (is_stochastic(mode) && (random.count < 1 || random.count > 64)) {
    throw std::invalid_argument("random_bits is " + std::to_string(random.count) +
                                ", but must be 1 to 64");
  }
  if (is_stochastic(mode) && total > 0 && random.offset + (total - 1) < random.offset) {
    throw std::invalid_argument("offset is " + std::to_string(random.offset) +
                                ", but must leave room below 2^64 for " + std::to_string(total) +
                                " elements");
  }
  const int needed = block_required_bits(f, x.format.precision, mode, random.count);
  if (needed > width_of<u128>) throw std::invalid_argument(too_wide(needed));
  const auto handle = static_cast<cudaStream_t>(stream);
  if (to.tensor_given) require_tensor_scale(f);
  if (f.tensor_target != 0 && !to.tensor_given) find_tensor_scale(x, to.tensor, f, handle);
  if (total == 0) return;
  if (quantize_has_fast_path(x, to, f, layout, mode)) {
    if (to.packed) return launch_quantize_from<true>(x, to, f, mode, handle);
    return launch_quantize_from<false>(x, to, f, mode, handle);
  }
  const Cut cut = cut_of(f, layout);
  const auto blocks =
      static_cast<unsigned>((cut.outer * cut.blocks * cut.inner + threads - 1) / threads);
  const auto* values = static_cast<const std::byte*>(x.data);
  const auto bytes = static_cast<int>(size_of(x.element));
  if (needed <= width_of<u64>) {
    core_quantize_kernel<u64><<<blocks, threads, 0, handle>>>(
        values, bytes, x.format, core_arrays(to, f), cut, f, mode, random);
  } else {
    core_quantize_kernel<u128><<<blocks, threads, 0, handle>>>(
        values, bytes, x.format, core_arrays(to, f), cut, f, mode, random);
  }
  require_launched("quantising on the device");
}

bool dequantize_has_fast_path(const DeviceBlocks& from, const Array& out, const BlockFormat& f,
                              const BlockLayout& layout, Mode mode) {
  if (out.element != Element::binary32 && out.element != Element::binary64) return false;
  const auto moderate = [](Format g) {
    return holds_every_value(formats::binary32, g) && g.least_quantum_exponent() >= -300;
  };
  return mode == Mode::nearest_even && f.element_bits() <= 8 && f.scale.width() <= 8 &&
         from.codes.element == Element::code8 && from.scales.element == Element::code8 &&
         !is_affine(f.coding) && moderate(f.scale) && moderate(f.element) && f.columns >= 4 &&
         (f.columns & (f.columns - 1)) == 0 && is_flat(cut_of(f, layout)) &&
         is_aligned_16(from.codes.data) && is_aligned_16(out.data);
}

void dequantize(const DeviceBlocks& from, const Array& out, const BlockFormat& f,
                const BlockLayout& layout, Mode mode, void* stream) {
  require_matching(from, f, layout);
  if (out.shape != layout.shape || holds_codes(out.element) ||
      (out.size() != 0 && !out.is_contiguous()))
    throw std::invalid_argument("out must be a contiguous array of values, of the layout's shape");
  if (is_stochastic(mode))
    throw std::invalid_argument("the rounding of dequantize must be deterministic");
  const u64 n = out.size();
  if (n == 0) return;
  const auto handle = static_cast<cudaStream_t>(stream);
  if (dequantize_has_fast_path(from, out, f, layout, mode)) {
    if (out.element == Element::binary32) return launch_values_to<float>(from, out, f, handle);
    return launch_values_to<double>(from, out, f, handle);
  }
  const auto blocks = static_cast<unsigned>((n + threads - 1) / threads);
  core_dequantize_kernel<<<blocks, threads, 0, handle>>>(
      core_arrays(from, f), static_cast<std::byte*>(out.data),
      static_cast<int>(size_of(out.element)), out.format, cut_of(f, layout), f, mode);
  require_launched("dequantising on the device");
}

}  // namespace halfulp::cuda
