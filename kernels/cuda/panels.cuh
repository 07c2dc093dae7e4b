// Products of 16·each rows and as many columns by a block of 256 threads, each result one chain of
// fused multiply-adds along k, as kernels/*.hpp have it. Thread (x, y) = (t mod 16, t / 16) has
// each² results: rows place(y, i) and columns place(x, j), i and j below `each`, a multiple of 4.
#pragma once

#include <type_traits>

namespace halfulp::kernels::cuda {

constexpr int panel_depth = 16, panel_lanes = 16, panel_threads = 256;
template <int each>
constexpr int panel_side = panel_lanes* each;

template <int each>
using PanelSums = float[each][each];

// Four neighbours, which a thread reads at once; those of lane + 1 follow.
struct alignas(16) Quad {
  float at[4];
};
__device__ constexpr int place(int lane, int i) {
  return 4 * lane + i / 4 * (4 * panel_lanes) + i % 4;
}

// [k][row or column]; four more, so that rows stay aligned and threads that are neighbours along k
// write to other banks.
template <int each>
struct Panel {
  alignas(16) float at[panel_depth][panel_side<each> + 4];
};

// f(t, i, k) for what this thread carries, t < each: threads that are neighbours have neighbours
// along k, or along i.
template <bool along_k, int each, class F>
__device__ inline void each_carried(F f) {
  constexpr int side = panel_side<each>;
#pragma unroll
  for (int t = 0; t < each; ++t) {
    const int n = static_cast<int>(threadIdx.x) + panel_threads * t;
    f(t, along_k ? n / panel_depth : n % side, along_k ? n % panel_depth : n / side);
  }
}

// value(i, k) for all i and k.
template <bool along_k, int each, class F>
__device__ inline void fill(Panel<each>& p, F value) {
  each_carried<along_k, each>([&](int, int i, int k) { p.at[k][i] = value(i, k); });
}

// f(i, j, row, column) for this thread's results.
template <int each, class F>
__device__ inline void each_result(F f) {
  const int x = static_cast<int>(threadIdx.x) % panel_lanes,
            y = static_cast<int>(threadIdx.x) / panel_lanes;
#pragma unroll
  for (int i = 0; i < each; ++i) {
#pragma unroll
    for (int j = 0; j < each; ++j) f(i, j, place(y, i), place(x, j));
  }
}

template <int each>
__device__ inline void row_of(const Panel<each>& p, int k, int lane, float (&to)[each]) {
#pragma unroll
  for (int q = 0; q < each; q += 4) {
    const Quad quad = *reinterpret_cast<const Quad*>(&p.at[k][place(lane, q)]);
#pragma unroll
    for (int i = 0; i < 4; ++i) to[q + i] = quad.at[i];
  }
}

// sums ← fma(left(k, row), right.at[k][column], sums), k = 0 … count − 1; left may be a panel.
template <int each, class Left>
__device__ inline void accumulate(const Left& left, const Panel<each>& right, int count,
                                  PanelSums<each>& sums) {
  const int x = static_cast<int>(threadIdx.x) % panel_lanes,
            y = static_cast<int>(threadIdx.x) / panel_lanes;
  const auto step = [&](int k) {
    float a[each], b[each];
    if constexpr (std::is_same_v<Left, Panel<each>>) {
      row_of<each>(left, k, y, a);
    } else {
#pragma unroll
      for (int i = 0; i < each; ++i) a[i] = left(k, place(y, i));
    }
    row_of<each>(right, k, x, b);
#pragma unroll
    for (int i = 0; i < each; ++i) {
#pragma unroll
      for (int j = 0; j < each; ++j) sums[i][j] = __fmaf_rn(a[i], b[j], sums[i][j]);
    }
  };
  if (count == panel_depth) {
#pragma unroll 4
    for (int k = 0; k < panel_depth; ++k) step(k);
  } else {
    for (int k = 0; k < count; ++k) step(k);
  }
}

}  // namespace halfulp::kernels::cuda
