#include "emu/arrays/cuda/round.hpp"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "emu/arrays/cuda/launch.cuh"
#include "emu/core/float_plan.hpp"
#include "emu/names.hpp"

namespace halfulp::cuda {
namespace {

constexpr int threads = 256;
// A thread takes groups of 16 bytes of x, neighbours in a warp neighbouring groups.
constexpr int groups = 2;

// How elements lie in memory, and the float that carries them: exact both ways.
struct Binary32 {
  using Stored = std::uint32_t;
  using Carrier = float;
  __device__ static std::uint32_t load(Stored v) { return v; }
  __device__ static Stored store(std::uint32_t y) { return y; }
};
struct Binary64 {
  using Stored = u64;
  using Carrier = double;
  __device__ static u64 load(Stored x) { return x; }
  __device__ static Stored store(u64 y) { return y; }
};
struct Binary16 {
  using Stored = std::uint16_t;
  using Carrier = float;
  __device__ static std::uint32_t load(Stored x) {
    return __float_as_uint(__half2float(__ushort_as_half(x)));
  }
  __device__ static Stored store(std::uint32_t y) {
    // __float2half_rn keeps a NaN a NaN, but not which.
    const Stored h = __half_as_ushort(__float2half_rn(__uint_as_float(y)));
    return (y & 0x7fffffffu) > 0x7f800000u ? static_cast<Stored>(formats::binary16.nan_code()) : h;
  }
};
struct Bfloat16 {
  using Stored = std::uint16_t;
  using Carrier = float;
  __device__ static std::uint32_t load(Stored x) { return static_cast<std::uint32_t>(x) << 16; }
  __device__ static Stored store(std::uint32_t y) { return static_cast<Stored>(y >> 16); }
};
template <class T>
struct Codes {
  using Stored = T;
  template <class Bits>
  __device__ static T store(Bits y) {
    return static_cast<T>(y);
  }
};
// Codes of 4 bits, two a byte, the first in the low bits. What is computed is a byte for each.
struct Packed4 : Codes<std::uint8_t> {};
template <class Out>
inline constexpr bool is_codes = std::is_base_of_v<Codes<std::uint8_t>, Out>;
template <>
inline constexpr bool is_codes<Codes<std::uint16_t>> = true;
template <class Out>
inline constexpr bool is_packed = std::is_same_v<Out, Packed4>;

// R of the elements of a thread's groups, left-aligned.
template <class Random, int size>
struct ThreadBits {
  Random at[groups][size];
};

__device__ inline Philox4 random_block(const RandomStream& random, u64 b) {
  return philox4x32_10({{static_cast<std::uint32_t>(b), static_cast<std::uint32_t>(b >> 32),
                         random.tensor, random.step}},
                       static_cast<std::uint32_t>(random.seed),
                       static_cast<std::uint32_t>(random.seed >> 32));
}

// Groups begin at `first` and every `step` elements; a warp's groups are neighbours and all of it
// is here. offset + first is a multiple of the group's size, and that of the warp's first lane one
// of 16, so four binary32 elements have one (r <= 8), two (r <= 16) or four words of one block:
// lanes that share blocks each make some of them and give each other the words.
template <class Random, int size>
__device__ inline ThreadBits<Random, size> thread_bits(const RandomStream& random, u64 first,
                                                       u64 step) {
  ThreadBits<Random, size> r;
  const int count = random.count;
  const u64 from = random.offset + first;
  if constexpr (sizeof(Random) == 4 && size == 4) {
    const std::uint32_t mask = ~low_mask<std::uint32_t>(32 - count);
    static_assert(groups == 2);
    if (count > 16) {
#pragma unroll
      for (int g = 0; g < groups; ++g) {
        const Philox4 w = random_block(random, (from + static_cast<u64>(g) * step) / 4);
#pragma unroll
        for (int k = 0; k < 4; ++k) r.at[g][k] = w.word[k] & mask;
      }
      return r;
    }
    const bool odd = (threadIdx.x & 1) != 0;
    const u64 mine = from + (odd ? step : 0);  // even lanes make the first group's block
    if (count > 8) {
      const Philox4 w = random_block(random, mine / 8);
      const std::uint32_t a = __shfl_xor_sync(~0u, odd ? w.word[0] : w.word[2], 1);
      const std::uint32_t b = __shfl_xor_sync(~0u, odd ? w.word[1] : w.word[3], 1);
      const std::uint32_t words[2][2] = {{odd ? a : w.word[0], odd ? b : w.word[1]},
                                         {odd ? w.word[2] : a, odd ? w.word[3] : b}};
#pragma unroll
      for (int g = 0; g < groups; ++g) {
#pragma unroll
        for (int k = 0; k < 4; ++k)
          r.at[g][k] = ((k & 1) != 0 ? words[g][k / 2] : words[g][k / 2] << 16) & mask;
      }
      return r;
    }
    const Philox4 w = random_block(random, mine / 16);
    const bool high = (threadIdx.x & 2) != 0;
    const std::uint32_t even_word = high ? w.word[2] : w.word[0];
    const std::uint32_t odd_word = high ? w.word[3] : w.word[1];
    const std::uint32_t own = odd ? odd_word : even_word;
    const std::uint32_t other = __shfl_xor_sync(~0u, odd ? even_word : odd_word, 1);
    const std::uint32_t words[2] = {odd ? other : own, odd ? own : other};
#pragma unroll
    for (int g = 0; g < groups; ++g) {
#pragma unroll
      for (int k = 0; k < 4; ++k) r.at[g][k] = (words[g] << (24 - 8 * k)) & mask;
    }
  } else if (sizeof(Random) == 8 && count > 32) {
#pragma unroll
    for (int g = 0; g < groups; ++g) {
      const u64 at = from + static_cast<u64>(g) * step;
#pragma unroll
      for (int k = 0; k < size; k += 2) {
        const Philox4 w = random_block(random, (at + static_cast<u64>(k)) / 2);
        const u64 mask = ~low_mask<u64>(64 - count);
        r.at[g][k] = static_cast<Random>((w.word[0] | static_cast<u64>(w.word[1]) << 32) & mask);
        r.at[g][k + 1] =
            static_cast<Random>((w.word[2] | static_cast<u64>(w.word[3]) << 32) & mask);
      }
    }
  } else {
    // 16-bit and binary64 elements with r <= 32: each lane makes its own blocks.
    const int bits = count <= 8 ? 8 : count <= 16 ? 16 : 32;
    const Random mask = static_cast<Random>(~low_mask<Random>(width_of<Random> - count));
#pragma unroll
    for (int g = 0; g < groups; ++g) {
      const u64 at = from + static_cast<u64>(g) * step;
      std::uint32_t words[8];  // those of the group, its first first
      const u64 bit = at * static_cast<u64>(bits);
      const Philox4 w = random_block(random, bit / 128);
      const int start = static_cast<int>(bit % 128) / 32;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int n = (start + k) & 3;  // no indexing of registers
        words[k] = (n & 2) != 0 ? ((n & 1) != 0 ? w.word[3] : w.word[2])
                                : ((n & 1) != 0 ? w.word[1] : w.word[0]);
      }
      if (size == 8 && bits == 32) {
        const Philox4 next = random_block(random, bit / 128 + 1);
#pragma unroll
        for (int k = 0; k < 4; ++k) words[4 + k] = next.word[k];
      }
      const int shift = static_cast<int>(bit % 32);  // not 0 only for two elements of 8 or 16 bits
#pragma unroll
      for (int k = 0; k < size; ++k) {
        const std::uint32_t taken = bits == 32   ? words[k]
                                    : bits == 16 ? (words[k / 2] >> shift) << (16 - 16 * (k % 2))
                                                 : (words[k / 4] >> shift) << (24 - 8 * (k % 4));
        r.at[g][k] =
            static_cast<Random>(static_cast<Random>(taken) << (width_of<Random> - 32)) & mask;
      }
    }
  }
  return r;
}

template <class In, class Out, Body body, bool plain, class Random>
__global__ void __launch_bounds__(threads)
    fast_kernel(const typename In::Stored* x, typename Out::Stored* y, u64 n,
                const __grid_constant__ FloatPlan<typename In::Carrier> plan,
                const __grid_constant__ RandomStream random) {
  using F = typename In::Carrier;
  using Bits = typename FloatTraits<F>::Bits;
  using Stored = typename In::Stored;
  using Result = typename Out::Stored;
  constexpr int size = 16 / sizeof(Stored);  // elements of a group
  constexpr u64 step = static_cast<u64>(threads) * size;
  constexpr bool stochastic = body != Body::deterministic;
  constexpr int share = is_packed<Out> ? 2 : 1;  // elements to one Result in memory
  const auto finite = [&](Bits v, Random r) {
    return finish<F, is_codes<Out>, plain>(
        v, round_magnitude<F, body, is_codes<Out>, plain>(v, plan, r), plan);
  };
  const auto result = [&](u64 i) {
    const Bits v = In::load(x[i]);
    const Random r = stochastic ? left_aligned<Random>(random.at(i)) : Random{0};
    return Out::store(is_special<F>(v) ? special_result(v, plan) : finite(v, r));
  };
  const u64 block = static_cast<u64>(blockIdx.x) * groups * step;
  const u64 first = block + static_cast<u64>(threadIdx.x) * size;

  if (block + groups * step <= n) {
    Pack<Stored, size> in[groups];
#pragma unroll
    for (int g = 0; g < groups; ++g)
      in[g] = *reinterpret_cast<const Pack<Stored, size>*>(x + first + static_cast<u64>(g) * step);
    ThreadBits<Random, size> bits{};
    if constexpr (stochastic) bits = thread_bits<Random, size>(random, first, step);
#pragma unroll
    for (int g = 0; g < groups; ++g) {
      Pack<Result, size> out;
      F witness =
          0;  // 0·x is NaN for the infinities and NaN: on a pipe that has nothing else to do
#pragma unroll
      for (int k = 0; k < size; ++k) {
        const Bits v = In::load(in[g].at[k]);
        out.at[k] = Out::store(finite(v, bits.at[g][k]));
        witness = fma(std::bit_cast<F>(v), F{0}, witness);
      }
      if (witness != 0) {  // rare; NaN is not 0
#pragma unroll
        for (int k = 0; k < size; ++k) {
          const Bits v = In::load(in[g].at[k]);
          if (is_special<F>(v)) out.at[k] = Out::store(special_result(v, plan));
        }
      }
      Pack<Result, size / share> stored;
#pragma unroll
      for (int k = 0; k < size / share; ++k) {
        if constexpr (is_packed<Out>)
          stored.at[k] = static_cast<Result>(out.at[2 * k] | out.at[2 * k + 1] << 4);
        else
          stored.at[k] = out.at[k];
      }
      *reinterpret_cast<Pack<Result, size / share>*>(y + (first + static_cast<u64>(g) * step) /
                                                             share) = stored;
    }
  } else {
    for (u64 i = block + threadIdx.x * share; i < n; i += threads * share) {
      if constexpr (is_packed<Out>)
        y[i / 2] = static_cast<Result>(result(i) | (i + 1 < n ? result(i + 1) << 4 : 0));
      else
        y[i] = result(i);
    }
  }
}

// ---------------------------------------------------------------- 16-bit inputs, by a table
//
// Deterministic rounding of 16 bits is a function of 65536 codes. Half the bytes of binary32 leave
// room for half the operations, so large arrays look their results up: every block (one to a
// multiprocessor, it loops) makes the table in its shared memory. A lookup is a shift and a logical
// operation for each two elements, an address, and a load in which 32 lanes at random meet about
// 3.5 times in one of 32 banks.

constexpr int table_threads = 1024;
constexpr int table_groups = 2;
// Below this many elements making the table costs more than it saves.
constexpr u64 table_least = u64{1} << 24;

// Where an entry lies. The bank is a code's low bits, exclusive-or bits further up: elements that
// came from a narrower format have zeros in the low ones. For both halves of a word at once.
template <class Entry>
constexpr std::uint32_t table_places(std::uint32_t codes) {
  return sizeof(Entry) == 2 ? codes ^ ((codes >> 6) & 0x003e003eu)
                            : codes ^ ((codes >> 5) & 0x007c007cu);
}

// Magnitudes (codes of the 16-bit type) from 1 up to `low` have one result, by sign, and so have
// all finite ones from `high` on: most of bfloat16's. Both begin binades, as `infinity` does.
struct TableEdges {
  std::uint32_t low, high, infinity;
};
TableEdges table_edges(Format in, Format f) {
  const auto power = [&](int e) {
    return e < in.emin()   ? 1u
           : e > in.emax() ? static_cast<std::uint32_t>(in.infinity_code())
                           : static_cast<std::uint32_t>(e - in.emin() + 1) << in.fraction_bits();
  };
  return {power(f.least_quantum_exponent() - 1), power(f.emax() + 1),
          static_cast<std::uint32_t>(in.infinity_code())};
}

template <class In, class Out, bool plain>
__global__ void __launch_bounds__(table_threads, 1)
    table_kernel(const std::uint16_t* x, typename Out::Stored* y, u64 n,
                 const __grid_constant__ FloatPlan<float> plan, TableEdges edges) {
  using Entry = typename Out::Stored;
  constexpr int size = 8;
  constexpr u64 step = static_cast<u64>(table_threads) * size;
  constexpr u64 piece = table_groups * step;
  constexpr int per_word = 4 / sizeof(Entry);
  extern __shared__ std::uint32_t words[];
  const Entry* table = reinterpret_cast<const Entry*>(words);

  const u64 lane = static_cast<u64>(threadIdx.x) * size;
  u64 at = blockIdx.x * piece;
  uint4 in[table_groups] = {};
  const auto fetch = [&](u64 from) {
#pragma unroll
    for (int g = 0; g < table_groups; ++g)
      in[g] = *reinterpret_cast<const uint4*>(x + from + lane + static_cast<u64>(g) * step);
  };
  if (at + piece <= n) fetch(at);

  // Words of positive codes, and those of the same codes with a sign.
  constexpr std::uint32_t sign = 0x80000000u;
  constexpr std::uint32_t half = 32768 / per_word;
  const auto rounded = [&](std::uint32_t v) {
    return round_magnitude<float, Body::deterministic, is_codes<Out>, plain>(v, plan, 0u);
  };
  const auto finished = [&](std::uint32_t v, std::uint32_t magnitude) -> std::uint32_t {
    return Out::store(finish<float, is_codes<Out>, plain>(v, magnitude, plan));
  };
  constexpr std::uint32_t everywhere = sizeof(Entry) == 2 ? 0x00010001u : 0x01010101u;
  const std::uint32_t tiny[2] = {finished(1, rounded(1)) * everywhere,
                                 finished(sign | 1, rounded(sign | 1)) * everywhere};
  const std::uint32_t over[2] = {Out::store(plan.overflow[0]) * everywhere,
                                 Out::store(plan.overflow[1]) * everywhere};
  const bool by_sign = plan.sign_bit != 0;
  for (std::uint32_t w = threadIdx.x; w < half; w += table_threads) {
    const std::uint32_t first = table_places<Entry>(w * per_word);  // its own inverse
    std::uint32_t positive = first < edges.low ? tiny[0] : over[0];
    std::uint32_t negative = first < edges.low ? tiny[1] : over[1];
    if (first == 0 || (first >= edges.low && first < edges.high) || first >= edges.infinity) {
      positive = negative = 0;
#pragma unroll
      for (int k = 0; k < per_word; ++k) {
        const std::uint32_t v = In::load(static_cast<std::uint16_t>(first + k));
        std::uint32_t a = 0, b = 0;
        if (is_special<float>(v)) {
          a = Out::store(special_result(v, plan));
          b = Out::store(special_result(v | sign, plan));
        } else {
          const std::uint32_t r = rounded(v);
          a = finished(v, r);
          b = finished(v | sign, by_sign ? rounded(v | sign) : r);
        }
        positive |= a << (8 * sizeof(Entry) * k);
        negative |= b << (8 * sizeof(Entry) * k);
      }
    }
    words[w] = positive;
    words[w + half] = negative;
  }
  __syncthreads();

  const u64 stride = gridDim.x * piece;
  for (; at + piece <= n; at += stride) {
    uint4 now[table_groups];
#pragma unroll
    for (int g = 0; g < table_groups; ++g) now[g] = in[g];
    if (at + stride + piece <= n) fetch(at + stride);
#pragma unroll
    for (int g = 0; g < table_groups; ++g) {
      const std::uint32_t pairs[4] = {now[g].x, now[g].y, now[g].z, now[g].w};
      Pack<Entry, size> out;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const std::uint32_t places = table_places<Entry>(pairs[k]);
        out.at[2 * k] = table[places & 0xffffu];
        out.at[2 * k + 1] = table[places >> 16];
      }
      *reinterpret_cast<Pack<Entry, size>*>(y + at + lane + static_cast<u64>(g) * step) = out;
    }
  }
  if (at < n && at + piece > n) {  // of one block
    for (u64 i = at + threadIdx.x; i < n; i += table_threads)
      y[i] = table[table_places<Entry>(x[i])];
  }
}

// Whether it was launched: not on devices with too little shared memory.
template <class In, class Out>
bool launch_table(const Array& x, const Array& out, Format f, const FloatPlan<float>& plan,
                  bool plain, cudaStream_t stream) {
  using Entry = typename Out::Stored;
  constexpr int bytes = 65536 * sizeof(Entry);
  int device = 0, room = 0, processors = 0;
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&room, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) !=
          cudaSuccess ||
      cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device) != cudaSuccess ||
      room < bytes)
    return false;
  const auto kernel = plain ? table_kernel<In, Out, true> : table_kernel<In, Out, false>;
  if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes) !=
      cudaSuccess)
    return false;
  kernel<<<static_cast<unsigned>(processors), table_threads, bytes, stream>>>(
      static_cast<const std::uint16_t*>(x.data), static_cast<Entry*>(out.data), out.size(), plan,
      table_edges(x.format, f));
  require_launched("rounding on the device by a table");
  return true;
}

template <class In, class Out, Body body, bool plain, class Random>
void launch_kernel(const Array& x, const Array& out, const FloatPlan<typename In::Carrier>& plan,
                   const RandomStream& random, cudaStream_t stream) {
  constexpr u64 per_block = static_cast<u64>(threads) * groups * (16 / sizeof(typename In::Stored));
  const u64 n = out.size();
  const auto blocks = static_cast<unsigned>((n + per_block - 1) / per_block);
  fast_kernel<In, Out, body, plain, Random><<<blocks, threads, 0, stream>>>(
      static_cast<const typename In::Stored*>(x.data), static_cast<typename Out::Stored*>(out.data),
      n, plan, random);
  require_launched("rounding on the device");
}

template <class In, class Out>
void launch(const Array& x, const Array& out, Format f, const Rounding& rounding,
            const RandomStream& random, cudaStream_t stream) {
  using F = typename In::Carrier;
  const FloatPlan<F> plan = make_float_plan<F>(f, rounding, random.count, is_codes<Out>);
  const FloatPlanShape shape = shape_of(plan, rounding, random.count);
  // One body for each shape; the rare ones share the less special.
  constexpr Body any = Body::stochastic_any;
  if (shape.body != Body::deterministic) {
    // 64 random bits of a format with subnormals of its own.
    const bool two_sums = sizeof(F) == 4 && plan.finer[1] != 0 && plan.finer[2] == 0 && !plan.equal;
    if (shape.wide_random && shape.plain && two_sums) {
      launch_kernel<In, Out, Body::stochastic_finer2, true, u64>(x, out, plan, random, stream);
    } else if (shape.wide_random && shape.plain) {
      launch_kernel<In, Out, any, true, u64>(x, out, plan, random, stream);
    } else if (shape.wide_random) {
      launch_kernel<In, Out, any, false, u64>(x, out, plan, random, stream);
    } else if (shape.plain) {
      launch_kernel<In, Out, any, true, std::uint32_t>(x, out, plan, random, stream);
    } else {
      launch_kernel<In, Out, any, false, std::uint32_t>(x, out, plan, random, stream);
    }
    return;
  }
  if constexpr (sizeof(typename In::Stored) == 2 && !is_packed<Out>) {
    if (out.size() >= table_least && launch_table<In, Out>(x, out, f, plan, shape.plain, stream))
      return;
  }
  if (shape.plain) {
    launch_kernel<In, Out, Body::deterministic, true, std::uint32_t>(x, out, plan, random, stream);
  } else {
    launch_kernel<In, Out, Body::deterministic, false, std::uint32_t>(x, out, plan, random, stream);
  }
}

template <class In>
void launch_from(const Array& x, const Array& out, Format f, const Rounding& rounding,
                 const RandomStream& random, cudaStream_t stream) {
  switch (out.element) {
    case Element::code8:
      return launch<In, Codes<std::uint8_t>>(x, out, f, rounding, random, stream);
    case Element::code16:
      return launch<In, Codes<std::uint16_t>>(x, out, f, rounding, random, stream);
    default: return launch<In, In>(x, out, f, rounding, random, stream);
  }
}

// ---------------------------------------------------------------- the core, element by element

constexpr int max_dimensions = 8;
struct Strided {
  std::byte* data;
  std::int64_t strides[max_dimensions];
  int bytes;
  Format format;
  bool values;
};
struct Shape {
  std::int64_t extent[max_dimensions];
  int dimensions;
};

__device__ inline std::byte* address(const Strided& a, const Shape& shape, u64 index) {
  std::byte* at = a.data;
  for (int d = shape.dimensions; d-- > 0;) {
    const u64 extent = static_cast<u64>(shape.extent[d]);
    at += static_cast<std::int64_t>(index % extent) * a.strides[d];
    index /= extent;
  }
  return at;
}

template <class S>
__global__ void __launch_bounds__(threads)
    core_kernel(Strided x, Strided out, Shape shape, u64 n, Format f, Rounding rounding,
                RandomStream random, std::uint8_t* flags) {
  const u64 i = static_cast<u64>(blockIdx.x) * threads + threadIdx.x;
  if (i >= n) return;
  const Unpacked<S> v = unpack<S>(load(address(x, shape, i), x.bytes), x.format);
  const RandomBits bits = is_stochastic(rounding.mode) ? random.at(i) : RandomBits{};
  const Packed<S> y = round_pack(v, f, rounding, bits);
  const S code = out.values ? round_pack(unpack(y.code, f), out.format, {}).code : y.code;
  store(address(out, shape, i), static_cast<u64>(code), out.bytes);
  if (flags != nullptr) flags[i] = y.flags & ieee_flags;
}

template <class S>
__global__ void __launch_bounds__(threads)
    packed_core_kernel(const std::byte* x, int bytes, Format from, std::uint8_t* out, u64 n,
                       Format f, Rounding rounding, RandomStream random) {
  const u64 first = 2 * (static_cast<u64>(blockIdx.x) * threads + threadIdx.x);
  if (first >= n) return;
  unsigned both = 0;
  for (u64 i = first; i < n && i < first + 2; ++i) {
    const Unpacked<S> v = unpack<S>(load(x + i * static_cast<u64>(bytes), bytes), from);
    const RandomBits bits = is_stochastic(rounding.mode) ? random.at(i) : RandomBits{};
    both |= static_cast<unsigned>(round_pack(v, f, rounding, bits).code) << (4 * (i - first));
  }
  out[first / 2] = static_cast<std::uint8_t>(both);
}

Strided strided(const Array& a) {
  Strided s{static_cast<std::byte*>(a.data),
            {},
            static_cast<int>(size_of(a.element)),
            a.format,
            !holds_codes(a.element)};
  for (std::size_t d = 0; d < a.strides.size(); ++d) s.strides[d] = a.strides[d];
  return s;
}

__global__ void __launch_bounds__(threads) copy_kernel(const uint4* from, uint4* to, u64 n) {
  const u64 at = static_cast<u64>(blockIdx.x) * groups * threads + threadIdx.x;
  uint4 v[groups];
#pragma unroll
  for (int g = 0; g < groups; ++g)
    if (at + static_cast<u64>(g) * threads < n) v[g] = from[at + static_cast<u64>(g) * threads];
#pragma unroll
  for (int g = 0; g < groups; ++g)
    if (at + static_cast<u64>(g) * threads < n) to[at + static_cast<u64>(g) * threads] = v[g];
}

// Sizes and offsets for which groups are whole, as fast_kernel needs them.
bool is_in_groups(const Array& x, const void* out, const Rounding& rounding,
                  const RandomStream& random) {
  return is_aligned<uint4>(x.data) && is_aligned<uint4>(out) && x.is_contiguous() &&
         (!is_stochastic(rounding.mode) || random.offset % 16 == 0);
}

void require_no_report(Format f, const Rounding& rounding) {
  if (rounding.overflow == Overflow::error) {
    throw std::invalid_argument(
        "overflow='error' cannot be reported from a device without waiting for it; choose another "
        "overflow "
        "policy, such as 'saturate', and look at the flags");
  }
  if (!f.has_nan() && rounding.nan_to == NanTo::error) {
    throw std::invalid_argument(
        "nan_to='error' cannot be reported from a device without waiting for it; " + name_of(f) +
        " has no NaN, so choose nan_to 'largest' or 'zero'");
  }
}

}  // namespace

bool has_fast_path(Element x, const Array& out, Format f, const Rounding& rounding,
                   int random_count) {
  if (holds_codes(x)) return false;
  const bool codes = holds_codes(out.element);
  if (codes && out.element != Element::code8 && out.element != Element::code16) return false;
  if (!codes && (out.element != x || !holds_every_value(format_of(x), f))) return false;
  return x == Element::binary64 ? has_float_plan<double>(f, rounding, random_count, codes)
                                : has_float_plan<float>(f, rounding, random_count, codes);
}

void round(const Array& x, const Array& out, Format f, const Rounding& rounding,
           const RandomStream& random, std::uint8_t* flags, void* stream) {
  require_valid(1, {&x, 1}, out, f, rounding, random);
  require_no_report(f, rounding);
  if (out.shape.size() > max_dimensions) {
    throw std::invalid_argument("an array of " + std::to_string(out.shape.size()) +
                                " dimensions; arrays on a device have 8 at most, so reshape it");
  }
  const u64 n = out.size();
  if (n == 0) return;
  const auto handle = static_cast<cudaStream_t>(stream);

  if (flags == nullptr && is_in_groups(x, out.data, rounding, random) && out.is_contiguous() &&
      has_fast_path(x.element, out, f, rounding, random.count)) {
    switch (x.element) {
      case Element::binary16: return launch_from<Binary16>(x, out, f, rounding, random, handle);
      case Element::bfloat16: return launch_from<Bfloat16>(x, out, f, rounding, random, handle);
      case Element::binary32: return launch_from<Binary32>(x, out, f, rounding, random, handle);
      default: return launch_from<Binary64>(x, out, f, rounding, random, handle);
    }
  }

  Shape shape{{}, static_cast<int>(out.shape.size())};
  for (std::size_t d = 0; d < out.shape.size(); ++d) shape.extent[d] = out.shape[d];
  const int width =
      std::max(x.format.width(), holds_codes(out.element) ? f.width() : out.format.width());
  const int needed =
      required_bits(Operation::convert, x.format.precision, f, width, rounding.mode, random.count);
  const auto blocks = static_cast<unsigned>((n + threads - 1) / threads);
  if (needed <= width_of<u64>) {
    core_kernel<u64><<<blocks, threads, 0, handle>>>(strided(x), strided(out), shape, n, f,
                                                     rounding, random, flags);
  } else if (needed <= width_of<u128>) {
    core_kernel<u128><<<blocks, threads, 0, handle>>>(strided(x), strided(out), shape, n, f,
                                                      rounding, random, flags);
  } else {
    throw std::invalid_argument(too_wide(needed));
  }
  require_launched("rounding on the device");
}

void encode_packed(const Array& x, std::uint8_t* out, Format f, const Rounding& rounding,
                   const RandomStream& random, void* stream) {
  Array codes{out, Element::code8, f, x.shape, x.strides};
  for (std::ptrdiff_t& stride : codes.strides)
    stride /= static_cast<std::ptrdiff_t>(size_of(x.element));
  require_valid(1, {&x, 1}, codes, f, rounding, random);
  require_no_report(f, rounding);
  if (f.width() != 4) {
    throw std::invalid_argument(name_of(f) + " has " + std::to_string(f.width()) +
                                " bits; two codes to a byte are for formats of 4");
  }
  const u64 n = x.size();
  if (n != 0 && !x.is_contiguous())
    throw std::invalid_argument("x must be contiguous for codes that are packed");
  if (n == 0) return;
  const auto handle = static_cast<cudaStream_t>(stream);
  if (is_in_groups(x, out, rounding, random) &&
      has_fast_path(x.element, codes, f, rounding, random.count)) {
    switch (x.element) {
      case Element::binary16:
        return launch<Binary16, Packed4>(x, codes, f, rounding, random, handle);
      case Element::bfloat16:
        return launch<Bfloat16, Packed4>(x, codes, f, rounding, random, handle);
      case Element::binary32:
        return launch<Binary32, Packed4>(x, codes, f, rounding, random, handle);
      default: break;
    }
  }
  const int needed = required_bits(Operation::convert, x.format.precision, f, x.format.width(),
                                   rounding.mode, random.count);
  const auto blocks = static_cast<unsigned>((n + 2 * threads - 1) / (2 * threads));
  const auto* values = static_cast<const std::byte*>(x.data);
  const auto bytes = static_cast<int>(size_of(x.element));
  if (needed <= width_of<u64>) {
    packed_core_kernel<u64>
        <<<blocks, threads, 0, handle>>>(values, bytes, x.format, out, n, f, rounding, random);
  } else if (needed <= width_of<u128>) {
    packed_core_kernel<u128>
        <<<blocks, threads, 0, handle>>>(values, bytes, x.format, out, n, f, rounding, random);
  } else {
    throw std::invalid_argument(too_wide(needed));
  }
  require_launched("encoding on the device");
}

void copy(const void* from, void* to, std::size_t bytes, void* stream) {
  if (bytes % 16 != 0 || !is_aligned<uint4>(from) || !is_aligned<uint4>(to))
    throw std::invalid_argument("the copy kernel takes whole, aligned pieces of 16 bytes");
  const u64 n = bytes / 16;
  const auto blocks = static_cast<unsigned>((n + groups * threads - 1) / (groups * threads));
  if (n == 0) return;
  copy_kernel<<<blocks, threads, 0, static_cast<cudaStream_t>(stream)>>>(
      static_cast<const uint4*>(from), static_cast<uint4*>(to), n);
  require_launched("copy on the device");
}

}  // namespace halfulp::cuda
