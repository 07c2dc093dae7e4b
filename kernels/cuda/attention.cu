// A block of threads owns a multiprocessor and takes tiles of queries, one after another, each with
// all its keys. One thread keeps the copy engine busy: tiles of q, k and v, as far ahead as shared
// memory has room. The others are warpgroups of 64 queries each, with x, P and O in registers.
//
// What overlaps: x of the next keys and P·v of these are queued together on the tensor cores; as
// soon as x is there its softmax runs, beside P·v. And while one warpgroup is at its softmax the
// products of the others run. (Barriers that make them take turns at queueing products gained
// nothing: docs/performance.md.)
//
// Keys are taken from the last tile to the first, so tiles that need a mask come first.
#include "kernels/cuda/attention.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "emu/arrays/cuda/launch.cuh"
#include "kernels/cuda/attention_host.hpp"
#include "kernels/cuda/hopper.cuh"

namespace halfulp::kernels::cuda {
namespace {

using namespace hopper;
using halfulp::cuda::require_launched;

struct Work {
  CUtensorMap q, k, v, out;  // (width, rows, heads, batch), boxes of one panel
  float* lse;
  float scale;                                 // s: times log2 e
  int queries, keys, heads, heads_kv, offset;  // query i sees keys up to i + offset, if causal
  int blocks;                                  // tiles of queries
  int rows;                                    // heads · batch
  int group;  // of these, so many are worked on at a time, so that their k and v stay in the L2
};

// What one block of threads does next.
struct Task {
  int first;  // query
  int head, head_kv, batch;
  int tiles;  // of keys
};

// Shared memory: bytes from an address that is a multiple of 1024.
template <int width, int groups, int columns, int stages>
struct Layout {
  static constexpr u32 q_bytes = 64 * width * 2;  // of one warpgroup
  static constexpr u32 kv_bytes = columns * width * 2;
  static constexpr u32 q = 0;
  static constexpr u32 k = q + groups * q_bytes;
  static constexpr u32 v = k + stages * kv_bytes;
  static constexpr u32 out = v + stages * kv_bytes;
  static constexpr u32 barriers = out + groups * q_bytes;
  static constexpr u32 q_full = barriers;
  static constexpr u32 q_empty = q_full + 8 * groups;
  static constexpr u32 k_full = q_empty + 8 * groups;
  static constexpr u32 k_empty = k_full + 8 * stages;
  static constexpr u32 v_full = k_empty + 8 * stages;
  static constexpr u32 v_empty = v_full + 8 * stages;
  static constexpr u32 bytes = v_empty + 8 * stages + 1024;
};

// Tasks of one head are equally long, or (causal) shrink by one tile of queries at a time: the long
// ones of a group of heads come first, and blocks of threads take them forth and back, so that each
// gets about as much as the others.
template <int rows, int columns, bool causal>
__device__ bool task_at(const Work& w, int round, Task& t) {
  const int grid = static_cast<int>(gridDim.x), me = static_cast<int>(blockIdx.x);
  const int at = round * grid + (round % 2 == 0 ? me : grid - 1 - me);
  if (round * grid >= w.rows * w.blocks) return false;
  t.tiles = 0;
  t.first = -1;
  if (at >= w.rows * w.blocks) return true;
  const int group = at / (w.group * w.blocks), rest = at - group * w.group * w.blocks;
  const int heads = min(w.group, w.rows - group * w.group);
  int block = rest / heads;
  const int row = group * w.group + rest - block * heads;
  if constexpr (causal) block = w.blocks - 1 - block;
  t.first = block * rows;
  t.batch = row / w.heads;
  t.head = row - t.batch * w.heads;
  t.head_kv = t.head / (w.heads / w.heads_kv);
  int seen = w.keys;
  if constexpr (causal) seen = max(0, min(seen, min(t.first + rows, w.queries) + w.offset));
  t.tiles = (seen + columns - 1) / columns;
  return true;
}

constexpr float infinity = __builtin_huge_valf();
constexpr float largest_mu = 4096;

// Element i of a thread counts if its column is before `end` of its row.
template <int n>
__device__ void cut(float (&x)[n], int end0, int end1) {
#pragma unroll
  for (int i = 0; i < n; ++i) {
    const int column = 8 * (i / 4) + i % 2;
    x[i] = column < (i / 2 % 2 == 0 ? end0 : end1) ? x[i] : -infinity;
  }
}

// x becomes p; m, l as above, of the two rows of a thread (l of its own columns only).
template <int n>
__device__ void soften(float (&x)[n], float (&m)[2], float (&l)[2], float (&alpha)[2],
                       float scale) {
  float most[2] = {m[0], m[1]}, mu[2], away[2];
#pragma unroll
  for (int i = 0; i < n; ++i) most[i / 2 % 2] = fmaxf(most[i / 2 % 2], x[i]);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    most[r] = fmaxf(most[r], __shfl_xor_sync(0xffffffffu, most[r], 1));
    most[r] = fmaxf(most[r], __shfl_xor_sync(0xffffffffu, most[r], 2));
    mu[r] = most[r] == -infinity ? 0.0f : __fmul_rn(most[r], scale);
    alpha[r] = __fsub_rn(__fmul_rn(m[r], scale), mu[r]);
    away[r] = 0;
    if (fabsf(mu[r]) > largest_mu) {
      alpha[r] = __fmul_rn(__fsub_rn(m[r], most[r]), scale);
      mu[r] = 0;
      away[r] = most[r];
    }
    alpha[r] = exp2_fast(alpha[r]);
    m[r] = most[r];
  }
  if (__any_sync(0xffffffffu, away[0] != 0 || away[1] != 0)) {
#pragma unroll
    for (int i = 0; i < n; ++i) x[i] = __fsub_rn(x[i], away[i / 2 % 2]);
  }
  float sum[4] = {0, 0, 0, 0};
#pragma unroll
  for (int i = 0; i < n; ++i) {
    x[i] = exp2_fast(__fmaf_rn(x[i], scale, -mu[i / 2 % 2]));
    sum[i % 4] = __fadd_rn(sum[i % 4], x[i]);
  }
#pragma unroll
  for (int r = 0; r < 2; ++r)
    l[r] = __fmaf_rn(l[r], alpha[r], __fadd_rn(sum[2 * r], sum[2 * r + 1]));
}

template <class T, int n>
__device__ void round_pairs(const float (&x)[n], u32 (&p)[n / 2]) {
#pragma unroll
  for (int i = 0; i < n / 2; ++i) p[i] = T::pair(x[2 * i], x[2 * i + 1]);
}

template <int n>
__device__ void rescale(float (&o)[n], const float (&alpha)[2]) {
#pragma unroll
  for (int i = 0; i < n; ++i) o[i] = __fmul_rn(o[i], alpha[i / 2 % 2]);
}

template <class T, int width, int columns>
__device__ void queue_scores(float (&x)[columns / 2], u64 q, u64 k) {
#pragma unroll
  for (int i = 0; i < width / 16; ++i) {
    const u64 a = further(q, i / 4 * 64 * 128 + i % 4 * 32);
    const u64 b = further(k, i / 4 * columns * 128 + i % 4 * 32);
    if (i == 0)
      Product<T, columns>::template rows<true>(x, a, b);
    else
      Product<T, columns>::template rows<false>(x, a, b);
  }
}

template <class T, int width, int columns>
__device__ void queue_output(float (&o)[width / 2], const u32 (&p)[columns / 4], u64 v) {
#pragma unroll
  for (int i = 0; i < columns / 16; ++i)
    Product<T, width>::columns(o, p + 4 * i, further(v, i * 16 * 128));
}

template <class T, int width, int groups, int columns, int stages, bool causal>
__global__ void __launch_bounds__(128 * (groups + 1), 1)
    attention_kernel(const __grid_constant__ Work w) {
  using L = Layout<width, groups, columns, stages>;
  constexpr int rows = 64 * groups, panels = width / 64;
  extern __shared__ std::byte memory[];
  const u32 base = (static_cast<u32>(__cvta_generic_to_shared(memory)) + 1023) / 1024 * 1024;
  // One value a warp, as ptxas must see: else it takes wgmma to stand on a divergent path.
  const int warpgroup = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);

  if (threadIdx.x == 0) {
    for (const CUtensorMap* map : {&w.q, &w.k, &w.v, &w.out}) fetch_map(map);
    for (int i = 0; i < groups; ++i) {
      barrier_make(base + L::q_full + 8 * i, 1);
      barrier_make(base + L::q_empty + 8 * i, 4);  // each warp says that it has done
    }
    for (int i = 0; i < stages; ++i) {
      barrier_make(base + L::k_full + 8 * i, 1);
      barrier_make(base + L::v_full + 8 * i, 1);
      barrier_make(base + L::k_empty + 8 * i, 4 * groups);
      barrier_make(base + L::v_empty + 8 * i, 4 * groups);
    }
    barriers_made();
  }
  __syncthreads();

  if (warpgroup == 0) {
    give_registers<groups == 2 ? 24 : 32>();
    if (threadIdx.x != 0) return;
    u32 stage = 0, parity = 0, q_parity = 0;
    Task t;
    for (int round = 0; task_at<rows, columns, causal>(w, round, t); ++round) {
      for (int j = t.tiles - 1; j >= 0; --j) {
        const auto load = [&](u32 to, const CUtensorMap* map, u32 barrier) {
          arrive_expecting(barrier, L::kv_bytes);
          for (int c = 0; c < panels; ++c)
            load_box(to + static_cast<u32>(c) * columns * 128, map, 64 * c, j * columns, t.head_kv,
                     t.batch, barrier);
        };
        wait(base + L::k_empty + 8 * stage, parity ^ 1);
        load(base + L::k + stage * L::kv_bytes, &w.k, base + L::k_full + 8 * stage);
        if (j == t.tiles - 1) {
          for (u32 i = 0; i < groups; ++i) {
            const u32 full = base + L::q_full + 8 * i;
            wait(base + L::q_empty + 8 * i, q_parity ^ 1);
            arrive_expecting(full, L::q_bytes);
            for (int c = 0; c < panels; ++c)
              load_box(base + L::q + i * L::q_bytes + static_cast<u32>(c) * 64 * 128, &w.q, 64 * c,
                       t.first + 64 * static_cast<int>(i), t.head, t.batch, full);
          }
          q_parity ^= 1;
        }
        wait(base + L::v_empty + 8 * stage, parity ^ 1);
        load(base + L::v + stage * L::kv_bytes, &w.v, base + L::v_full + 8 * stage);
        if (++stage == stages) stage = 0, parity ^= 1;
      }
    }
  } else {
    take_registers<groups == 2 ? 240 : 160>();
    const int me = warpgroup - 1, thread = static_cast<int>(threadIdx.x) % 128;
    const int warp = thread / 32, lane = thread % 32;
    const u32 q_full = base + L::q_full + 8 * static_cast<u32>(me);
    const u32 q_empty = base + L::q_empty + 8 * static_cast<u32>(me);
    const u64 q = operand(base + L::q + static_cast<u32>(me) * L::q_bytes);
    const u64 k = operand(base + L::k), v = operand(base + L::v, columns * 128);
    const u32 stage_out = base + L::out + static_cast<u32>(me) * L::q_bytes +
                          static_cast<u32>(warp) * 16 * 128 * panels;
    const auto tell = [&](u32 barrier) {
      if (lane == 0) arrive(barrier);
    };

    u32 stage = 0, parity = 0, q_parity = 0;
    Task t;
    for (int round = 0; task_at<rows, columns, causal>(w, round, t); ++round) {
      if (t.first < 0) continue;
      const int first = t.first + 64 * me + 16 * warp;  // query of the warp
      float o[width / 2], m[2] = {-infinity, -infinity}, l[2] = {0, 0}, alpha[2];
#pragma unroll
      for (int i = 0; i < width / 2; ++i) o[i] = 0;
      if (t.tiles > 0) {
        float x[columns / 2];
        u32 p[columns / 4];
        // Tiles from `whole` on need a mask.
        int whole = w.keys;
        if constexpr (causal) whole = max(0, min(whole, t.first + 64 * me + 1 + w.offset));
        whole /= columns;
        const auto mask = [&](int j) {
          const int seen = w.keys - j * columns - 2 * (lane % 4);
          int end0 = seen, end1 = seen;
          if constexpr (causal) {
            const int up_to = first + lane / 4 + w.offset + 1 - j * columns - 2 * (lane % 4);
            end0 = min(seen, up_to);
            end1 = min(seen, up_to + 8);
          }
          cut(x, end0, end1);
        };

        wait(q_full, q_parity);
        wait(base + L::k_full + 8 * stage, parity);
        pin(x);
        products_begin();
        queue_scores<T, width, columns>(x, q, further(k, stage * L::kv_bytes));
        products_commit();
        products_wait<0>();
        pin(x);
        tell(base + L::k_empty + 8 * stage);
        mask(t.tiles - 1);
        soften(x, m, l, alpha, w.scale);
        round_pairs<T>(x, p);
        wait(base + L::v_full + 8 * stage, parity);

        const auto step = [&](int j, auto with_mask) {
          const u32 before = stage;
          if (++stage == stages) stage = 0, parity ^= 1;
          wait(base + L::k_full + 8 * stage, parity);
          pin(x);
          pin(o);
          products_begin();
          queue_scores<T, width, columns>(x, q, further(k, stage * L::kv_bytes));
          products_commit();
          products_begin();
          queue_output<T, width, columns>(o, p, further(v, before * L::kv_bytes));
          products_commit();
          products_wait<1>();
          pin(x);
          tell(base + L::k_empty + 8 * stage);
          if constexpr (with_mask) mask(j);
          soften(x, m, l, alpha, w.scale);
          pin(x);
          wait(base + L::v_full + 8 * stage, parity);  // and p is made before P·v is waited for
          products_wait<0>();
          pin(o);
          tell(base + L::v_empty + 8 * before);
          rescale(o, alpha);
          round_pairs<T>(x, p);
        };
        int j = t.tiles - 2;
        for (; j >= whole; --j) step(j, std::true_type{});
        for (; j >= 0; --j) step(j, std::false_type{});
        tell(q_empty);
        q_parity ^= 1;

        pin(o);
        products_begin();
        queue_output<T, width, columns>(o, p, further(v, stage * L::kv_bytes));
        products_commit();
        products_wait<0>();
        pin(o);
        tell(base + L::v_empty + 8 * stage);
        if (++stage == stages) stage = 0, parity ^= 1;
      }

      float inverse[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        l[r] += __shfl_xor_sync(0xffffffffu, l[r], 1);
        l[r] += __shfl_xor_sync(0xffffffffu, l[r], 2);
        inverse[r] = __frcp_rn(l[r]);
        const int query = first + lane / 4 + 8 * r;
        if (w.lse != nullptr && lane % 4 == 0 && query < w.queries) {
          const float mu = __fmul_rn(m[r], w.scale);
          w.lse[static_cast<std::int64_t>(t.batch * w.heads + t.head) * w.queries + query] =
              l[r] == 0 ? -infinity : __fmul_rn(__fadd_rn(mu, log2f(l[r])), 0.693147181f);
        }
      }
      // No product with 0: a row without keys is 0 beside a v that is not finite, too.
#pragma unroll
      for (int i = 0; i < width / 2; ++i)
        o[i] = l[i / 2 % 2] == 0 ? 0.0f : __fmul_rn(o[i], inverse[i / 2 % 2]);
      if (lane == 0) stores_read();  // of the task before
      __syncwarp();
      const int line = lane % 16, piece = lane / 16;
#pragma unroll
      for (int i = 0; i < width / 16; ++i) {  // 16 columns
        const u32 c = static_cast<u32>(2 * i % 8 + piece) ^ static_cast<u32>(line % 8);
        store_matrices(
            stage_out + static_cast<u32>(i / 4) * 16 * 128 + static_cast<u32>(line) * 128 + 16 * c,
            T::pair(o[8 * i], o[8 * i + 1]), T::pair(o[8 * i + 2], o[8 * i + 3]),
            T::pair(o[8 * i + 4], o[8 * i + 5]), T::pair(o[8 * i + 6], o[8 * i + 7]));
      }
      publish_shared();
      __syncwarp();
      if (lane == 0) {
        for (int c = 0; c < panels; ++c)
          store_box(&w.out, 64 * c, first, t.head, t.batch,
                    stage_out + static_cast<u32>(c) * 16 * 128);
        stores_commit();
      }
    }
    if (lane == 0) stores_read();
  }
}

// ---------------------------------------------------------------- host

template <class T, int width, int groups, int columns, int stages, bool causal>
void launch(const Attention& a, const void* q, const void* k, const void* v, void* out, float* lse,
            cudaStream_t stream) {
  using L = Layout<width, groups, columns, stages>;
  constexpr int rows = 64 * groups;
  const AttentionShape& s = a.shape;
  Work w;
  w.q = map_of(a, q, a.q, s.queries, s.heads, 64);
  w.k = map_of(a, s.keys == 0 ? q : k, a.k, s.keys, s.heads_kv, columns);
  w.v = map_of(a, s.keys == 0 ? q : v, a.v, s.keys, s.heads_kv, columns);
  w.out = map_of(a, out, a.out, s.queries, s.heads, 16);
  w.lse = lse;
  w.scale = static_cast<float>(static_cast<double>(a.scale) * 1.4426950408889634);
  w.queries = static_cast<int>(s.queries);
  w.keys = static_cast<int>(s.keys);
  w.heads = static_cast<int>(s.heads);
  w.heads_kv = static_cast<int>(s.heads_kv);
  w.offset = a.mask == CausalMask::bottom_right ? w.keys - w.queries : 0;
  w.blocks = (w.queries + rows - 1) / rows;
  w.rows = static_cast<int>(s.heads * s.batch);
  int device = 0, processors = 0, l2 = 0;
  require(cudaGetDevice(&device), "cudaGetDevice");
  require(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device),
          "cudaDeviceGetAttribute");
  require(cudaDeviceGetAttribute(&l2, cudaDevAttrL2CacheSize, device), "cudaDeviceGetAttribute");
  // Heads whose k and v fill half of the L2.
  const std::size_t of_head = std::max<std::size_t>(s.keys * s.width * 4, 1);
  w.group =
      causal ? static_cast<int>(std::clamp<std::size_t>(static_cast<std::size_t>(l2) / 2 / of_head,
                                                        1, static_cast<std::size_t>(w.rows)))
             : 1;
  const auto kernel = attention_kernel<T, width, groups, columns, stages, causal>;
  require(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, L::bytes),
          "cudaFuncSetAttribute");
  const auto grid = static_cast<unsigned>(std::min(processors, w.blocks * w.rows));
  kernel<<<grid, 128 * (groups + 1), L::bytes, stream>>>(w);
  require_launched("attention");
}

template <class T, int width, int groups, int columns, int stages>
void launch_masked(const Attention& a, const void* q, const void* k, const void* v, void* out,
                   float* lse, cudaStream_t stream) {
  if (a.mask == CausalMask::none)
    launch<T, width, groups, columns, stages, false>(a, q, k, v, out, lse, stream);
  else
    launch<T, width, groups, columns, stages, true>(a, q, k, v, out, lse, stream);
}

template <class T>
void launch_typed(const Attention& a, const void* q, const void* k, const void* v, void* out,
                  float* lse, cudaStream_t stream) {
  if (a.shape.width == 64)
    launch_masked<T, 64, 3, 128, 2>(a, q, k, v, out, lse, stream);
  else
    launch_masked<T, 128, 2, 128, 2>(a, q, k, v, out, lse, stream);
}

}  // namespace

std::optional<std::string> problem_with_strides(const char* name, const AttentionStrides& s,
                                                std::size_t rows, std::size_t heads,
                                                std::size_t batch) {
  const struct {
    const char* of;
    std::int64_t stride;
    std::size_t extent;
  } all[] = {{"row", s.row, rows}, {"head", s.head, heads}, {"batch", s.batch, batch}};
  for (const auto& one : all) {
    if (one.extent <= 1 || rows == 0) continue;
    if (one.stride <= 0 || one.stride % 8 != 0 || one.stride >= std::int64_t{1} << 39)
      return "the " + std::string(one.of) + " stride of " + name + " is " +
             std::to_string(one.stride) +
             " elements; attention on the device takes positive multiples of 8 below 2^39, so copy "
             "the array into a packed one";
  }
  return std::nullopt;
}

std::optional<std::string> problem_with(const Attention& a) {
  const AttentionShape& s = a.shape;
  if (a.element != Element::bfloat16 && a.element != Element::binary16)
    return "attention on the device takes bfloat16 or binary16; convert the operands";
  if (s.width != 64 && s.width != 128)
    return "attention on the device takes heads of 64 or 128 elements, not " +
           std::to_string(s.width) + "; pad q, k and v with zeros, and keep the scale";
  if (s.heads_kv == 0 ? s.heads != 0 : s.heads % s.heads_kv != 0)
    return "heads of k and v (" + std::to_string(s.heads_kv) + ") must divide heads of q (" +
           std::to_string(s.heads) + ")";
  constexpr std::size_t most = std::size_t{1} << 24;
  const std::size_t extents[] = {s.batch, s.heads, s.queries, s.keys};
  const char* names[] = {"batch", "heads", "queries", "keys"};
  for (int i = 0; i < 4; ++i)
    if (extents[i] > most)
      return "attention on the device takes " + std::string(names[i]) + " up to 2^24, not " +
             std::to_string(extents[i]) + "; split the call";
  // Tiles of queries are counted in an int.
  if (s.batch * s.heads > most || s.batch * s.heads * (s.queries / 128 + 1) >= std::size_t{1} << 30)
    return "attention on the device takes batch x heads up to 2^24 and batch x heads x queries up "
           "to "
           "2^37; split the call";
  if (!(a.scale > 0) || std::isinf(a.scale))
    return "the scale of attention must be positive and finite, not " + std::to_string(a.scale) +
           "; negate q for a negative one";
  if (auto problem = problem_with_strides("q", a.q, s.queries, s.heads, s.batch)) return problem;
  if (auto problem = problem_with_strides("k", a.k, s.keys, s.heads_kv, s.batch)) return problem;
  if (auto problem = problem_with_strides("v", a.v, s.keys, s.heads_kv, s.batch)) return problem;
  return problem_with_strides("out", a.out, s.queries, s.heads, s.batch);
}

void check_arrays(const Attention& a, const void* q, const void* k, const void* v,
                  const void* out) {
  const struct {
    const char* name;
    const void* at;
  } arrays[] = {{"q", q}, {"k", k}, {"v", v}, {"out", out}};
  for (const auto& [name, at] : arrays) {
    if (a.shape.keys == 0 && (name[0] == 'k' || name[0] == 'v')) continue;
    if (at == nullptr || reinterpret_cast<std::uintptr_t>(at) % 16 != 0)
      throw std::invalid_argument(std::string(name) +
                                  (at == nullptr ? " is null" : " is not aligned to 16 bytes") +
                                  "; attention on the device takes aligned arrays, so copy it");
  }
}

void attention(const Attention& a, const void* q, const void* k, const void* v, void* out,
               float* lse, void* stream) {
  if (const auto problem = problem_with(a)) throw std::invalid_argument(*problem);
  if (a.shape.batch == 0 || a.shape.heads == 0 || a.shape.queries == 0) return;
  check_arrays(a, q, k, v, out);
  require_hopper();
  const auto handle = static_cast<cudaStream_t>(stream);
  if (a.element == Element::bfloat16)
    launch_typed<Bfloat16>(a, q, k, v, out, lse, handle);
  else
    launch_typed<Binary16>(a, q, k, v, out, lse, handle);
}

}  // namespace halfulp::kernels::cuda
