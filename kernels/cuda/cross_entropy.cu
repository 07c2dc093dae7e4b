#include "kernels/cuda/cross_entropy.hpp"

#include <stdexcept>

#include "emu/arrays/cuda/launch.cuh"
#include "kernels/cuda/packs.cuh"
#include "kernels/cuda/panels.cuh"
#include "kernels/exponential_arithmetic.hpp"

namespace halfulp::kernels::cuda {
namespace {

using halfulp::cuda::require_launched;

constexpr int each = 4, side = panel_side<each>;
using Tile = float[side][side + 1];
using Sums = PanelSums<each>;

// The logits of 64 tokens and 64 classes from these on; what lies beyond the last is of no value.
template <class T>
__device__ inline void logits(CrossEntropyShape s, const T* e, const T* c, std::size_t token,
                              std::size_t class_, Panel<each>& left, Panel<each>& right,
                              Sums& sums) {
  each_result<each>([&](int i, int j, int, int) { sums[i][j] = 0; });
  for (std::size_t k = 0; k < s.d; k += panel_depth) {
    const int count = static_cast<int>(s.d - k < panel_depth ? s.d - k : panel_depth);
    __syncthreads();  // nobody reads the panels of before
    fill<true, each>(left, [&](int i, int d) {
      return token + i < s.n && d < count ? to_float(e[(token + i) * s.d + k + d]) : 0.0F;
    });
    fill<true, each>(right, [&](int i, int d) {
      return class_ + i < s.v && d < count ? to_float(c[(class_ + i) * s.d + k + d]) : 0.0F;
    });
    __syncthreads();
    accumulate<each>(left, right, count, sums);
  }
}

// A block has 64 tokens; its first 64 threads have the running sum of one each.
template <class T>
__global__ void __launch_bounds__(panel_threads)
    forward(CrossEntropyShape s, const T* e, const T* c, const std::int64_t* target, float* loss,
            float* lse) {
  __shared__ Panel<each> left, right;
  __shared__ Tile tile;
  const Float32Exponential arith;
  const std::size_t first = static_cast<std::size_t>(blockIdx.x) * side;
  const std::size_t mine = first + threadIdx.x;
  const bool has_token = threadIdx.x < side && mine < s.n;
  RunningSum<float> run;
  float special = 0, of_target = 0;
  bool is_special = false;
  for (std::size_t from = 0; from < s.v; from += side) {
    Sums sums;
    logits(s, e, c, first, from, left, right, sums);
    __syncthreads();  // nobody reads the tile of before
    each_result<each>([&](int i, int j, int row, int column) { tile[row][column] = sums[i][j]; });
    __syncthreads();
    if (!has_token) continue;
    const float* a = tile[threadIdx.x];
    const std::size_t count = s.v - from < side ? s.v - from : side;
    const std::size_t at = static_cast<std::size_t>(target[mine]) - from;
    if (at < count) of_target = a[at];
    const auto m = detail::maximum(arith, a, count);
    if (m.kind == detail::RowKind::nan || m.kind == detail::RowKind::highest) {
      if (!is_special || m.kind == detail::RowKind::nan) special = m.value;
      is_special = true;
    } else {
      run = merge(arith, run, running_sum(arith, a, count), 0);
    }
  }
  if (!has_token) return;
  const float sum = is_special ? special
                    : run.any  ? arith.add(run.maximum, arith.log(run.sum, 0), 0)
                               : arith.log(0.0F, 0);
  lse[mine] = sum;
  if (s.v != 0) loss[mine] = arith.sub(sum, of_target, 0);
}

struct Backward {
  CrossEntropyShape shape;
  const std::int64_t* target;
  const float *lse, *dloss;
  float filter;
  float* out;
  unsigned long long* skipped;
};

// of_tokens: a block has 64 tokens, walks along the classes and writes their rows of de. Else it
// has 64 classes, walks down the tokens and writes rows of dc.
template <class T, bool of_tokens>
__global__ void __launch_bounds__(panel_threads) gradient(Backward b, const T* e, const T* c) {
  __shared__ Panel<each> left, right;
  __shared__ Tile tile;  // G·dloss, [token][class]
  const Float32Exponential arith;
  const CrossEntropyShape s = b.shape;
  const std::size_t own = static_cast<std::size_t>(blockIdx.x) * side;
  const std::size_t owned = of_tokens ? s.n : s.v, others = of_tokens ? s.v : s.n;
  const T* factors = of_tokens ? c : e;
  // Each element of out is written and read by one thread alone.
  const auto each_of_out = [&](std::size_t k, auto f) {
    each_result<each>([&](int i, int j, int row, int column) {
      if (own + row < owned && k + column < s.d) f(i, j, b.out[(own + row) * s.d + k + column]);
    });
  };
  for (std::size_t k = 0; k < s.d; k += side) each_of_out(k, [](int, int, float& y) { y = 0; });
  for (std::size_t other = 0; other < others; other += side) {
    const std::size_t token = of_tokens ? own : other, class_ = of_tokens ? other : own;
    Sums sums;
    logits(s, e, c, token, class_, left, right, sums);
    __syncthreads();  // nobody reads the tile of before
    bool below = true;
    each_result<each>([&](int i, int j, int row, int column) {
      const std::size_t t = token + row, v = class_ + column;
      if (t >= s.n || v >= s.v) return;
      float g = arith.exp(arith.sub(sums[i][j], b.lse[t], 0), 0);
      if (static_cast<std::size_t>(b.target[t]) == v) g = arith.sub(g, 1.0F, 0);
      below = below && detail::is_below(arith, g, b.filter);
      tile[row][column] = arith.mul(g, b.dloss[t], 0);
    });
    if (__syncthreads_and(below)) {
      if (of_tokens && b.skipped != nullptr && threadIdx.x == 0) atomicAdd(b.skipped, 1ULL);
      continue;
    }
    const int terms = static_cast<int>(others - other < side ? others - other : side);
    for (std::size_t k = 0; k < s.d; k += side) {
      Sums y{};
      each_of_out(k, [&](int i, int j, const float& from) { y[i][j] = from; });
      for (int term = 0; term < terms; term += panel_depth) {
        const int count = terms - term < panel_depth ? terms - term : panel_depth;
        __syncthreads();
        fill<false, each>(right, [&](int column, int d) {
          return d < count && k + column < s.d
                     ? to_float(factors[(other + term + d) * s.d + k + column])
                     : 0.0F;
        });
        __syncthreads();
        accumulate<each>(
            [&](int d, int row) { return of_tokens ? tile[row][term + d] : tile[term + d][row]; },
            right, count, y);
      }
      each_of_out(k, [&](int i, int j, float& to) { to = y[i][j]; });
    }
  }
}

unsigned tiles(std::size_t n) {
  return static_cast<unsigned>((n + side - 1) / side);
}

template <class F>
void by_element(Element element, F f) {
  switch (element) {
    case Element::binary32: return f(float{});
    case Element::binary16: return f(__half{});
    case Element::bfloat16: return f(__nv_bfloat16{});
    default:
      throw std::invalid_argument(
          "cross-entropy on a GPU takes elements of binary32, binary16 or bfloat16");
  }
}

}  // namespace

void cross_entropy(Element element, CrossEntropyShape shape, const void* e, const void* c,
                   const std::int64_t* target, float* loss, float* lse, void* stream) {
  by_element(element, [&](auto type) {
    using T = decltype(type);
    if (shape.n == 0) return;
    forward<T><<<tiles(shape.n), panel_threads, 0, static_cast<cudaStream_t>(stream)>>>(
        shape, static_cast<const T*>(e), static_cast<const T*>(c), target, loss, lse);
    require_launched("cross-entropy");
  });
}

void cross_entropy_backward(Element element, CrossEntropyShape shape, const void* e, const void* c,
                            const std::int64_t* target, const float* lse, const float* dloss,
                            float filter, float* de, float* dc, unsigned long long* skipped,
                            void* stream) {
  by_element(element, [&](auto type) {
    using T = decltype(type);
    const auto queue = static_cast<cudaStream_t>(stream);
    const auto *from_e = static_cast<const T*>(e), *from_c = static_cast<const T*>(c);
    const Backward of_e{shape, target, lse, dloss, filter, de, skipped};
    const Backward of_c{shape, target, lse, dloss, filter, dc, nullptr};
    if (shape.n != 0) {
      gradient<T, true><<<tiles(shape.n), panel_threads, 0, queue>>>(of_e, from_e, from_c);
      require_launched("cross-entropy's gradient by e");
    }
    if (shape.v != 0) {
      gradient<T, false><<<tiles(shape.v), panel_threads, 0, queue>>>(of_c, from_e, from_c);
      require_launched("cross-entropy's gradient by c");
    }
  });
}

}  // namespace halfulp::kernels::cuda
