// One query a head against all keys: each byte of k and v is used once for each query head of its
// group, so this is a matter of memory. The tensor cores (mma.sync) do the arithmetic, with up to
// 16 query heads of a group as rows, because CUDA cores fell behind memory at groups of 4.
//
// A part is a run of keys of one head of k and v, for one block of four warps, which take 16 keys
// at a time in turn. Fragments come from memory as they lie, 16 bytes a load, by choosing which
// element of a head is which index of a product: a score is the same sum in another order, and an
// output's column may be any. Warps and parts are merged in their order, each time by
//
//   (m, ℓ, O) ⊕ (m', ℓ', O') = (M, αℓ + α'ℓ', αO + α'O'), M = max(m, m'), α = exp2((m − M) · s)
//
// (Lean Attention, arXiv:2405.10480), of which (−∞, 0, 0) is the identity.
#include <algorithm>
#include <stdexcept>
#include <type_traits>

#include "emu/arrays/cuda/launch.cuh"
#include "kernels/cuda/attention.hpp"
#include "kernels/cuda/hopper.cuh"

namespace halfulp::kernels::cuda {
namespace {

using halfulp::cuda::require_launched;
using hopper::Bfloat16;
using hopper::Binary16;
using hopper::exp2_fast;
using hopper::u32;

constexpr float infinity = __builtin_huge_valf();
constexpr int warps = 4, taken = 16, least_part = 64;

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

__device__ uint4 load_once(const std::uint16_t* p) {
  uint4 v;
  asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
      : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
      : "l"(p));
  return v;
}

// d (16, 8) += A (16, 16) · B (16, 8).
template <class T>
__device__ void multiply(float (&d)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
  if constexpr (std::is_same_v<T, Bfloat16>)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// What exponents count from: the maximum, or 0 where there is none yet.
__device__ float base_of(float m) {
  return m == -infinity ? 0.0f : m;
}
__device__ float weight(float m, float base, float scale) {
  return exp2_fast(__fmul_rn(__fsub_rn(m, base), scale));
}

template <class T>
__device__ void finish(const Work& w, int row, int d, float o, float m, float l) {
  const int b = row / w.heads, h = row % w.heads;
  w.out[b * w.out_stride.batch + h * w.out_stride.head + d] =
      static_cast<std::uint16_t>(T::pair(l == 0 ? 0.0f : __fdiv_rn(o, l), 0));
  if (d == 0 && w.lse != nullptr)
    w.lse[row] =
        l == 0 ? -infinity : __fmul_rn(__fadd_rn(__fmul_rn(m, w.scale), log2f(l)), 0.693147181f);
}

template <class T, int width>
__global__ void __launch_bounds__(32 * warps, 2) part_kernel(const __grid_constant__ Work w) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int g = lane / 4, t = lane % 4;
  const int piece = static_cast<int>(blockIdx.y) % w.pieces,
            head_kv = static_cast<int>(blockIdx.y) / w.pieces % w.heads_kv,
            batch = static_cast<int>(blockIdx.y) / w.pieces / w.heads_kv;
  const int first_head = head_kv * w.group + piece * taken;
  const int heads = min(taken, (head_kv + 1) * w.group - first_head);
  const int begin = static_cast<int>(blockIdx.x) * w.part, end = min(begin + w.part, w.keys);

  // Rows g and g + 8 are query heads. Of a head's elements 32i + 8t to 32i + 8t + 7, which a thread
  // loads at once, step 2i + u of a score takes 4u and 4u + 1 as its indices 2t and 2t + 1, and
  // 4u + 2 and 4u + 3 as 2t + 8 and 2t + 9.
  uint4 q[2][width / 32];
#pragma unroll
  for (int r = 0; r < 2; ++r)
#pragma unroll
    for (int i = 0; i < width / 32; ++i) {
      q[r][i] = uint4{0, 0, 0, 0};
      if (g + 8 * r < heads)
        q[r][i] = load_once(w.q + batch * w.q_stride.batch +
                            (first_head + g + 8 * r) * w.q_stride.head + 32 * i + 8 * t);
    }
  float o[width / 8][4], m[2] = {-infinity, -infinity}, l[2] = {0, 0};
#pragma unroll
  for (auto& tile : o) tile[0] = tile[1] = tile[2] = tile[3] = 0;
  const std::uint16_t* k = w.k + batch * w.k_stride.batch + head_kv * w.k_stride.head + 8 * t;
  const std::uint16_t* v = w.v + batch * w.v_stride.batch + head_kv * w.v_stride.head + 8 * g;

  for (int from = begin + 16 * warp; from < end; from += 16 * warps) {
    // Keys g and g + 8 of k; 2t, 2t + 1, 2t + 8 and 2t + 9 of v, elements 64i + 8g to 64i + 8g + 7.
    uint4 keys[2][width / 32], values[4][width / 64];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const std::int64_t j = min(from + g + 8 * r, end - 1);
#pragma unroll
      for (int i = 0; i < width / 32; ++i) keys[r][i] = load_once(k + j * w.k_stride.row + 32 * i);
    }
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const std::int64_t j = min(from + 2 * t + r % 2 + r / 2 * 8, end - 1);
#pragma unroll
      for (int i = 0; i < width / 64; ++i)
        values[r][i] = load_once(v + j * w.v_stride.row + 64 * i);
    }
    float x[2][4] = {};  // of keys 8n + 2t + {0, 1}: head g, then head g + 8
#pragma unroll
    for (int n = 0; n < 2; ++n)
#pragma unroll
      for (int i = 0; i < width / 32; ++i) {
        multiply<T>(x[n], q[0][i].x, q[1][i].x, q[0][i].y, q[1][i].y, keys[n][i].x, keys[n][i].y);
        multiply<T>(x[n], q[0][i].z, q[1][i].z, q[0][i].w, q[1][i].w, keys[n][i].z, keys[n][i].w);
      }
    if (from + 16 > end) {  // what was not there stood for the last key again
#pragma unroll
      for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          if (from + 8 * n + 2 * t + i % 2 >= end) x[n][i] = -infinity;
#pragma unroll
      for (int r = 0; r < 4; ++r)
#pragma unroll
        for (int i = 0; i < width / 64; ++i)
          if (from + 2 * t + r % 2 + r / 2 * 8 >= end) values[r][i] = uint4{0, 0, 0, 0};
    }
    float alpha[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float most = m[r];
#pragma unroll
      for (int n = 0; n < 2; ++n) most = fmaxf(most, fmaxf(x[n][2 * r], x[n][2 * r + 1]));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
      const float base = base_of(most);
      alpha[r] = weight(m[r], base, w.scale);
      m[r] = most;
      l[r] = __fmul_rn(l[r], alpha[r]);
#pragma unroll
      for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int i = 2 * r; i < 2 * r + 2; ++i) {
          x[n][i] = weight(x[n][i], base, w.scale);
          l[r] = __fadd_rn(l[r], x[n][i]);
        }
    }
    if (__any_sync(0xffffffffu, alpha[0] != 1 || alpha[1] != 1)) {
#pragma unroll
      for (auto& tile : o) {
#pragma unroll
        for (int i = 0; i < 4; ++i) tile[i] = __fmul_rn(tile[i], alpha[i / 2]);
      }
    }
    const u32 p[4] = {T::pair(x[0][0], x[0][1]), T::pair(x[0][2], x[0][3]),
                      T::pair(x[1][0], x[1][1]), T::pair(x[1][2], x[1][3])};
    // Column n of tile 8i + e is element 64i + 8n + e of a head.
#pragma unroll
    for (int i = 0; i < width / 64; ++i) {
      const auto word = [&](int r, int n) {
        const uint4& bits = values[r][i];
        return n == 0 ? bits.x : n == 1 ? bits.y : n == 2 ? bits.z : bits.w;
      };
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const u32 select = e % 2 == 0 ? 0x5410 : 0x7632;  // low halves of both words, or high ones
        multiply<T>(o[8 * i + e], p[0], p[1], p[2], p[3],
                    __byte_perm(word(0, e / 2), word(1, e / 2), select),
                    __byte_perm(word(2, e / 2), word(3, e / 2), select));
      }
    }
  }

  __shared__ float all_o[warps][taken][width], all_m[warps][taken], all_l[warps][taken];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    l[r] = __fadd_rn(l[r], __shfl_xor_sync(0xffffffffu, l[r], 1));
    l[r] = __fadd_rn(l[r], __shfl_xor_sync(0xffffffffu, l[r], 2));
    const int head = g + 8 * r;
    if (t == 0) all_m[warp][head] = m[r], all_l[warp][head] = l[r];
#pragma unroll
    for (int tile = 0; tile < width / 8; ++tile)
#pragma unroll
      for (int n = 0; n < 2; ++n)
        all_o[warp][head][tile / 8 * 64 + 8 * (2 * t + n) + tile % 8] = o[tile][2 * r + n];
  }
  __syncthreads();
  for (int at = static_cast<int>(threadIdx.x); at < heads * width; at += 32 * warps) {
    const int head = at / width, column = at % width;
    float most = -infinity, sum_o = 0, sum_l = 0;
    for (int i = 0; i < warps; ++i) most = fmaxf(most, all_m[i][head]);
    for (int i = 0; i < warps; ++i) {
      const float alpha = weight(all_m[i][head], base_of(most), w.scale);
      sum_o = __fmaf_rn(alpha, all_o[i][head][column], sum_o);
      sum_l = __fmaf_rn(alpha, all_l[i][head], sum_l);
    }
    const int row = batch * w.heads + first_head + head;
    if (w.count == 1) {
      finish<T>(w, row, column, sum_o, most, sum_l);
    } else {
      float* to = w.parts + (static_cast<std::int64_t>(blockIdx.x) * w.rows + row) * (width + 2);
      to[column] = sum_o;
      if (column == 0) to[width] = most, to[width + 1] = sum_l;
    }
  }
}

template <class T, int width>
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
  finish<T>(w, row, d, o, most, l);
}

void require(cudaError_t error) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("attention of one query: ") + cudaGetErrorString(error));
}

// Keys of a part, of n.
int part_of(int keys, int n) {
  const int part = std::max(1, (keys + n - 1) / n);
  return (part + least_part - 1) / least_part * least_part;
}

template <class T, int width>
void launch(Work w, int batch, std::size_t parts, cudaStream_t stream) {
  w.pieces = (w.group + taken - 1) / taken;
  const int blocks = batch * w.heads_kv * w.pieces;
  if (parts == 0) {
    int device = 0, processors = 0, resident = 0;
    require(cudaGetDevice(&device));
    require(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
    require(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, part_kernel<T, width>,
                                                          32 * warps, 0));
    // Blocks come in waves, each as long as a part and the start of one, about 64 keys.
    const std::int64_t slots = std::max(1, processors * resident);
    std::int64_t least = 0;
    for (int n = 1; n <= std::clamp(w.keys / 256, 1, 512); ++n) {
      const std::int64_t waves = (std::int64_t{n} * blocks + slots - 1) / slots;
      const std::int64_t cost = waves * (part_of(w.keys, n) + 64);
      if (parts != 0 && cost >= least) continue;
      least = cost;
      parts = static_cast<std::size_t>(n);
    }
  }
  w.count = static_cast<int>(parts);
  w.part = part_of(w.keys, w.count);
  if (w.count > 1)
    require(cudaMallocAsync(reinterpret_cast<void**>(&w.parts),
                            parts * static_cast<std::size_t>(w.rows) * (width + 2) * 4, stream));
  const dim3 grid(static_cast<unsigned>(w.count), static_cast<unsigned>(blocks));
  part_kernel<T, width><<<grid, 32 * warps, 0, stream>>>(w);
  require_launched("attention of one query");
  if (w.count == 1) return;
  merge_kernel<T, width><<<static_cast<unsigned>(w.rows), width, 0, stream>>>(w);
  require_launched("attention of one query, merge");
  require(cudaFreeAsync(w.parts, stream));
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
    if (s.width == 64) return launch<Bfloat16, 64>(w, batch, parts, handle);
    return launch<Bfloat16, 128>(w, batch, parts, handle);
  }
  if (s.width == 64) return launch<Binary16, 64>(w, batch, parts, handle);
  launch<Binary16, 128>(w, batch, parts, handle);
}

}  // namespace halfulp::kernels::cuda
