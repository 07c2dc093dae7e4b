// One query a head against all keys: each byte of k and v is used once for each query head of its
// group, so this is a matter of memory, and CUDA cores keep up with it.
//
// A part is a run of keys of one head of k and v, for one block of four warps. In a warp width / 8
// lanes share a key, 16 bytes each; every such team keeps (m, ℓ, O) of its own, for up to 8 query
// heads, and takes `ahead` keys at a time, k and v loaded before the first is used. Teams, warps
// and parts are merged in their order, each time by
//
//   (m, ℓ, O) ⊕ (m', ℓ', O') = (M, αℓ + α'ℓ', αO + α'O'), M = max(m, m'), α = exp2((m − M) · s)
//
// (Lean Attention, arXiv:2405.10480), of which (−∞, 0, 0) is the identity.
#include <algorithm>
#include <stdexcept>

#include "emu/arrays/cuda/launch.cuh"
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/hopper.cuh"

namespace halfulp::kernels::cuda {
namespace {

using halfulp::cuda::require_launched;
using hopper::u32;

constexpr float infinity = __builtin_huge_valf();
constexpr int warps = 4, least_part = 64;

struct Work {
  const std::uint16_t *q, *k, *v;
  std::uint16_t* out;
  float* lse;
  float* parts;  // (part, row of q, width + 2): O, m, ℓ
  AttentionStrides q_stride, k_stride, v_stride, out_stride;
  float scale;
  int keys, heads, heads_kv, group, pieces;  // pieces of `taken` heads make a group of query heads
  int part, count;                           // keys of a part; parts
  int rows;                                  // heads · batch
};

__device__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ uint4 load_once(const std::uint16_t* p) {
  uint4 v;
  asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
      : "l"(p));
  return v;
}

template <bool bfloat>
__device__ void widen(const uint4& v, float (&x)[8]) {
  const u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (bfloat) {
      x[2 * i] = __uint_as_float(words[i] << 16);
      x[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    } else {
      asm("{\n.reg .f16 low, high;\nmov.b32 {low, high}, %2;\ncvt.f32.f16 %0, low;\n"
          "cvt.f32.f16 %1, high;\n}"
          : "=f"(x[2 * i]), "=f"(x[2 * i + 1])
          : "r"(words[i]));
    }
  }
}

template <bool bfloat>
__device__ std::uint16_t narrow(float x) {
  const u32 both = bfloat ? hopper::Bfloat16::pair(x, x) : hopper::Binary16::pair(x, x);
  return static_cast<std::uint16_t>(both);
}

// What exponents count from: the maximum, or 0 where there is none yet.
__device__ float base_of(float m) {
  return m == -infinity ? 0.0f : m;
}
__device__ float weight(float m, float base, float scale) {
  return exp2_fast(__fmul_rn(__fsub_rn(m, base), scale));
}

template <bool bfloat>
__device__ void finish(const Work& w, int row, int d, float o, float m, float l) {
  const int b = row / w.heads, h = row % w.heads;
  w.out[b * w.out_stride.batch + h * w.out_stride.head + d] =
      narrow<bfloat>(l == 0 ? 0.0f : __fdiv_rn(o, l));
  if (d == 0 && w.lse != nullptr)
    w.lse[row] =
        l == 0 ? -infinity : __fmul_rn(__fadd_rn(__fmul_rn(m, w.scale), log2f(l)), 0.693147181f);
}

template <bool bfloat, int width, int taken>
__global__ void __launch_bounds__(32 * warps) part_kernel(const __grid_constant__ Work w) {
  constexpr int lanes = width / 8, teams = 32 / lanes, ahead = taken == 8 ? 4 : 8;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int team = lane / lanes, d = lane % lanes * 8;
  const int piece = static_cast<int>(blockIdx.y) % w.pieces,
            head_kv = static_cast<int>(blockIdx.y) / w.pieces % w.heads_kv,
            batch = static_cast<int>(blockIdx.y) / w.pieces / w.heads_kv;
  const int first_head = head_kv * w.group + piece * taken, last_head = (head_kv + 1) * w.group;
  const int begin = static_cast<int>(blockIdx.x) * w.part, end = min(begin + w.part, w.keys);

  float q[taken][8], o[taken][8], m[taken], l[taken];
#pragma unroll
  for (int t = 0; t < taken; ++t) {
    uint4 bits{0, 0, 0, 0};
    if (first_head + t < last_head)
      bits = load_once(w.q + batch * w.q_stride.batch + (first_head + t) * w.q_stride.head + d);
    widen<bfloat>(bits, q[t]);
    m[t] = -infinity;
    l[t] = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) o[t][i] = 0;
  }
  const std::uint16_t* k = w.k + batch * w.k_stride.batch + head_kv * w.k_stride.head + d;
  const std::uint16_t* v = w.v + batch * w.v_stride.batch + head_kv * w.v_stride.head + d;
  for (int from = begin + warp * teams * ahead; from < end; from += warps * teams * ahead) {
    uint4 keys[ahead], values[ahead];
#pragma unroll
    for (int i = 0; i < ahead; ++i) {
      const std::int64_t j = min(from + i * teams + team, end - 1);
      keys[i] = load_once(k + j * w.k_stride.row);
      values[i] = load_once(v + j * w.v_stride.row);
    }
    float x[taken][ahead];
#pragma unroll
    for (int i = 0; i < ahead; ++i) {
      float y[8];
      widen<bfloat>(keys[i], y);
      const bool there = from + i * teams + team < end;
#pragma unroll
      for (int t = 0; t < taken; ++t) {
        float sum = __fmul_rn(q[t][0], y[0]);
#pragma unroll
        for (int e = 1; e < 8; ++e) sum = __fmaf_rn(q[t][e], y[e], sum);
#pragma unroll
        for (int step = 1; step < lanes; step *= 2)
          sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, step));
        x[t][i] = there ? sum : -infinity;
      }
    }
#pragma unroll
    for (int t = 0; t < taken; ++t) {
      float most = m[t];
#pragma unroll
      for (int i = 0; i < ahead; ++i) most = fmaxf(most, x[t][i]);
      const float base = base_of(most), alpha = weight(m[t], base, w.scale);
      m[t] = most;
      l[t] = __fmul_rn(l[t], alpha);
#pragma unroll
      for (int e = 0; e < 8; ++e) o[t][e] = __fmul_rn(o[t][e], alpha);
#pragma unroll
      for (int i = 0; i < ahead; ++i) {
        x[t][i] = weight(x[t][i], base, w.scale);
        l[t] = __fadd_rn(l[t], x[t][i]);
      }
    }
#pragma unroll
    for (int i = 0; i < ahead; ++i) {
      float y[8];
      widen<bfloat>(values[i], y);
      // A key that was not there stands for the last one again, which may be no number.
      const bool there = from + i * teams + team < end;
#pragma unroll
      for (int e = 0; e < 8; ++e) y[e] = there ? y[e] : 0;
#pragma unroll
      for (int t = 0; t < taken; ++t)
#pragma unroll
        for (int e = 0; e < 8; ++e) o[t][e] = __fmaf_rn(x[t][i], y[e], o[t][e]);
    }
  }

  __shared__ float all_o[warps][teams][width], all_m[warps][teams], all_l[warps][teams];
#pragma unroll
  for (int t = 0; t < taken; ++t) {
    __syncthreads();
#pragma unroll
    for (int e = 0; e < 8; ++e) all_o[warp][team][d + e] = o[t][e];
    if (d == 0) all_m[warp][team] = m[t], all_l[warp][team] = l[t];
    __syncthreads();
    const int column = static_cast<int>(threadIdx.x);
    if (column >= width || first_head + t >= last_head) continue;
    float most = -infinity, sum_o = 0, sum_l = 0;
    for (int i = 0; i < warps * teams; ++i) most = fmaxf(most, all_m[i / teams][i % teams]);
    for (int i = 0; i < warps * teams; ++i) {
      const float alpha = weight(all_m[i / teams][i % teams], base_of(most), w.scale);
      sum_o = __fmaf_rn(alpha, all_o[i / teams][i % teams][column], sum_o);
      sum_l = __fmaf_rn(alpha, all_l[i / teams][i % teams], sum_l);
    }
    const int row = batch * w.heads + first_head + t;
    if (w.count == 1) {
      finish<bfloat>(w, row, column, sum_o, most, sum_l);
    } else {
      float* to = w.parts + (static_cast<std::int64_t>(blockIdx.x) * w.rows + row) * (width + 2);
      to[column] = sum_o;
      if (column == 0) to[width] = most, to[width + 1] = sum_l;
    }
  }
}

template <bool bfloat, int width>
__global__ void merge_kernel(const __grid_constant__ Work w) {
  const int row = static_cast<int>(blockIdx.x), d = static_cast<int>(threadIdx.x);
  const std::int64_t next = static_cast<std::int64_t>(w.rows) * (width + 2);
  const float* from = w.parts + static_cast<std::int64_t>(row) * (width + 2);
  float most = -infinity, o = 0, l = 0;
  for (int i = 0; i < w.count; ++i) most = fmaxf(most, from[i * next + width]);
  const float base = base_of(most);
  for (int i = 0; i < w.count; ++i) {
    const float alpha = weight(from[i * next + width], base, w.scale);
    o = __fmaf_rn(alpha, from[i * next + d], o);
    l = __fmaf_rn(alpha, from[i * next + width + 1], l);
  }
  finish<bfloat>(w, row, d, o, most, l);
}

void require(cudaError_t error) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("attention of one query: ") + cudaGetErrorString(error));
}

template <bool bfloat, int width, int taken>
void launch(Work w, int batch, std::size_t parts, cudaStream_t stream) {
  w.pieces = (w.group + taken - 1) / taken;
  const int blocks = batch * w.heads_kv * w.pieces;
  if (parts == 0) {
    int device = 0, processors = 0, resident = 0;
    require(cudaGetDevice(&device));
    require(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
    require(cudaOccupancyMaxActiveBlocksPerMultiprocessor(
        &resident, part_kernel<bfloat, width, taken>, 32 * warps, 0));
    // All blocks at once, and parts of at least 256 keys.
    parts = static_cast<std::size_t>(
        std::clamp(processors * resident / blocks, 1, std::max(1, w.keys / 256)));
  }
  w.count = static_cast<int>(parts);
  w.part = std::max(1, (w.keys + w.count - 1) / w.count);
  w.part = (w.part + least_part - 1) / least_part * least_part;
  if (w.count > 1)
    require(cudaMallocAsync(reinterpret_cast<void**>(&w.parts),
                            parts * static_cast<std::size_t>(w.rows) * (width + 2) * 4, stream));
  const dim3 grid(static_cast<unsigned>(w.count), static_cast<unsigned>(blocks));
  part_kernel<bfloat, width, taken><<<grid, 32 * warps, 0, stream>>>(w);
  require_launched("attention of one query");
  if (w.count == 1) return;
  merge_kernel<bfloat, width><<<static_cast<unsigned>(w.rows), width, 0, stream>>>(w);
  require_launched("attention of one query, merge");
  require(cudaFreeAsync(w.parts, stream));
}

template <bool bfloat, int width>
void launch_group(const Work& w, int batch, std::size_t parts, cudaStream_t stream) {
  if (w.group == 1) return launch<bfloat, width, 1>(w, batch, parts, stream);
  if (w.group == 2) return launch<bfloat, width, 2>(w, batch, parts, stream);
  if (w.group <= 4) return launch<bfloat, width, 4>(w, batch, parts, stream);
  launch<bfloat, width, 8>(w, batch, parts, stream);
}

}  // namespace

void attention_decode(const Attention& a, const void* q, const void* k, const void* v, void* out,
                      float* lse, void* stream, std::size_t parts) {
  const AttentionShape& s = a.shape;
  if (const auto problem = problem_with(a)) throw std::invalid_argument(*problem);
  if (s.queries != 1)
    throw std::invalid_argument("attention_decode takes one query, not " +
                                std::to_string(s.queries) + "; call attention");
  if (a.mask == CausalMask::top_left)
    throw std::invalid_argument(
        "attention_decode takes no top-left mask, under which the query sees key 0 alone; call "
        "attention");
  constexpr std::size_t most_parts = 4096, most_blocks = 65535;
  if (parts > most_parts)
    throw std::invalid_argument("attention_decode takes up to 4096 parts, not " +
                                std::to_string(parts) + "; 0 chooses");
  if (s.batch * s.heads > most_blocks)
    throw std::invalid_argument("attention_decode takes batch x heads up to 65535, not " +
                                std::to_string(s.batch * s.heads) + "; split the call");
  if (s.batch == 0 || s.heads == 0) return;
  check_arrays(a, q, k, v, out);
  const Work w{.q = static_cast<const std::uint16_t*>(q),
               .k = static_cast<const std::uint16_t*>(k),
               .v = static_cast<const std::uint16_t*>(v),
               .out = static_cast<std::uint16_t*>(out),
               .lse = lse,
               .parts = nullptr,
               .q_stride = a.q,
               .k_stride = a.k,
               .v_stride = a.v,
               .out_stride = a.out,
               .scale = static_cast<float>(static_cast<double>(a.scale) * 1.4426950408889634),
               .keys = static_cast<int>(s.keys),
               .heads = static_cast<int>(s.heads),
               .heads_kv = static_cast<int>(s.heads_kv),
               .group = static_cast<int>(s.heads / s.heads_kv),
               .pieces = 1,
               .part = 0,
               .count = 0,
               .rows = static_cast<int>(s.heads * s.batch)};
  const auto handle = static_cast<cudaStream_t>(stream);
  const int batch = static_cast<int>(s.batch);
  if (a.element == Element::bfloat16) {
    if (s.width == 64) return launch_group<true, 64>(w, batch, parts, handle);
    return launch_group<true, 128>(w, batch, parts, handle);
  }
  if (s.width == 64) return launch_group<false, 64>(w, batch, parts, handle);
  launch_group<false, 128>(w, batch, parts, handle);
}

}  // namespace halfulp::kernels::cuda
