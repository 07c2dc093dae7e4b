// Both kernels of products are one: a block of threads owns rows, keys for (dk, dv) or queries for
// dq, and the others stream by. Of the own rows a and b (k and v, or q and dout) and the streamed
// ones c and d (q and dout, or k and v), it makes
//
//   x = a · cᵀ,  y = b · dᵀ,  p = exp2(x · s − λ),  e = p · (y − δ),
//   first += E · c,  second += P · d  (for dv alone)
//
// with x, y, P, E and both sums in the registers of warpgroups of 64 own rows each; P and E are the
// A operands of the next products without a way through memory. One thread keeps the copy engine
// busy with streamed tiles, as far ahead as shared memory has room.
//
// What overlaps: x of the next tile, the product of `first` of this one and y of the next are
// queued in this order; exponentials run as soon as x is there, beside the rest. As soon as P is
// there the product of `second` is queued, and e is made beside it. What one warpgroup must wait
// for, the other's products fill.
#include "kernels/cuda/attention_backward.hpp"

#include <cmath>
#include <tuple>
#include <type_traits>
#include <utility>

#include "emu/arrays/cuda/launch.cuh"
#include "kernels/cuda/attention_host.hpp"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/packs.cuh"

namespace halfulp::kernels::cuda {
namespace {

using namespace hopper;
using halfulp::cuda::require_launched;

constexpr float infinity = __builtin_huge_valf();

struct Work {
  CUtensorMap own[2], streamed[2];  // (width, rows, heads, batch), boxes of one panel
  const float* stats;               // (row: batch · heads, 2: λ and δ, padded)
  std::uint16_t* to[2];
  AttentionStrides to_strides[2];
  float scale, s;               // s: times log2 e
  int own_rows, streamed_rows;  // their extents
  int heads, heads_kv, offset;  // query i sees keys up to i + offset, if causal
  int padded;                   // queries in stats
  int blocks;                   // tiles of own rows
  int rows;                     // own heads · batch
  int group;  // of these, so many are worked on at a time, so that what they stream stays in the L2
};

// Shared memory: bytes from an address that is a multiple of 1024.
template <int width, bool of_keys>
struct Layout {
  static constexpr int groups = 2, block_rows = 64 * groups;
  static constexpr int columns = width == 64 ? (of_keys ? 64 : 128) : of_keys ? 48 : 64;
  static constexpr int stages = 4;
  static constexpr u32 own_bytes = 64 * width * 2;  // of one warpgroup
  static constexpr u32 tile_bytes = columns * width * 2;
  static constexpr u32 stats_bytes = of_keys ? columns * 4 : 0;
  static constexpr u32 own = 0;  // a, then b
  static constexpr u32 c = own + 2 * groups * own_bytes;
  static constexpr u32 d = c + stages * tile_bytes;
  static constexpr u32 stats = d + stages * tile_bytes;  // of a stage: λ, then δ
  static constexpr u32 own_full = stats + stages * 2 * stats_bytes;
  static constexpr u32 full = own_full + 8;
  static constexpr u32 empty = full + 8 * stages;
  static constexpr u32 bytes = empty + 8 * stages + 1024;
};

// How many λ and δ a head has: +∞ and 0 for what whole tiles and whole blocks have beyond the last
// query, so that p = 0 there.
template <int width>
constexpr int padded_to_tiles(int queries) {
  const auto up = [=](int step) { return (queries + step - 1) / step * step; };
  return std::max(up(Layout<width, true>::columns), up(Layout<width, false>::block_rows));
}

struct Task {
  int first;                        // own row
  int head, heads, head_kv, batch;  // streamed: queries of so many heads
  int begin, end;                   // tiles of each
};

template <class L, bool of_keys, bool causal>
__device__ Task task_of(const Work& w) {
  const int at = static_cast<int>(blockIdx.x);
  const int group = at / (w.group * w.blocks), rest = at - group * w.group * w.blocks;
  const int together = min(w.group, w.rows - group * w.group);
  int block = rest / together;  // of a group of heads those with the most tiles come first
  const int row = group * w.group + rest - block * together;
  if constexpr (causal && !of_keys) block = w.blocks - 1 - block;
  Task t;
  t.first = block * L::block_rows;
  t.begin = 0;
  int end = w.streamed_rows;
  if constexpr (of_keys) {
    t.heads = w.heads / w.heads_kv;
    t.batch = row / w.heads_kv;
    t.head_kv = row - t.batch * w.heads_kv;
    t.head = t.head_kv * t.heads;
    if constexpr (causal) t.begin = max(0, t.first - w.offset) / L::columns;
  } else {
    t.heads = 1;
    t.batch = row / w.heads;
    t.head = row - t.batch * w.heads;
    t.head_kv = t.head / (w.heads / w.heads_kv);
    if constexpr (causal)
      end = max(0, min(end, min(t.first + L::block_rows, w.own_rows) + w.offset));
  }
  t.end = max(t.begin, (end + L::columns - 1) / L::columns);
  return t;
}

// Element i of a thread stays if its column is in [begin, end) of its row, and is 0 else.
template <int n>
__device__ void cut(float (&x)[n], const int (&begin)[2], const int (&end)[2]) {
#pragma unroll
  for (int i = 0; i < n; ++i) {
    const int column = 8 * (i / 4) + i % 2, row = i / 2 % 2;
    x[i] = column >= begin[row] && column < end[row] ? x[i] : 0.0f;
  }
}

template <class T, int n>
__device__ void round_pairs(const float (&x)[n], u32 (&p)[n / 2]) {
#pragma unroll
  for (int i = 0; i < n / 2; ++i) p[i] = T::pair(x[2 * i], x[2 * i + 1]);
}

// x (64, columns) = own rows · streamed rowsᵀ.
template <class T, int width, int columns>
__device__ void queue_scores(float (&x)[columns / 2], u64 own, u64 streamed) {
#pragma unroll
  for (int i = 0; i < width / 16; ++i) {
    const u64 a = further(own, i / 4 * 64 * 128 + i % 4 * 32);
    const u64 b = further(streamed, i / 4 * columns * 128 + i % 4 * 32);
    if (i == 0)
      Product<T, columns>::template rows<true>(x, a, b);
    else
      Product<T, columns>::template rows<false>(x, a, b);
  }
}

// sum (64, width) += p (64, columns) · streamed rows.
template <class T, int width, int columns>
__device__ void queue_sum(float (&sum)[width / 2], const u32 (&p)[columns / 4], u64 streamed) {
#pragma unroll
  for (int i = 0; i < columns / 16; ++i)
    Product<T, width>::columns(sum, p + 4 * i, further(streamed, i * 16 * 128));
}

template <class T, int width>
__device__ void store_sum(const Work& w, int which, const Task& t, int head, int first, int lane,
                          const float (&sum)[width / 2], const float (&factor)[2],
                          const bool (&zero)[2]) {
  const AttentionStrides& s = w.to_strides[which];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = first + lane / 4 + 8 * r;
    if (row >= w.own_rows) continue;
    std::uint16_t* to = w.to[which] + t.batch * s.batch + head * s.head + row * s.row;
#pragma unroll
    for (int i = 0; i < width / 8; ++i) {
      const u32 both = T::pair(__fmul_rn(sum[4 * i + 2 * r], factor[r]),
                               __fmul_rn(sum[4 * i + 2 * r + 1], factor[r]));
      *reinterpret_cast<u32*>(to + 8 * i + 2 * (lane % 4)) = zero[r] ? 0 : both;
    }
  }
}

template <class T, int width, bool of_keys, bool causal>
__global__ void __launch_bounds__(128 * (Layout<width, of_keys>::groups + 1), 1)
    gradient_kernel(const __grid_constant__ Work w) {
  using L = Layout<width, of_keys>;
  constexpr int groups = L::groups, columns = L::columns, stages = L::stages, panels = width / 64;
  extern __shared__ std::byte memory[];
  const u32 unaligned = static_cast<u32>(__cvta_generic_to_shared(memory));
  const u32 base = (unaligned + 1023) / 1024 * 1024;
  // One value a warp, as ptxas must see: else it takes wgmma to stand on a divergent path.
  const int warpgroup = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
  const Task t = task_of<L, of_keys, causal>(w);
  const int tiles = t.end - t.begin, all = tiles * t.heads;

  if (threadIdx.x == 0) {
    for (const CUtensorMap* map : {&w.own[0], &w.own[1], &w.streamed[0], &w.streamed[1]})
      fetch_map(map);
    barrier_make(base + L::own_full, 1);
    for (int i = 0; i < stages; ++i) {
      barrier_make(base + L::full + 8 * i, 1);
      barrier_make(base + L::empty + 8 * i, 4 * groups);  // each warp says that it has done
    }
    barriers_made();
  }
  __syncthreads();

  if (warpgroup == 0) {
    give_registers<groups == 2 ? 24 : 32>();
    if (threadIdx.x != 0 || all == 0) return;
    const int own_head = of_keys ? t.head_kv : t.head;
    arrive_expecting(base + L::own_full, 2 * groups * L::own_bytes);
    for (int which = 0; which < 2; ++which)
      for (int i = 0; i < groups; ++i)
        for (int c = 0; c < panels; ++c)
          load_box(base + L::own + static_cast<u32>(which * groups + i) * L::own_bytes +
                       static_cast<u32>(c) * 64 * 128,
                   &w.own[which], 64 * c, t.first + 64 * i, own_head, t.batch, base + L::own_full);
    u32 stage = 0, parity = 0;
    for (int h = 0; h < t.heads; ++h) {
      const int head = of_keys ? t.head + h : t.head_kv;
      for (int j = t.begin; j < t.end; ++j) {
        const u32 full = base + L::full + 8 * stage;
        wait(base + L::empty + 8 * stage, parity ^ 1);
        arrive_expecting(full, 2 * L::tile_bytes + 2 * L::stats_bytes);
        for (u32 which = 0; which < 2; ++which)
          for (int c = 0; c < panels; ++c)
            load_box(base + (which == 0 ? L::c : L::d) + stage * L::tile_bytes +
                         static_cast<u32>(c) * columns * 128,
                     &w.streamed[which], 64 * c, j * columns, head, t.batch, full);
        if constexpr (of_keys) {
          const float* stats =
              w.stats + std::int64_t{2} * (t.batch * w.heads + head) * w.padded + j * columns;
          for (u32 which = 0; which < 2; ++which)
            load_run(base + L::stats + (2 * stage + which) * L::stats_bytes,
                     stats + which * static_cast<std::int64_t>(w.padded), L::stats_bytes, full);
        }
        if (++stage == stages) stage = 0, parity ^= 1;
      }
    }
  } else {
    take_registers<groups == 2 ? 240 : 160>();
    const int me = warpgroup - 1, warp = static_cast<int>(threadIdx.x) % 128 / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int first = t.first + 64 * me + 16 * warp;  // own row of the warp
    const u64 a = operand(base + L::own + static_cast<u32>(me) * L::own_bytes),
              b = further(a, groups * L::own_bytes);
    const u64 c = operand(base + L::c, columns * 128), d = operand(base + L::d, columns * 128);
    const std::byte* stats_memory = memory + (base - unaligned) + L::stats;

    float sum_first[width / 2], sum_second[of_keys ? width / 2 : 1];
#pragma unroll
    for (float& x : sum_first) x = 0;
#pragma unroll
    for (float& x : sum_second) x = 0;
    float lambda[2] = {infinity, infinity}, delta[2] = {0, 0};  // of own rows
    if constexpr (!of_keys) {
      const float* stats =
          w.stats + std::int64_t{2} * (t.batch * w.heads + t.head) * w.padded + first + lane / 4;
#pragma unroll
      for (int r = 0; r < 2; ++r) lambda[r] = stats[8 * r], delta[r] = stats[w.padded + 8 * r];
    }

    if (all > 0) {
      float x[columns / 2], y[columns / 2];
      u32 e[columns / 4], p[of_keys ? columns / 4 : 1];
      u32 stage = 0, parity = 0;
      int j = t.begin;

      const auto queue_x = [&] {
        pin(x);
        products_begin();
        queue_scores<T, width, columns>(x, a, further(c, stage * L::tile_bytes));
        products_commit();
      };
      const auto queue_y = [&] {
        pin(y);
        products_begin();
        queue_scores<T, width, columns>(y, b, further(d, stage * L::tile_bytes));
        products_commit();
      };
      const auto queue_first = [&](u32 of_stage) {
        pin(sum_first);
        products_begin();
        queue_sum<T, width, columns>(sum_first, e, further(c, of_stage * L::tile_bytes));
        products_commit();
      };
      // Of the columns of a tile, what a pair of them needs.
      const auto stat = [&](int which, int i) {
        const auto* from = reinterpret_cast<const float2*>(
            stats_memory + (2 * stage + static_cast<u32>(which)) * L::stats_bytes);
        return from[4 * (i / 4) + lane % 4];
      };

      wait(base + L::own_full, 0);
      wait(base + L::full, 0);
      pin(sum_first);
      pin(sum_second);
      queue_x();
      queue_y();
      products_wait<1>();
      pin(x);
      for (int n = 0;; ++n) {
        const int at = j * columns;
        // (Of the streamed rows those beyond the last; where these are queries λ is +∞, but without
        // this branch ptxas moves the exponentials below the waits that they shall run beside.)
        bool masked = at + columns > w.streamed_rows;
        int begin[2] = {0, 0}, end[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          const int row = first + lane / 4 + 8 * r, from = at + 2 * (lane % 4);
          end[r] = w.streamed_rows - from;
          if constexpr (causal && of_keys) begin[r] = row - w.offset - from;
          if constexpr (causal && !of_keys) end[r] = min(end[r], row + w.offset + 1 - from);
        }
        if constexpr (causal)
          masked |= of_keys ? at + w.offset < first + 15 : at + columns > first + w.offset + 1;
#pragma unroll
        for (int i = 0; i < columns / 2; i += 4) {
          if constexpr (of_keys) {
            const float2 l = stat(0, i);
            x[i] = exp2_fast(__fmaf_rn(x[i], w.s, -l.x));
            x[i + 1] = exp2_fast(__fmaf_rn(x[i + 1], w.s, -l.y));
            x[i + 2] = exp2_fast(__fmaf_rn(x[i + 2], w.s, -l.x));
            x[i + 3] = exp2_fast(__fmaf_rn(x[i + 3], w.s, -l.y));
          } else {
#pragma unroll
            for (int k = i; k < i + 4; ++k)
              x[k] = exp2_fast(__fmaf_rn(x[k], w.s, -lambda[k / 2 % 2]));
          }
        }
        if (masked) cut(x, begin, end);
        pin(x);
        // Complete already; a loop, above which exponentials stay (attention-gpu.md).
        wait(base + L::full + 8 * stage, parity);
        products_wait<1>();
        pin(sum_first);
        if (n > 0) {
          __syncwarp();  // all lanes have read the λ and δ that the copy engine writes over next
          if (lane == 0) arrive(base + L::empty + 8 * (stage == 0 ? stages - 1 : stage - 1));
        }
        if constexpr (of_keys) {
          round_pairs<T>(x, p);
          pin(sum_second);
          products_begin();
          queue_sum<T, width, columns>(sum_second, p, further(d, stage * L::tile_bytes));
          products_commit();
        }
        products_wait<of_keys ? 1 : 0>();
        pin(y);
#pragma unroll
        for (int i = 0; i < columns / 2; i += 4) {
          if constexpr (of_keys) {
            const float2 l = stat(1, i);
            y[i] = __fmul_rn(x[i], __fsub_rn(y[i], l.x));
            y[i + 1] = __fmul_rn(x[i + 1], __fsub_rn(y[i + 1], l.y));
            y[i + 2] = __fmul_rn(x[i + 2], __fsub_rn(y[i + 2], l.x));
            y[i + 3] = __fmul_rn(x[i + 3], __fsub_rn(y[i + 3], l.y));
          } else {
#pragma unroll
            for (int k = i; k < i + 4; ++k)
              y[k] = __fmul_rn(x[k], __fsub_rn(y[k], delta[k / 2 % 2]));
          }
        }
        if (masked) cut(y, begin, end);
        round_pairs<T>(y, e);
        if (n + 1 == all) break;

        const u32 before = stage;
        if (++stage == stages) stage = 0, parity ^= 1;
        if (++j == t.end) j = t.begin;
        wait(base + L::full + 8 * stage, parity);
        queue_x();
        queue_first(before);
        queue_y();
        products_wait<2>();  // of `second`, too
        pin(x);
        pin(sum_second);
      }
      queue_first(stage);
      products_wait<0>();
      pin(sum_first);
      pin(sum_second);
    }

    const float scale[2] = {w.scale, w.scale}, one[2] = {1, 1};
    // No product with 0: a query without keys is 0 beside a k that is not finite, too.
    const bool zero[2] = {!of_keys && lambda[0] == infinity, !of_keys && lambda[1] == infinity};
    const int own_head = of_keys ? t.head_kv : t.head;
    store_sum<T, width>(w, 0, t, own_head, first, lane, sum_first, scale, zero);
    if constexpr (of_keys)
      store_sum<T, width>(w, 1, t, own_head, first, lane, sum_second, one, zero);
  }
}

// λ and δ. A row of queries for width / 8 lanes, 16 bytes of out and dout each.
template <class Number, int width>
__global__ void __launch_bounds__(256)
    stats_kernel(const std::uint16_t* out, AttentionStrides of_out, const std::uint16_t* dout,
                 AttentionStrides of_dout, const float* lse, int heads, int queries, int padded,
                 std::int64_t rows, float* stats) {
  constexpr int lanes = width / 8, together = 256 / lanes;
  const int part = static_cast<int>(threadIdx.x) % lanes;
  const std::int64_t all = rows * padded;
  // All lanes of a warp go on together: `padded` is a multiple of its 2 or 4 rows.
  for (std::int64_t at =
           static_cast<std::int64_t>(blockIdx.x) * together + static_cast<int>(threadIdx.x) / lanes;
       at < all; at += static_cast<std::int64_t>(gridDim.x) * together) {
    const std::int64_t row = at / padded;
    const int i = static_cast<int>(at - row * padded), batch = static_cast<int>(row / heads),
              head = static_cast<int>(row - static_cast<std::int64_t>(batch) * heads);
    float delta = 0, lambda = infinity;
    if (i < queries) {
      const Raw x = *reinterpret_cast<const Raw*>(out + batch * of_out.batch + i * of_out.row +
                                                  head * of_out.head + 8 * part);
      const Raw y = *reinterpret_cast<const Raw*>(dout + batch * of_dout.batch + i * of_dout.row +
                                                  head * of_dout.head + 8 * part);
#pragma unroll
      for (int k = 0; k < 8; ++k)
        delta = __fmaf_rn(widen<Number>(x, k), widen<Number>(y, k), delta);
      const float l = lse[row * queries + i];
      lambda = fabsf(l) == infinity ? infinity : __fmul_rn(l, 1.44269504f);
    }
#pragma unroll
    for (int apart = 1; apart < lanes; apart *= 2)
      delta = __fadd_rn(delta, __shfl_xor_sync(0xffffffffu, delta, apart));
    if (part == 0) {
      float* to = stats + 2 * row * padded + i;
      to[0] = lambda;
      to[padded] = delta;
    }
  }
}

// ---------------------------------------------------------------- host

struct Arrays {
  const void *q, *k, *v, *dout;
  void *dq, *dk, *dv;
};

template <class T, int width, bool of_keys, bool causal>
void launch(const AttentionBackward& a, const Arrays& arrays, const float* stats, int padded,
            cudaStream_t stream) {
  using L = Layout<width, of_keys>;
  const Attention& f = a.forward;
  const AttentionShape& s = f.shape;
  const std::size_t own_rows = of_keys ? s.keys : s.queries,
                    streamed_rows = of_keys ? s.queries : s.keys,
                    own_heads = of_keys ? s.heads_kv : s.heads;
  if (own_rows == 0 || own_heads == 0) return;
  // (Of arrays without rows nothing is read, but the driver wants an address.)
  const void* somewhere = of_keys ? arrays.k : arrays.q;
  const auto map = [&](const void* p, const AttentionStrides& strides, std::size_t rows,
                       std::size_t heads, int box) {
    return map_of(f, rows == 0 || heads == 0 ? somewhere : p, strides, rows, heads,
                  static_cast<u32>(box));
  };
  const auto of_queries = [&](int box) {
    return std::pair{map(arrays.q, f.q, s.queries, s.heads, box),
                     map(arrays.dout, a.dout, s.queries, s.heads, box)};
  };
  const auto of_both = [&](int box) {
    return std::pair{map(arrays.k, f.k, s.keys, s.heads_kv, box),
                     map(arrays.v, f.v, s.keys, s.heads_kv, box)};
  };
  Work w;
  std::tie(w.own[0], w.own[1]) = of_keys ? of_both(64) : of_queries(64);
  std::tie(w.streamed[0], w.streamed[1]) = of_keys ? of_queries(L::columns) : of_both(L::columns);
  w.stats = stats;
  w.to[0] = static_cast<std::uint16_t*>(of_keys ? arrays.dk : arrays.dq);
  w.to[1] = static_cast<std::uint16_t*>(arrays.dv);
  w.to_strides[0] = of_keys ? a.dk : a.dq;
  w.to_strides[1] = a.dv;
  w.scale = f.scale;
  w.s = static_cast<float>(static_cast<double>(f.scale) * 1.4426950408889634);
  w.own_rows = static_cast<int>(own_rows);
  w.streamed_rows = static_cast<int>(streamed_rows);
  w.heads = static_cast<int>(s.heads);
  w.heads_kv = static_cast<int>(s.heads_kv);
  w.offset = f.mask == CausalMask::bottom_right
                 ? static_cast<int>(s.keys) - static_cast<int>(s.queries)
                 : 0;
  w.padded = padded;
  w.blocks = (w.own_rows + L::block_rows - 1) / L::block_rows;
  w.rows = static_cast<int>(own_heads * s.batch);
  int device = 0, l2 = 0;
  require(cudaGetDevice(&device), "cudaGetDevice");
  require(cudaDeviceGetAttribute(&l2, cudaDevAttrL2CacheSize, device), "cudaDeviceGetAttribute");
  // Own heads for which the streamed ones fill half of the L2.
  const std::size_t of_head =
      std::max<std::size_t>(streamed_rows * s.width * 4 * (of_keys ? s.heads / s.heads_kv : 1), 1);
  w.group =
      causal ? static_cast<int>(std::clamp<std::size_t>(static_cast<std::size_t>(l2) / 2 / of_head,
                                                        1, static_cast<std::size_t>(w.rows)))
             : 1;
  const auto kernel = gradient_kernel<T, width, of_keys, causal>;
  require(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, L::bytes),
          "cudaFuncSetAttribute");
  const auto grid = static_cast<unsigned>(w.blocks * w.rows);
  kernel<<<grid, 128 * (L::groups + 1), L::bytes, stream>>>(w);
  require_launched("attention's gradients");
}

template <class T, int width>
void launch_all(const AttentionBackward& a, const Arrays& arrays, const void* out, const float* lse,
                cudaStream_t stream) {
  using Number = std::conditional_t<std::is_same_v<T, Bfloat16>, __nv_bfloat16, __half>;
  const AttentionShape& s = a.forward.shape;
  const int queries = static_cast<int>(s.queries), padded = padded_to_tiles<width>(queries);
  const auto rows = static_cast<std::int64_t>(s.batch * s.heads);
  float* stats = nullptr;
  if (rows * padded != 0) {
    require(cudaMallocAsync(reinterpret_cast<void**>(&stats),
                            static_cast<std::size_t>(rows) * static_cast<std::size_t>(padded) * 8,
                            stream),
            "cudaMallocAsync");
    constexpr std::int64_t together = 256 / (width / 8);
    const auto grid = static_cast<unsigned>(
        std::min<std::int64_t>((rows * padded + together - 1) / together, std::int64_t{1} << 20));
    stats_kernel<Number, width>
        <<<grid, 256, 0, stream>>>(static_cast<const std::uint16_t*>(out), a.forward.out,
                                   static_cast<const std::uint16_t*>(arrays.dout), a.dout, lse,
                                   static_cast<int>(s.heads), queries, padded, rows, stats);
    require_launched("attention's gradients, sums of rows");
  }
  if (a.forward.mask == CausalMask::none) {
    launch<T, width, true, false>(a, arrays, stats, padded, stream);
    launch<T, width, false, false>(a, arrays, stats, padded, stream);
  } else {
    launch<T, width, true, true>(a, arrays, stats, padded, stream);
    launch<T, width, false, true>(a, arrays, stats, padded, stream);
  }
  if (stats != nullptr) require(cudaFreeAsync(stats, stream), "cudaFreeAsync");
}

}  // namespace

std::optional<std::string> problem_with(const AttentionBackward& a) {
  if (auto problem = problem_with(a.forward)) return problem;
  const AttentionShape& s = a.forward.shape;
  // Tiles of keys are counted in an int, too.
  if (s.batch * s.heads_kv > std::size_t{1} << 24 ||
      s.batch * s.heads_kv * (s.keys / 128 + 1) >= std::size_t{1} << 30)
    return "attention's gradients on the device take batch x heads of k up to 2^24 and batch x "
           "heads of k x keys up to 2^37; split the call";
  const std::pair<const char*, const AttentionStrides*> of_queries[] = {{"dout", &a.dout},
                                                                        {"dq", &a.dq}};
  for (const auto& [name, strides] : of_queries)
    if (auto problem = problem_with_strides(name, *strides, s.queries, s.heads, s.batch))
      return problem;
  const std::pair<const char*, const AttentionStrides*> of_keys[] = {{"dk", &a.dk}, {"dv", &a.dv}};
  for (const auto& [name, strides] : of_keys)
    if (auto problem = problem_with_strides(name, *strides, s.keys, s.heads_kv, s.batch))
      return problem;
  return std::nullopt;
}

void attention_backward(const AttentionBackward& a, const void* q, const void* k, const void* v,
                        const void* out, const float* lse, const void* dout, void* dq, void* dk,
                        void* dv, void* stream) {
  if (const auto problem = problem_with(a)) throw std::invalid_argument(*problem);
  const AttentionShape& s = a.forward.shape;
  const bool no_queries = s.batch == 0 || s.heads == 0 || s.queries == 0,
             no_keys = s.batch == 0 || s.heads_kv == 0 || s.keys == 0;
  if (no_queries && no_keys) return;
  const struct {
    const char* name;
    const void* at;
    bool absent;
    std::uintptr_t alignment;
  } all[] = {
      {"q", q, no_queries, 16},     {"k", k, no_keys, 16},       {"v", v, no_keys, 16},
      {"out", out, no_queries, 16}, {"lse", lse, no_queries, 4}, {"dout", dout, no_queries, 16},
      {"dq", dq, no_queries, 16},   {"dk", dk, no_keys, 16},     {"dv", dv, no_keys, 16}};
  for (const auto& [name, at, absent, alignment] : all) {
    if (absent) continue;
    if (at == nullptr || reinterpret_cast<std::uintptr_t>(at) % alignment != 0)
      throw std::invalid_argument(
          std::string(name) +
          (at == nullptr ? " is null"
                         : " is not aligned to " + std::to_string(alignment) + " bytes") +
          "; attention's gradients on the device take aligned arrays, so copy it");
  }
  require_hopper();
  const Arrays arrays{q, k, v, dout, dq, dk, dv};
  const auto handle = static_cast<cudaStream_t>(stream);
  const bool narrow_heads = s.width == 64;
  if (a.forward.element == Element::bfloat16) {
    if (narrow_heads) return launch_all<Bfloat16, 64>(a, arrays, out, lse, handle);
    return launch_all<Bfloat16, 128>(a, arrays, out, lse, handle);
  }
  if (narrow_heads) return launch_all<Binary16, 64>(a, arrays, out, lse, handle);
  launch_all<Binary16, 128>(a, arrays, out, lse, handle);
}

}  // namespace halfulp::kernels::cuda
